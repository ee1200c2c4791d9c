"""Reports change the core's arrays the same way, bit for bit, through the compiled forms and through the numpy ones."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import pytest

from probes.wire import ProbeReport, ReportRows, bucket_of
from router.core import compiled, estimate, health, history, rollup
from router.core.blame import cells
from router.core.history import History
from router.core.messages import Booted, Effect, MakeSurvey, Reported, Surveyed, Tick
from router.core.model import Counters, DataCenterId, Inventory, Link, LinkId, NodeId
from router.core.plane import ControlPlane
from tests.unit.core.worlds import SECOND, inventory

evidence = pytest.importorskip("router.core._evidence", reason="not compiled here")
START = 1_700_000_000_000_000
NAMES = "aws-a aws-b gcp-c gcp-d oci-e oci-f"


def world() -> Inventory:
    """Six data centers with two nodes each, two transports."""
    made = inventory(NAMES, nodes=2)
    centers = {
        id: replace(dc, latitude=10.0 * i - 20, longitude=25.0 * i)
        for i, (id, dc) in enumerate(made.data_centers.items())
    }
    a, b = DataCenterId("aws-a"), DataCenterId("aws-b")
    link = Link(LinkId("l"), a, b, "backbone")
    return replace(made, data_centers=centers, links={link.id: link})


class Story:
    """A fleet whose clocks and links misbehave in all ways that reports can tell of."""

    def __init__(self, seed: int, places: Inventory) -> None:
        self.rng = random.Random(seed)
        self.places = places
        self.nodes = tuple(places.nodes)
        self.clock = {node: self.rng.randint(-500_000, 500_000) for node in self.nodes}
        self.way = {(a, b): self.rng.randint(60_000, 200_000) for a in places.data_centers for b in places.data_centers}
        self.sequence = 0

    def misbehave(self) -> int:
        """Perhaps a clock steps, or a link changes; how long all are silent, microseconds."""
        if self.rng.random() < 0.02:
            self.clock[self.rng.choice(self.nodes)] += self.rng.choice((-1, 1)) * self.rng.randint(2_000, 400_000)
        if self.rng.random() < 0.05:
            self.way[self.rng.choice(list(self.way))] = self.rng.randint(60_000, 200_000)
        if self.rng.random() > 0.02:
            return self.rng.randint(20_000, 220_000)
        for node in self.nodes:  # when raw measurements are forgotten, and clocks not looked for anew
            self.clock[node] += self.rng.randint(-400_000, 400_000)
        return 21 * SECOND

    def report(self) -> ProbeReport:
        """What a node says next."""
        rng, node = self.rng, self.rng.choice(self.nodes)
        names = [(peer, way) for peer in (*self.nodes, "who-9") for way in ("internet", "backbone", "sea")]
        asked = rng.sample([(p, w) for p, w in names if p != node], rng.choice((0, 1, 2, 12, 25)))
        rows = [self._row(node, peer, way) for peer, way in asked]
        self.sequence += 1
        columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * 16
        return ProbeReport(node, "b", self.sequence, 1, 0, SECOND, ReportRows(*columns))

    def _row(self, node: NodeId, peer: str, way: str) -> tuple[Any, ...]:
        rng = self.rng
        sent = rng.choice((0, 1, 1, 1, 3, 50))
        received = sent if rng.random() < 0.8 else rng.randint(0, sent)
        there = back = 300
        known = self.places.nodes.get(NodeId(peer))
        here = self.places.nodes[node].data_center
        if known is not None and known.data_center != here:
            there, back = self.way[here, known.data_center], self.way[known.data_center, here]
        there, back = there + int(rng.expovariate(1 / 400)), back + int(rng.expovariate(1 / 400))
        ahead = self.clock.get(NodeId(peer), 0) - self.clock[node]
        rtt = there + back + rng.choice((0, 0, 1, 700))
        odd = rng.random()
        if odd < 0.02:
            there, rtt = there + 5_000, rtt - 5_000  # contradicts itself
        elif odd < 0.04:
            there = back = rtt = 10  # faster than light
        sketch = (bucket_of(rtt), received) if received else ()
        jitter = rng.choice((-1, 0, 7, 12_345)) if received else -1
        trip, forward, backward = (rtt, there + ahead, back - ahead) if received else (-1, 0, 0)
        return (
            peer,
            way,
            sent,
            received,
            rng.choice((0, 2)),
            0,
            0,
            trip,
            forward,
            backward,
            jitter,
            0,
            0,
            sketch,
            (),
            (),
        )


def differences(one: Any, other: Any, path: str = "", seen: set[int] | None = None) -> list[str]:
    """Paths at which two states differ but for what numpy forms remember (``_pairs``); NaN is equal to itself."""
    seen = set() if seen is None else seen
    if type(one) is not type(other):
        return [path]
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        return [] if same else [path]
    if isinstance(one, dict):
        if list(one) != list(other):
            return [f"{path} keys"]
        return [d for key in one for d in differences(one[key], other[key], f"{path}[{key}]", seen)]
    if isinstance(one, (list, tuple, deque)):
        if len(one) != len(other):
            return [f"{path} length"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}[{i}]", seen)]
    if is_dataclass(one) and not isinstance(one, type):
        names = [f.name for f in fields(one)]
        return [
            d for name in names for d in differences(getattr(one, name), getattr(other, name), f"{path}.{name}", seen)
        ]
    if type(one).__module__.startswith("router.core.") and not isinstance(one, Enum) and hasattr(one, "__dict__"):
        if id(one) in seen:
            return []
        seen.add(id(one))
        states = [{name: held for name, held in vars(plane).items() if name != "_pairs"} for plane in (one, other)]
        return differences(*states, path, seen)
    if callable(one) or type(one) is object:
        return []
    return [] if one == other or one != one else [path]


def use(monkeypatch: pytest.MonkeyPatch, *, is_compiled: bool, codes: Counter[int] | None = None) -> None:
    """Put reports through one kind of forms."""

    def counting(*given: Any) -> Any:
        told = evidence.links(*given)
        if codes is not None and told is not None:
            codes[told[0]] += 1
            codes[-1] += told[3] > 0
        return told

    forms = (counting, evidence.health, evidence.cells, evidence.noted, evidence.history)
    if not is_compiled:
        forms = (
            compiled.links_each, compiled.health_each, compiled.cells_each, compiled.noted_each, compiled.history_each,
        )  # fmt: skip
    monkeypatch.setattr(estimate, "put_links", forms[0])
    monkeypatch.setattr(health, "count_health", forms[1])
    monkeypatch.setattr(cells, "count_cells", forms[2])
    monkeypatch.setattr(rollup, "note_rows", forms[3])
    monkeypatch.setattr(history, "close_bucket", forms[4])


def told(plane: ControlPlane, story: Story, steps: int) -> list[str]:
    """What is said in so many reports, with the periodic jobs between them."""
    said, now = [], START
    plane.handle(Booted(1, story.places, Counters(), (), None), now)
    for step in range(steps):
        now += story.misbehave()
        effects: list[Effect] = list(plane.handle(Reported(story.report()), now))
        if step % 11 == 0:
            effects += plane.handle(Tick("routes"), now) + plane.handle(Tick("health"), now)
        if step % 60 == 0:
            effects += plane.handle(Tick("blame"), now)
        for effect in effects:
            if isinstance(effect, MakeSurvey):
                effects += plane.handle(Surveyed(effect.window.survey()), now)
        said += [type(effect).__name__ for effect in effects]
    return said


@pytest.mark.parametrize("seed", range(2))
def test_both_forms_leave_the_same_state(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    planes, said, codes = (ControlPlane(), ControlPlane()), [], Counter[int]()
    for plane, is_compiled in zip(planes, (True, False), strict=True):
        use(monkeypatch, is_compiled=is_compiled, codes=codes)
        said.append(told(plane, Story(seed, world()), 700))
    assert said[0] == said[1]
    assert differences(*planes) == []
    assert planes[0]._estimator.clock_steps > 3 and set(planes[0]._estimator.refused) >= set(estimate._LEFT_OUT)
    assert codes.keys() >= {-1, compiled.DONE, compiled.STEPPED, compiled.MISPLACED, compiled.SIBLINGS}, codes


@pytest.mark.parametrize("least_of", [1, 2, 4])
def test_both_forms_end_a_bucket_alike(least_of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, held, steps = np.random.default_rng(least_of), (History(2, 6, least_of), History(2, 6, least_of)), [0, 0]
    level = rng.integers(-20_000, 200_000, (2, 6, 6))
    for step in range(150):
        level = np.where(rng.random(level.shape) < 0.03, rng.integers(-20_000, 200_000, level.shape), level)
        there = np.nonzero(rng.random(level.shape) < (0.9 if step % 20 else 0.1))
        noise = np.rint(rng.exponential(300, len(there[0]))).astype(np.int64)
        gone = rng.random(level.shape) < 0.01
        for which, one in enumerate(held):
            use(monkeypatch, is_compiled=which == 0)
            one.put(*there, level[there] + noise)
            one.close()
            if step % 40 == 39:
                one.forget(step % 6)
                one.fade(~gone)
            steps[which] = one.steps
    assert differences(*held) == []
    assert steps[0] == steps[1] > 30


def test_differences_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = ControlPlane(), ControlPlane()
    for plane in planes:
        told(plane, Story(1, world()), 20)
    assert differences(*planes) == []
    planes[0]._estimator._jitter[1, 2, 3] += 1
    planes[1]._health._losses[0] += 1
    assert len(differences(*planes)) == 2


def test_a_view_made_of_the_last_one_says_what_one_made_anew_says() -> None:
    plane, story, now, made = ControlPlane(), Story(5, world()), START, 0
    plane.handle(Booted(1, story.places, Counters(), (), None), now)
    for step in range(120):
        now += story.misbehave()
        plane.handle(Reported(story.report()), now)
        if step % 9 == 0:
            plane.handle(Tick("health"), now)
        if step % 4:
            continue  # some reports are not looked at one by one
        made += plane._base is not None
        quick, plane._view, plane._base = plane.view, None, None
        assert differences(quick, plane.view) == []
    assert made > 15


@pytest.mark.parametrize("value", [1 << 60, -(1 << 60), 1 << 70, 1.5, True])
def test_what_decoding_would_not_let_in_is_left_to_numpy(value: Any) -> None:
    plane = ControlPlane()
    told(plane, story := Story(2, world()), 30)
    report = next(one for one in iter(story.report, None) if len(one.rows) == 12)
    rows = replace(report.rows, jitter_us=(value, *report.rows.jitter_us[1:]))
    held = plane._estimator
    place, own = (0, held._shape[1], held._shape[0], START, held._bucket % estimate.BUCKETS), 0.0
    columns = (rows.peer, rows.transport, rows.sent, rows.received, rows.reflected, rows.rtt_min_us,
               rows.forward_min_us, rows.backward_min_us, rows.jitter_us)  # fmt: skip
    names, out = (held._vertex, held._transport, held._offset), np.empty((10, 12), np.int64)
    arrays = (*held._arrays(place[-1]), out)
    before = [array.tobytes() for array in arrays[:-1]]
    assert evidence.links(columns, *names, own, place, estimate._RULES, False, arrays) is None
    assert [array.tobytes() for array in arrays[:-1]] == before


def test_arrays_that_do_not_fit_are_refused() -> None:
    held = ControlPlane()
    told(held, Story(3, world()), 10)
    book, k = held._health, np.zeros(1, np.int64)
    good = (k, k, k, book._losses, book._lost_at, book._ok_at, book._sent, book._lost)
    assert evidence.health(0, 6, START, 1, good)
    for i, wrong in (
        (0, k[:0]),
        (3, k),
        (4, book._lost_at[:, ::2]),
        (6, book._ok_at),
        (5, book._ok_at.astype(np.int32)),
    ):
        with pytest.raises((ValueError, BufferError)):
            evidence.health(0, 6, START, 1, (*good[:i], wrong, *good[i + 1 :]))
    fixed = book._ok_at.copy()
    fixed.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        evidence.health(0, 6, START, 1, (*good[:5], fixed, *good[6:]))
    with pytest.raises(ValueError, match="vertex"):
        evidence.health(0, 6, START, 1, (k + 6, *good[1:]))
    with pytest.raises(ValueError, match="too few"):
        evidence.health(0, 6, START, 1, good[:-1])
