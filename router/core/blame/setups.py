"""Set-ups that fail at one place and not elsewhere: a gray node, which accepts people and carries nothing for some.

Everybody who was there before goes on well, and so do most of those who come; counted together, as ``cells`` does, they
outweigh the few that fail, and the node's own probes and reports are fine. So what users say of an edge that did not
answer them is held against the set-ups of that place alone: how often they fail there, against how often they fail
elsewhere, for everybody and for the same client network. Failures that may be the agents' are not counted.

It is a second opinion, heard where the cover has none: one place at a time, several client networks agreeing, and
nothing where much of the world fails. Likelihoods and priors are those of ``likelihood`` and ``components``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from router.core.blame.components import SHARES, Atlas
from router.core.blame.infer import TEMPER
from router.core.blame.kinds import RARE
from router.core.blame.likelihood import ratios
from router.core.blame.outcomes import Outcome
from router.core.model import DataCenterId, Micros, NodeId
from router.core.tables import F64
from router.core.verdicts import LIKELY_PPM, Component, ComponentKind, Evidence

# A set-up weighs 1/e after so long: to be quick where many call, and to see it at all where few do. With 30 % failing
# a place is named after some thirty set-ups: at 120, 30, 12, 6, 3 a minute after 14, 62, 172, 328, 506 s (medians).
LIVES_US = (8_000_000, 30_000_000, 300_000_000)
LATELY, OVER = 10.0, 0.06  # where so many came within a shorter span, and fewer than this share failed, it is over
USUAL, TRUST_USUAL = 0.02, 30.0  # share of set-ups that fail on any day, and what it takes to outweigh that
TRUST_GROUP = 10.0  # of one client network elsewhere
LEAST_GROUPS = 3  # client networks that must agree
MOST_PLACES = 1 / 3  # of all: where more fail it is none of them
GONE = 0.05


@dataclass(slots=True)
class _Count:
    ok: float = 0.0
    failed: float = 0.0
    at: Micros = 0
    failed_at: Micros = 0

    def fade(self, life_us: int, now: Micros) -> None:
        keep = float(np.exp(-max(0, now - self.at) / life_us))
        self.ok, self.failed, self.at = self.ok * keep, self.failed * keep, now


@dataclass(frozen=True, slots=True)
class Gray:
    """A place whose set-ups fail, how sure that is, and what says so."""

    component: Component
    confidence: float
    evidence: Evidence


_Key = tuple[DataCenterId, NodeId | None, str]
_Sums = tuple[float, float]


class Setups:
    """Counts of set-ups by place and client network over one span; private state of the core."""

    def __init__(self, life_us: int) -> None:
        self._life_us = life_us
        self._counts: dict[_Key, _Count] = {}

    def observe(self, outcomes: Iterable[Outcome], now: Micros) -> None:
        """Count set-ups that came about, and those that users say did not."""
        for one in outcomes:
            failed = one.setup_failed if one.hub is None else 0
            if not one.setup_ok and not failed:
                continue
            count = self._counts.setdefault((one.edge, one.node, one.group), _Count(at=now))
            count.fade(self._life_us, now)
            count.ok, count.failed = count.ok + one.setup_ok, count.failed + failed
            count.failed_at = now if failed else count.failed_at

    def gray(self, atlas: Atlas, now: Micros, shorter: Setups | None = None) -> tuple[Gray, ...]:
        """The places that stand out, surest first; none while too many do. ``shorter``: a span that may contradict."""
        for count in self._counts.values():
            count.fade(self._life_us, now)
        self._counts = {key: one for key, one in self._counts.items() if one.ok + one.failed > GONE}
        places = [dc for dc in sorted({dc for dc, _, _ in self._counts}) if dc in atlas.places]
        found = [self._judged(atlas, dc) for dc in places if shorter is None or not shorter.is_well(dc)]
        likely = [one for one in found if one is not None and one.confidence >= LIKELY_PPM / 1e6]
        if len(likely) > max(1, MOST_PLACES * len(atlas.places)):
            return ()
        return tuple(sorted(likely, key=lambda one: (-one.confidence, one.component)))

    def is_well(self, dc: DataCenterId) -> bool:
        """Whether enough set-ups of this span say so."""
        mine = [one for (place, _, _), one in self._counts.items() if place == dc]
        seen, failed = sum(one.ok + one.failed for one in mine), sum(one.failed for one in mine)
        return seen >= LATELY and failed < OVER * seen

    def _judged(self, atlas: Atlas, dc: DataCenterId) -> Gray | None:
        """A data center, or that machine of it to which its failures go back."""
        machines = sorted({node for at, node, _ in self._counts if at == dc and node in atlas.nodes and node})
        named = [node for node in machines if atlas.nodes[node].node and self._has_most_failures(dc, node)]
        if named:
            component = Component(ComponentKind.NODE, named[0])
            here, elsewhere = _split(self._counts, lambda key: key[0] == dc and key[1] == named[0])
        else:
            component = Component(ComponentKind.EDGE_REGION, dc)
            here, elsewhere = _split(self._counts, lambda key: key[0] == dc)
        if sum(failed > GONE for _, failed in here.values()) < LEAST_GROUPS:
            return None
        of_kind = sum(name.kind is component.kind for name in atlas.components.names)
        odds = _score(here, elsewhere) + RARE + np.log(SHARES[component.kind] / max(1, of_kind))
        blurred = not named and any(atlas.nodes[node].node for node in machines)  # one of them, and nobody knows which
        sure = float(1 / (1 + np.exp(-odds / TEMPER)))
        return Gray(component, min(sure, 0.85) if blurred else sure, self._evidence(component, here))

    def _has_most_failures(self, dc: DataCenterId, node: NodeId) -> bool:
        here = [(at, one.failed) for (place, at, _), one in self._counts.items() if place == dc]
        return sum(failed for at, failed in here if at == node) > 0.9 * sum(failed for _, failed in here)

    def _evidence(self, component: Component, here: Mapping[str, _Sums]) -> Evidence:
        mine = [one for (dc, node, _), one in self._counts.items() if component.id in (dc, node)]
        seen, failed = sum(sum(sums) for sums in here.values()), sum(failed for _, failed in here.values())
        bad = sum(failed > GONE for _, failed in here.values())
        return Evidence(
            vantages_bad=bad,
            vantages=len(here),
            providers=bad,
            loss_ppm=0,
            failed_ppm=round(1e6 * failed / max(seen, GONE)),
            probes=0,
            outcomes=round(seen),
            sources=("sessions",),
            newest_at=max(one.failed_at for one in mine),
        )


def _split(counts: Mapping[_Key, _Count], is_here: Callable[[_Key], bool]) -> tuple[dict[str, _Sums], dict[str, _Sums]]:
    """``(ok, failed)`` per client network, at a place and elsewhere."""
    sums: tuple[dict[str, _Sums], dict[str, _Sums]] = ({}, {})
    for key, one in counts.items():
        side = sums[0] if is_here(key) else sums[1]
        ok, failed = side.get(key[2], (0.0, 0.0))
        side[key[2]] = ok + one.ok, failed + one.failed
    return sums


def _score(here: Mapping[str, _Sums], elsewhere: Mapping[str, _Sums]) -> float:
    """Nats that say the place spoils set-ups: each client network against what is usual for it elsewhere."""
    failed = sum(b for _, b in elsewhere.values())
    usual = (failed + USUAL * TRUST_USUAL) / (sum(map(sum, elsewhere.values())) + TRUST_USUAL)
    rows = list(_rows(here, elsewhere, usual))
    n, b, base = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    each: F64 = ratios(n, b, base, np.ones(len(rows), np.int64), np.zeros(len(rows), np.bool_)).sum(axis=0)
    return float(each.max() + np.log(np.exp(each - each.max()).mean()))


def _rows(
    here: Mapping[str, _Sums], elsewhere: Mapping[str, _Sums], usual: float
) -> Iterator[tuple[float, float, float]]:
    for group in sorted(here):
        ok, bad = here[group]
        other_ok, other_bad = elsewhere.get(group, (0.0, 0.0))
        own = (other_bad + usual * TRUST_GROUP) / (other_ok + other_bad + TRUST_GROUP)
        yield ok + bad, bad, max(usual, own)
