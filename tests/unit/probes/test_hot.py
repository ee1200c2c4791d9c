"""Probes along paths: session ids live as long as their path, and one that cannot be used is not tried all the time."""

from __future__ import annotations

from typing import Any

from cut_world import SECOND, World

from probes.choice import Choice
from probes.relay import RelayError


def test_session_ids_stay_when_a_plan_comes() -> None:
    """They changed, answers under way became strays, and every path was suspect for a moment."""
    world = World(1)
    assert world.way.primary is not None
    world.run(2 * SECOND)
    before = {key: target.ssid for key, target in world.hot.targets.items()}
    assert before
    world.hot.follow(SECOND)
    assert {key: target.ssid for key, target in world.hot.targets.items()} == before
    assert all(world.hot.watch_of(target) is world.evidence.path(key) for key, target in world.hot.targets.items())


def test_a_path_that_cannot_be_used_is_tried_when_something_changes() -> None:
    """A relay with a name instead of an address made all targets anew ten times a second."""
    world, retargeted = World(1), []
    refused: set[str] = {"amber"}

    def wrap(choice: Choice, probe: bytes) -> bytes:
        if choice.path[1] in refused:
            raise RelayError("a name")
        return probe

    envelopes: Any = world.hot._envelopes
    envelopes.wrap = wrap
    world.hot._retarget = lambda: retargeted.append(world.now_us)
    assert world.way.primary is not None
    world.run(5 * SECOND)
    assert len(retargeted) <= 2 and world.hot.counters["unusable"] <= 2
    refused.clear()
    world.hot.follow(SECOND)
    assert any("amber" in world.path(key) for key in world.hot.targets)
