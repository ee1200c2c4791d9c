"""Judging what was said against what broke."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.blame.drive import Told
from bench.blame.faults import Fault
from router.core.verdicts import Component, ComponentKind

DRAINS = (ComponentKind.EDGE_REGION, ComponentKind.PROVIDER_REGION, ComponentKind.PROVIDER)
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Verdicted:
    """One fault and the verdict on it: the first one that became sure after it began, its own or a wrong one."""

    seed: int
    fault: Fault
    said: Component | None
    is_right: bool
    named_s: float | None  # from its begin to the first 0.9
    sure_s: float | None  # from its begin until automation may act

    def row(self) -> dict[str, Any]:
        """The fault as a line of the log."""
        fault = self.fault
        return {
            "seed": self.seed, "truth": fault.component.name, "said": NOTHING if self.said is None else self.said.name,
            "right": self.is_right, "named_s": _one(self.named_s), "sure_s": _one(self.sure_s),
            "partial": fault.is_partial, "shape": fault.shape, "hits": fault.hits, "loss_pct": _one(fault.loss_pct),
            "delay_ms": _one(fault.delay_ms), "drop_pct": _one(fault.drop_pct), "flows_pct": _one(fault.flows_pct),
        }  # fmt: skip


@dataclass(slots=True)
class Score:
    """Sums over many runs."""

    faults: list[Verdicted] = field(default_factory=list)
    wrong_drains: int = 0
    extra: Counter[str] = field(default_factory=Counter)  # kinds that became sure and were no fault
    doubles: int = 0
    bytes_s: list[float] = field(default_factory=list)
    judged_s: float = 0.0
    judgements: int = 0
    bins: Counter[tuple[int, bool]] = field(default_factory=Counter)  # confidence in tenths, whether it was right

    def add(self, seed: int, told: Told, until_s: float) -> list[Verdicted]:
        """Judge a run."""
        truth = {fault.component for fault in told.faults}
        wrong = [(at, name) for at, name in told.first if name not in truth]
        found = [_verdict(seed, fault, told, wrong) for fault in told.faults]
        self.faults += found
        self.doubles += len(told.faults) > 1
        self.extra.update(name.kind.value for _, name in wrong)
        self.wrong_drains += sum(name.kind in DRAINS for _, name in wrong)
        self.bytes_s.append(told.probe_bytes / until_s)
        self.judged_s += told.judged_s
        self.judgements += round(until_s)
        self.bins.update((min(9, int(10 * sure)), name in truth) for sure, name in told.confidences)
        return found

    @property
    def right(self) -> int:
        """Faults whose verdict is right."""
        return sum(one.is_right for one in self.faults)

    def share(self, among: Iterable[Verdicted]) -> float | None:
        """Share that is right, in %."""
        some = [one.is_right for one in among]
        return _one(100 * sum(some) / len(some)) if some else None

    def confusion(self) -> dict[str, dict[str, int]]:
        """Rows are what broke, columns what was said; the right kind with the wrong name is ``other KIND``."""
        table: dict[str, Counter[str]] = {}
        for one in self.faults:
            said = NOTHING if one.said is None else one.said.kind.value
            if one.said is not None and not one.is_right and one.said.kind is one.fault.component.kind:
                said = f"other {said}"
            table.setdefault(one.fault.component.kind.value, Counter())[said] += 1
        return {kind: dict(sorted(table[kind].items())) for kind in sorted(table)}

    def calibration(self) -> dict[str, dict[str, float]]:
        """Per tenth of confidence: how many verdicts, once a second each, and which share of them was right."""
        found = {}
        for tenth in range(10):
            yes, no = self.bins[tenth, True], self.bins[tenth, False]
            if yes + no:
                found[f"{tenth / 10:.1f}"] = {"verdicts": yes + no, "right_pct": round(100 * yes / (yes + no), 1)}
        return found

    def median(self, name: str) -> float:
        """Median seconds of the faults that were found at all."""
        times = [getattr(one, name) for one in self.faults if getattr(one, name) is not None and one.is_right]
        return round(statistics.median(times), 2) if times else float("inf")


def _verdict(seed: int, fault: Fault, told: Told, wrong: list[tuple[float, Component]]) -> Verdicted:
    spoken = told.spoken.get(fault.component)
    sure = None if spoken is None else spoken.sure_s
    named = None if spoken is None else spoken.named_s
    before = [name for at, name in wrong if at > fault.at_s + 4 and (sure is None or at < sure)]
    said = before[0] if before else fault.component if sure is not None else None
    return Verdicted(
        seed, fault, said, said == fault.component,
        None if named is None else named - fault.at_s, None if sure is None else sure - fault.at_s,
    )  # fmt: skip


def _one(value: float | None) -> float | None:
    return None if value is None else round(float(value), 1)
