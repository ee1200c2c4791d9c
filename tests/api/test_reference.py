"""The reference pages say what the code does: generated ones are compared, others are checked for completeness."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.api.reference import PAGES, main

FOLDER = Path(__file__).parents[2] / "docs/reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    hint = "write it again: python -m router.api.reference docs/reference"
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), hint


def test_pages_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)
    assert main([]) == 2 and "usage" in capsys.readouterr().err
