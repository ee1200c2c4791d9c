"""Judgements in the flight recorder: by their number, since replay judges the same case itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from test_drain_states import A1, Floor
from worlds import SECOND

from router.core.blame.outcomes import Outcome
from router.core.messages import Booted, Input, Judged, JudgeFault, Observed, Tick
from router.core.model import Counters, DataCenterId
from router.runtime.recorder import FlightRecorder, JudgedAgain, replay, segments


class Kept(FlightRecorder):
    """Remembers what stands for each input."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: list[object] = []

    def _kept(self, event: Input) -> object:  # type: ignore[override]
        self.kept.append(super()._kept(event))
        return self.kept[-1]


def test_a_judgement_is_recorded_by_its_number_and_replays(tmp_path: Path) -> None:
    floor, recorder = Floor(), Kept(tmp_path)

    def take(event: Input) -> JudgeFault | None:
        effects = floor.plane.handle(event, floor.now)
        recorder.record(floor.plane, event, floor.now, effects)
        return next((effect for effect in effects if isinstance(effect, JudgeFault)), None)

    take(Observed((Outcome(A1, good=5),)))
    floor.now += 60 * SECOND
    asked = take(Tick("blame"))
    assert asked is not None
    take(Judged(asked.case.judged()))
    late = take(Tick("blame"))
    assert late is not None
    fewer = dict(list(floor.plane.inventory.data_centers.items())[1:])
    dropped = replace(floor.plane.inventory, data_centers=fewer, nodes={})
    take(Booted(1, dropped, Counters(), (), None))  # nobody waits for that judgement any more
    take(Judged(late.case.judged()))
    recorder.close()
    assert [one for one in recorder.kept if isinstance(one, JudgedAgain)] == [JudgedAgain(1), JudgedAgain(2)]
    assert DataCenterId("a-1") not in floor.plane.inventory.data_centers
    (segment,) = segments(tmp_path)
    played = replay(segment)
    assert played.diverged_at is None
    assert played.inputs == 5
