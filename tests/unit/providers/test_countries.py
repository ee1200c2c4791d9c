"""Positions by country: codes stay strings, values are on the globe, an unknown code is nothing."""

from providers.catalog import load
from providers.countries import _positions, position


def test_every_entry_is_a_code_and_a_place_on_the_globe() -> None:
    table = _positions()
    assert len(table) > 200
    for code, (latitude, longitude) in table.items():
        assert isinstance(code, str) and len(code) == 2 and code.isupper()
        assert -90 <= latitude <= 90 and -180 <= longitude <= 180


def test_norway_is_not_false_and_case_does_not_matter() -> None:
    assert position("no") == position("NO") is not None
    assert position("ZZ") is None


def test_every_country_of_the_catalogue_is_known() -> None:
    assert {region.country for region in load() if position(region.country) is None} == set()
