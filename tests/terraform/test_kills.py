"""A killed apply or destroy converges: the next one does what is missing, nothing twice, and leaves nothing behind."""

from __future__ import annotations

from tests.terraform.conftest import Plane, Work
from tests.terraform.kills import rounds


def test_killed_applies_and_destroys_converge_without_duplicates_or_orphans(plane: Plane, alone: Work) -> None:
    counted = rounds(plane, alone, 2, seed=7)
    assert counted.wrong == [] and counted.kills == 2, counted
