"""Drains that blame wants: what automation may take out of use, and when it must leave that to people.

It acts on verdicts that are sure (``verdicts.SURE_PPM`` for ``SURE_WINDOWS`` windows) while they are still seen, one
drain at a time over the whole fleet, at most every ten minutes, and never on more than a tenth of all machines (one
machine in any case). What it may not do it says, with the number and the command that a person would use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from router.core.drain.plan import DrainRequest
from router.core.drain.preflight import preflight
from router.core.drain.states import FINISHED
from router.core.drain.targets import Targets, claimed, expand
from router.core.errors import InputRejected
from router.core.model import (
    DataCenterId,
    DrainMode,
    DrainOrigin,
    Inventory,
    Micros,
    NodeId,
    ProviderId,
    RegionId,
    Selector,
)
from router.core.tables import Health, View
from router.core.verdicts import ComponentKind, Verdict

GAP_US = 600_000_000  # between two automatic drains: the first must be seen to help
MAX_MACHINES_PCT = 10  # Envoy's default for ejected hosts
MAX_UNWELL = 3  # a third of all data centers: with more than that degraded, who looks is suspect and not who is seen
FRESH_US = 6_000_000  # three windows: who was bad and is not any more needs no drain, though the verdict lasts
LASTS_US = 4 * 3_600 * 1_000_000  # then people are told again: a fault that lasts longer is theirs


@dataclass(frozen=True, slots=True)
class Wish:
    """A drain that automation wants, and why it must not have it; empty: it may."""

    request: DrainRequest
    subject: str
    refused: str = ""


def wishes(view: View, now: Micros) -> tuple[Wish, ...]:
    """A wish per sure verdict on something that can be drained and is in use; at most one of them is granted."""
    found: list[Wish] = []
    for verdict in view.blame.sure():
        selector = _selector(verdict)
        stale = now - verdict.evidence.newest_at > FRESH_US
        if selector is None or stale or not _in_use(view, selector):
            continue
        name, sure = verdict.component.name, verdict.sure_pct
        request = DrainRequest(
            selector, DrainMode.HARD, f"{name} is blamed with {sure} %", expires_at=now + LASTS_US,
            origin=DrainOrigin.AUTOMATIC,
        )  # fmt: skip
        taken = any(not wish.refused for wish in found)
        found.append(Wish(request, name, "one automatic drain at a time" if taken else refusal(view, request, now)))
    return tuple(found)


def refusal(view: View, request: DrainRequest, now: Micros) -> str:
    """Why automation must not open this drain now, with its number; empty when it may."""
    unwell = sum(health.state in (Health.DOWN, Health.DEGRADED) for health in view.health)
    if unwell * MAX_UNWELL > len(view.health):
        return f"{unwell} of {len(view.health)} data centers are not well at once; the fault is more likely ours"
    mine = [drain for drain in view.drains.values() if drain.origin is DrainOrigin.AUTOMATIC]
    active = [drain.id for drain in mine if drain.state not in FINISHED]
    if active:
        return f"automatic drain {min(active)} is still under way; there is one at a time"
    last = max((drain.created_at for drain in mine), default=None)
    if last is not None and now < last + GAP_US:
        return f"the last automatic drain began {(now - last) // 1_000_000} s ago; the limit is {GAP_US // 1_000_000} s"
    hit, total = len(_machines(view.inventory, expand(view.inventory, request.selector))), len(view.inventory.nodes)
    allowed = max(1, total * MAX_MACHINES_PCT // 100)
    if hit > allowed:
        return f"{hit} of {total} machines; automation may take {allowed}"
    broken = preflight(view, request, now).refusals
    return broken[0].message if broken else ""


def _selector(verdict: Verdict) -> Selector | None:
    """What to drain of a component; ``None`` for those whose fault no drain cures."""
    kind, id = verdict.component.kind, verdict.component.id
    if kind is ComponentKind.NODE:
        return Selector(node=NodeId(id))
    if kind is ComponentKind.EDGE_REGION:
        return Selector(data_center=DataCenterId(id))
    if kind is ComponentKind.PROVIDER:
        return Selector(provider=ProviderId(id))
    if kind is ComponentKind.PROVIDER_REGION:
        provider, _, region = id.partition("/")
        return Selector(provider=ProviderId(provider), region=RegionId(region))
    return None


def _in_use(view: View, selector: Selector) -> bool:
    """Whether anything of it is in use and in no drain yet."""
    try:
        targets = expand(view.inventory, selector)
    except InputRejected:
        return False  # it is gone, or retired
    taken, centers, nodes = claimed(view), view.inventory.data_centers, view.inventory.nodes
    free = [dc for dc in targets.data_centers if dc not in taken and centers[dc].intent.takes_new_sessions]
    machines = [id for id in targets.nodes if nodes[id].intent.takes_new_sessions]
    return bool(free or [id for id in machines if nodes[id].data_center not in taken])


def _machines(inventory: Inventory, targets: Targets) -> list[NodeId]:
    """Machines that a drain takes out; a data center without any counts as one."""
    whole = [list(inventory.nodes_by_data_center[dc]) for dc in targets.data_centers]
    return [
        *targets.nodes,
        *(node.id for nodes in whole for node in nodes),
        *(NodeId("") for nodes in whole if not nodes),
    ]


def told(wishes: tuple[Wish, ...]) -> Iterator[tuple[str, str]]:
    """``(subject, text)`` of what automation wanted and must not have."""
    for wish in wishes:
        if wish.refused:
            yield wish.subject, f"no automatic drain: {wish.refused}; a person may drain it by hand"
