"""Two at once: where one refusal follows another, two providers are asked for the same agents, and one is kept.

A provider takes a second or so to say no, sometimes three. One refusal is over within the five seconds that a spill may
take; a row of them adds up, and the region is short then. So from the second on the next best offer of another provider
is asked as well. Who accepts first is kept, the other goes back before it has started. Soft state: after a restart both
stay, and what is spare goes when it was quiet for long enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from router.core.capacity.greedy import next_best
from router.core.capacity.machines import Launch, LaunchId, LaunchState
from router.core.capacity.offers import Market, Plan
from router.core.model import Micros

IN_A_ROW = 2  # offers that refused the same users' agents
ROW_US = 15_000_000  # within so long: thrice what a spill may take
WRITTEN_WITHIN_US = 30_000_000  # what was announced and is not written by then could not be
_Order = tuple[str, str, tuple[str, str, str]]  # pool, users' region, offer


@dataclass(slots=True)
class _Race:
    """Launches for the same agents."""

    wanted: int
    asked: dict[LaunchId, int] = field(default_factory=dict)  # of whom no answer is known
    accepted: int = 0
    surplus: set[LaunchId] = field(default_factory=set)


class Races:
    """Who was asked beside whom; private state of the core."""

    def __init__(self) -> None:
        self._expected: list[tuple[Micros, _Order, _Race]] = []
        self._races: dict[LaunchId, _Race] = {}

    def expect(self, drafts: Iterable[Launch], wanted: int, now: Micros) -> None:
        """Note launches that are announced now for the same agents."""
        race = _Race(wanted)
        self._expected = [one for one in self._expected if now - one[0] < WRITTEN_WITHIN_US]
        self._expected += [(now, _order(draft), race) for draft in drafts]

    def put(self, launch: Launch) -> bool:
        """Take a launch as it now is; whether it was accepted after another that is enough."""
        if launch.state is LaunchState.ANNOUNCED:
            self._begun(launch)
        race = self._races.get(launch.id)
        if race is None:
            return False
        if launch.state is LaunchState.PENDING and launch.id in race.asked:
            if race.accepted >= race.wanted:
                race.surplus.add(launch.id)
            race.accepted += race.asked.pop(launch.id)
        if launch.state not in _YOUNG:  # withdrawn, given back, or of use
            self._races.pop(launch.id).asked.pop(launch.id, None)
        return launch.id in race.surplus and launch.state in _MADE

    def refused(self, launch: Launch) -> int:
        """How many agents others must be asked for instead: none while somebody else was asked for the same."""
        race = self._races.pop(launch.id, None)
        if race is None:
            return launch.agents
        race.asked.pop(launch.id, None)
        return min(launch.agents, max(0, race.wanted - race.accepted - sum(race.asked.values())))

    def _begun(self, launch: Launch) -> None:
        for at, (_, order, race) in enumerate(self._expected):
            if order == _order(launch):
                del self._expected[at]
                race.asked[launch.id] = launch.agents
                self._races[launch.id] = race
                return


_MADE = (LaunchState.PENDING, LaunchState.RUNNING, LaunchState.JOINED)
_YOUNG = (LaunchState.ANNOUNCED, LaunchState.REQUESTED, *_MADE)


def in_a_row(launches: Mapping[LaunchId, Launch], refused: Launch, now: Micros) -> int:
    """How many offers have refused agents for the same users lately, this one included; machines of one are one no."""
    about = refused.pool, refused.need
    ended = [one for one in launches.values() if one.state is LaunchState.FAILED and one.refusal]
    return len({one.offer for one in ended if (one.pool, one.need) == about and now - (one.finished_at or 0) <= ROW_US})


def spill(market: Market, row: int) -> tuple[Plan, ...]:
    """Whom to ask at once for agents that a provider refused: one, or from the second refusal in a row on two."""
    plan = next_best(market)
    other = _beside(market, plan) if row >= IN_A_ROW and plan.purchases else None
    return (plan,) if other is None else (plan, other)


def _beside(market: Market, plan: Plan) -> Plan | None:
    """What to ask other providers for at the same time, under what is left of all caps; nothing that is not enough."""
    taken = {purchase.offer.provider for purchase in plan.purchases}
    terms = market.terms
    left = replace(
        terms,
        budget_uusd_h=None if terms.budget_uusd_h is None else terms.budget_uusd_h - plan.cost_uusd_h,
        machines=None if terms.machines is None else terms.machines - sum(plan.machines.values()),
    )
    asked = {offer.key: "asked at this moment" for offer in market.offers if offer.provider in taken}
    other = next_best(replace(market, terms=left, blocked={**market.blocked, **asked}))
    return other if other.purchases and not other.unmet else None


def _order(launch: Launch) -> _Order:
    return launch.pool, launch.need, launch.offer
