"""A killed apply or destroy converges: the next one does what is missing, nothing twice, and leaves nothing behind."""

from __future__ import annotations

from tests.terraform.conftest import Plane, Work
from tests.terraform.kills import rounds


def test_killed_applies_and_destroys_converge_without_duplicates_or_orphans(plane: Plane, alone: Work) -> None:
    hit = {"apply": 0, "destroy": 0}
    for kill in rounds(plane, alone, seed=7):
        assert kill.wrong == [], kill
        hit[kill.command] += kill.hit
        if kill.command == "destroy" and all(hit.values()):
            return
        assert kill.turn < 20, f"nothing was running any more when it was killed: {hit}"
