"""A killed apply converges: the next one makes what is missing, and nothing twice."""

from __future__ import annotations

from tests.terraform.conftest import Plane, Work
from tests.terraform.kills import rounds


def test_a_killed_apply_converges_without_duplicates(plane: Plane, work: Work) -> None:
    assert rounds(plane, work, 2, seed=7)[1] == []
