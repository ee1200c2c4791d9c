"""``make docs``: write the pages of ``docs/reference`` that are generated from the code."""

from __future__ import annotations

from pathlib import Path

from router.api import reference as http
from router.cli import reference as commands

FOLDER = Path(__file__).parent / "reference"


def main() -> None:
    """Write every generated page."""
    http.main([str(FOLDER)])
    (FOLDER / "cli.md").write_text(commands.page(), encoding="utf-8")


if __name__ == "__main__":
    main()
