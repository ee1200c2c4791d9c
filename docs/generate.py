"""``make docs``: write the pages of ``docs/reference``, and the dashboard's types, that are generated from the code."""

from __future__ import annotations

import json
from pathlib import Path

from router.api import reference as http
from router.api import typescript
from router.cli import ramp_reference as ramps
from router.cli import reference as commands
from router.sim.schema import scenario_schema

FOLDER = Path(__file__).parent / "reference"


def main() -> None:
    """Write every generated page."""
    http.main([str(FOLDER)])
    typescript.main([])
    (FOLDER / "cli.md").write_text(commands.page(), encoding="utf-8")
    (FOLDER / "ramps.md").write_text(ramps.page(), encoding="utf-8")
    schema = json.dumps(scenario_schema(), indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "scenario.schema.json").write_text(schema, encoding="utf-8")


if __name__ == "__main__":
    main()
