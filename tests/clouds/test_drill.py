"""A few launches through every adapter with faults of all kinds; ``make bench NAME=adapters`` makes a thousand."""

from __future__ import annotations

import pytest

from bench.adapters.cases import missing
from bench.adapters.clouds import CASES, running
from bench.adapters.drill import FAULTS, drill
from providers.fake.server import Faults

LAUNCHES = 30


@pytest.mark.parametrize("name", sorted(CASES))
def test_nothing_is_leaked(name: str) -> None:
    case = CASES[name]
    lacking = missing(case)
    if lacking is not None:
        pytest.skip(lacking)
    with running(name, Faults(11, FAULTS), LAUNCHES) as (provider, fake):
        result = drill(provider, fake, case.cloud_region, case.size, LAUNCHES, seed=3)
    assert fake.violations == []
    assert (result.leaked, result.left, result.twice) == (0, 0, 0)
    assert result.answered + result.given_up + result.unknown == LAUNCHES
    assert sum(fake.faults.values()) > LAUNCHES // 3
    assert result.answered > LAUNCHES // 2
