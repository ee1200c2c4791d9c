"""Where the people of a country are, roughly: a position for clients of whom nothing but the country is known."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml


def position(country: str) -> tuple[float, float] | None:
    """Latitude and longitude of a country's people by ISO 3166-1 alpha-2 code; ``None`` if the code is not known."""
    return _positions().get(country.upper())


@cache
def _positions() -> dict[str, tuple[float, float]]:
    table = yaml.safe_load(files("providers").joinpath("countries.yaml").read_text(encoding="utf-8"))
    return {code: (float(latitude), float(longitude)) for code, (latitude, longitude) in table.items()}
