"""Robots of the demo: they go where they are sent, over the relay they are sent over, and tell what they heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.demo import robots
from router.demo.robots import Robots

if TYPE_CHECKING:
    from tests.unit.demo_people.conftest import Town


async def test_a_robot_calls_and_tells_that_its_agent_was_heard(town: Town) -> None:
    crew = Robots(town.control, [town.user])
    for _ in range(2):
        await crew.call(town.user, "r-1")
        assert town.control_plane.heard[-1] == ("r-1", "s-1", True, "")
    assert crew.told == 2 and town.user.state == "idle"


@pytest.mark.slow
async def test_a_robot_stays_where_it_was_sent_and_tells_what_went_wrong(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots, "HEARD_WITHIN_S", 0.7)  # longer than a user's patience with a silent agent
    crew = Robots(town.control, [town.user])
    town.hub.close()
    await crew.call(town.user, "r-1")
    town.edges["edge-a"].close()
    await crew.call(town.user, "r-1")
    silent, absent = town.control_plane.heard
    assert silent == ("r-1", "s-1", False, "its agent was not heard")
    assert absent == ("r-1", "s-1", False, "edge edge-a does not answer")
    assert not town.control_plane.resumes, "a robot does not help itself"


async def test_media_of_a_robot_takes_the_relay_it_is_to_try_both_ways(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots, "HEARD_WITHIN_S", 0.3)
    town.control_plane.via = "edge-b"  # where no relay listens in this town
    crew = Robots(town.control, [town.user])
    await crew.call(town.user, "r-1")
    assert town.control_plane.heard == [("r-1", "s-1", False, "its agent was not heard")]
    town.control_plane.via = None
    await crew.call(town.user, "r-1")
    assert town.control_plane.heard[-1][2], "the next session takes its route again"
