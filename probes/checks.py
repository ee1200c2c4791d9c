"""Probes along paths that the plan wants tried: over the relays of a data center that has yet to earn its users.

A check is a probe of a path like those of :mod:`probes.hot`: a STAMP packet in a relay packet, delivered by the last
relay to its own node's reflector, and answered the same way back. It says nothing about routes, so no detector watches
it; what came back is counted and told with the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from probes.relay import RelayError
from probes.sockets import ProbeSender, Target
from probes.stamp import BASE_SIZE
from probes.summary import Summary
from probes.wire import CheckResult, PlanCheck

if TYPE_CHECKING:
    from probes.relay.packet import Address

Wrap = Callable[[tuple["Address", ...], int, bytes], bytes]
ROW = "check"


class Checks:
    """What the plan wants tried, when each is due, and what came back."""

    def __init__(self, wrap: Wrap, rng: Random, ssid: Callable[[str], int]) -> None:
        self.targets: dict[str, Target] = {}
        self.unusable = 0  # checks of plans over relays that this node has no key for
        self._wrap = wrap
        self._rng = rng
        self._ssid = ssid
        self._summary = Summary()
        self._checks: dict[str, PlanCheck] = {}
        self._slots: dict[str, int] = {}

    def follow(self, checks: Sequence[PlanCheck], timeout_us: int, now_us: int) -> None:
        """Try these from now on; those that stay keep their slots."""
        self._summary.timeout_us = timeout_us
        before, self._checks = self._checks, {check.name: check for check in checks}
        made = {name: self._target(check) for name, check in self._checks.items()}
        self.targets = {name: target for name, target in made.items() if target is not None}
        self.unusable += len(made) - len(self.targets)
        kept = {name for name in self.targets if before.get(name) == self._checks[name]}
        self._slots = {name: self._slots[name] if name in kept else self._first(name, now_us) for name in self.targets}
        self._summary.retain({(name, ROW) for name in self.targets})

    def next_at(self) -> int | None:
        """When the next one is due."""
        return min(self._slots.values(), default=None)

    def due(self, now_us: int, sender: ProbeSender, spend: Callable[[], bool]) -> None:
        """Send what is due; ``spend`` asks the budget for one packet."""
        for name, slot_us in list(self._slots.items()):
            if slot_us > now_us:
                continue
            interval_us = self._checks[name].interval_us
            self._slots[name] = slot_us + interval_us * ((now_us - slot_us) // interval_us + 1)
            if spend():
                sender.send(self.targets[name])
        self._summary.expire(now_us)

    def end_interval(self, now_us: int) -> tuple[CheckResult, ...]:
        """What was answered or lost since the last call."""
        rows = self._summary.close(now_us)
        return tuple(map(CheckResult, rows.peer, rows.sent, rows.received, rows.rtt_min_us))

    def _first(self, name: str, now_us: int) -> int:
        return now_us + self._rng.randrange(self._checks[name].interval_us)

    def _target(self, check: PlanCheck) -> Target | None:
        hops = tuple(zip(check.hosts, check.ports, strict=True))
        try:
            self._wrap(hops, check.reflector_port, bytes(BASE_SIZE))
        except RelayError:
            return None
        row = self._summary.row(check.name, ROW)
        return Target(
            row, hops[0], self._ssid(check.name), wrap=lambda probe: self._wrap(hops, check.reflector_port, probe)
        )
