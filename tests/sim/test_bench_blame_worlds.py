"""Whole worlds of the blame benchmark that once ended in a wrong drain; too slow for the unit tests."""

from __future__ import annotations

from bench.blame.drive import drive
from bench.blame.faults import draw_faults
from bench.blame.world import make_world


def test_a_dead_machine_does_not_become_its_data_centers_fault_when_the_longer_window_fills() -> None:
    """Seed 10002: after twenty seconds the data center was drained for what its one dead machine had lost."""
    world = make_world(10_002)
    told = drive(world, draw_faults(world, 33, 24), 57)
    assert {name.name for _, name in told.first} == {"node:oracle-singapore1-n1"}


def test_a_starved_machine_drains_nobody() -> None:
    """A whole provider was named with 98 % when all agents of a demo shared two busy processors."""
    told = drive(make_world(30_001), (), 70, starved=True)
    assert told.frozen_s > 0
    assert not told.first
