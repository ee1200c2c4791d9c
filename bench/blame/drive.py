"""The localiser driven through a world on a virtual clock: what it said, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.blame.faults import Fault, place_fault
from bench.blame.physics import PROBE_BYTES, STEP_S, Physics
from bench.blame.world import World
from router.core.blame import BlameBook
from router.core.verdicts import SURE_PPM, Component, Verdict

WARM_S = 40.0  # of ordinary life before anything breaks: the localiser has a baseline, though a short one
TAIL_S = 24.0  # of a drawn fault


@dataclass(slots=True)
class Spoken:
    """What was said of one component: when first with 0.9 and when it became sure, and with which confidence."""

    named_s: float | None = None
    sure_s: float | None = None
    last_s: float = 0.0
    text: str = ""


@dataclass(slots=True)
class Told:
    """A whole run."""

    faults: Sequence[Fault]
    spoken: dict[Component, Spoken] = field(default_factory=dict)
    confidences: list[tuple[float, Component]] = field(default_factory=list)  # one a second and verdict
    first: list[tuple[float, Component]] = field(default_factory=list)  # each component as it became sure
    frozen_s: float = 0.0
    probes: int = 0
    wall_s: float = 0.0
    judged_s: float = 0.0

    @property
    def probe_bytes(self) -> int:
        """On the wire."""
        return self.probes * PROBE_BYTES


def drive(world: World, faults: Sequence[Fault], until_s: float, evening: bool = False, starved: bool = False) -> Told:
    """Run a world until a moment; verdicts are asked for once a second."""
    placed = [place_fault(world, fault, i) for i, fault in enumerate(faults)]
    physics, book, told = Physics(world, placed, evening, starved), BlameBook(world.inventory), Told(faults)
    started = time.perf_counter()
    for step in range(int(until_s / STEP_S)):
        now_s = step * STEP_S
        physics.step(now_s + STEP_S, book)
        if step % 2 == 1:
            _ask(book, now_s + STEP_S, told)
    told.probes, told.wall_s = physics.probes, time.perf_counter() - started
    return told


def _ask(book: BlameBook, now_s: float, told: Told) -> None:
    now, began = round(now_s * 1e6), time.perf_counter()
    case = book.case(now)
    if case is not None:
        book.settle(case.judged(), now)
    told.judged_s += time.perf_counter() - began
    told.frozen_s += book.current.frozen
    for verdict in book.current.verdicts:
        _note(told, verdict, now_s, book.current.frozen)


def _note(told: Told, verdict: Verdict, now_s: float, frozen: bool) -> None:
    spoken = told.spoken.setdefault(verdict.component, Spoken())
    spoken.last_s, spoken.text = now_s, verdict.text
    told.confidences.append((verdict.confidence_ppm / 1e6, verdict.component))
    if verdict.confidence_ppm >= SURE_PPM and spoken.named_s is None:
        spoken.named_s = now_s
    if verdict.is_sure and not frozen and spoken.sure_s is None:
        spoken.sure_s = now_s
        told.first.append((now_s, verdict.component))
