"""Users of one data center's catchment: unequal networks, hours of the day, heavy tails, and bad moments of others.

None of it is independent or Gaussian, and none of it is the new data center's fault: a rule that rolls back for it is
wrong. All numbers of a run come from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from router.core.dial import positions_of
from router.core.model import DataCenterId

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
GROUPS, HOUR_S = 24, 3600.0
RETURNING = 0.3  # of sessions are of users who were there before
EVENING_S = 20 * HOUR_S


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with the new data center; ``robots``: whether robots meet it too."""

    name: str
    rtt_ms: float = 0.0
    loss_ppm: int = 0
    setup_failures: float = 0.0
    relayed_only: bool = False  # only what goes over a relay fails
    robots: bool = True


class ScenarioError(ValueError):
    """A scenario file that is not as documented."""


_FIELDS = {"rtt_ms": 1.0, "loss_pct": 10_000.0, "setup_failures_pct": 0.01}  # by what a Defect has in place of each


def read_defect(path: Path) -> tuple[Defect, float]:
    """What a file says is wrong, and its sessions a second (0: drawn). Raises :class:`ScenarioError`."""
    told = yaml.safe_load(path.read_text())
    if not isinstance(told, dict) or (
        more := sorted(set(told) - {"name", "rate_per_s", "relayed_only", "robots", *_FIELDS})
    ):
        unknown = f"no field {more[0]}" if isinstance(told, dict) else "a mapping is expected"
        raise ScenarioError(
            f"{path}: {unknown}; there are name, rate_per_s, relayed_only, robots, {', '.join(_FIELDS)}"
        )
    try:
        rtt, loss, fails = (float(told.get(name, 0)) * factor for name, factor in _FIELDS.items())
        rate = float(told.get("rate_per_s", 0))
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    if min(rtt, loss, fails, rate) < 0 or fails > 1:
        raise ScenarioError(f"{path}: numbers are from 0 on, shares up to 100 %")
    flags = {name: bool(told.get(name, default)) for name, default in (("relayed_only", False), ("robots", True))}
    return Defect(str(told.get("name", path.stem)), rtt, int(loss), fails, **flags), rate


@dataclass(frozen=True, eq=False)
class Hour:
    """Sessions that begin within an hour, in order; arrays ``[session]``."""

    at_s: F64
    position_ppm: I64  # of the user, by the hash that steering uses
    group: I64
    rtt_ms: F64
    loss_ppm: F64
    setup_ms: F64
    fails: F64  # probability that the set-up fails, wherever it goes
    length_s: F64


class Users:
    """The population of a catchment; draws its hours one after the other."""

    def __init__(self, seed: int, data_center: DataCenterId, rate_per_s: float) -> None:
        self._rng = np.random.default_rng([seed, 7])
        self._data_center, self._rate, self._seed = data_center, rate_per_s, seed
        rng = self._rng
        share = 1.0 / np.arange(1, GROUPS + 1) ** 1.1  # a few large networks, many small ones
        self._share = share / share.sum()
        self._base_ms = rng.lognormal(np.log(32.0), 0.5, GROUPS)
        self._evening_ms = rng.exponential(6.0, GROUPS)  # how much later the network's evening makes it
        self._loss_ppm = rng.lognormal(np.log(400.0), 0.8, GROUPS)
        self._fails = 0.001 + rng.exponential(0.002, GROUPS)
        self._mood = np.zeros(GROUPS)  # what is wrong with each network just now; goes over within the hour
        self._users = 0

    def hour(self, number: int) -> Hour:
        """The sessions of one hour."""
        rng, noon = self._rng, (number * HOUR_S) % (24 * HOUR_S)
        evening = 0.5 + 0.5 * np.cos((noon - EVENING_S) / (24 * HOUR_S) * 2 * np.pi)
        n = int(rng.poisson(self._rate * HOUR_S * (0.4 + 1.2 * evening)))
        at = np.sort(rng.uniform(number * HOUR_S, (number + 1) * HOUR_S, n))
        self._mood = 0.5 * self._mood + np.where(rng.random(GROUPS) < 0.04, rng.exponential(1.0, GROUPS), 0.0)
        group = rng.choice(GROUPS, n, p=self._share)
        mood = self._mood[group]
        own = rng.lognormal(0.0, 0.22, n)  # where in the country, and what kind of line
        tail = np.abs(rng.standard_t(2.5, n)) * (3.0 + 4.0 * evening)
        return Hour(
            at_s=at,
            position_ppm=self._positions(n),
            group=group,
            rtt_ms=self._base_ms[group] * own + self._evening_ms[group] * evening + tail + 12.0 * mood,
            loss_ppm=self._loss_ppm[group] * rng.lognormal(0.0, 1.0, n) * (1 + evening) + 4_000.0 * mood,
            setup_ms=rng.lognormal(np.log(180.0), 0.4, n) + 3 * tail,
            fails=self._fails[group] + 0.01 * mood,
            length_s=rng.lognormal(np.log(480.0), 0.9, n),
        )

    def _positions(self, n: int) -> I64:
        newest = self._users + np.arange(n)
        names = np.where(self._rng.random(n) < RETURNING, self._rng.integers(0, newest + 1), newest)
        self._users += n
        return positions_of([f"{self._seed}-{name}" for name in names.tolist()], self._data_center)
