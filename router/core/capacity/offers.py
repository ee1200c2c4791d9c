"""What may be bought, on which terms, and what buying answers: facts only.

Money is integer micro-USD (``uusd``), delay microseconds of round trip, shares ppm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.model import DataCenterId, Micros, PoolId, RegionId


@dataclass(frozen=True, slots=True)
class Offer:
    """Machines of one size in one data center; ``agents`` fit onto one."""

    provider: str
    data_center: DataCenterId
    region: RegionId
    size: str
    price_uusd_h: int  # of one machine
    agents: int = 1
    quota: int = 0  # machines that the provider still lets us have
    egress_uusd_gb: int = 0
    cloud_region: str = ""  # what the provider calls the place
    zone: str | None = None
    pools: tuple[PoolId, ...] = ()  # whose agents it may run; none: of any pool

    @property
    def key(self) -> tuple[str, DataCenterId, str]:
        """What tells offers apart, and orders them."""
        return self.provider, self.data_center, self.size


@dataclass(frozen=True, slots=True)
class Terms:
    """By what offers are judged; the defaults say what they weigh against each other."""

    budget_uusd_h: int | None = None  # of everything bought at once; None: no cap
    diversity_ppm: int = 500_000  # of the agents of a region, that one provider may have
    delay_uusd_ms_h: int = (
        2_000  # what a millisecond is worth per agent and hour: 10 ms against 2 cents of a GPU's dollar
    )
    max_rtt_us: int = 100_000  # to an agent of another region; beyond it a session rather waits
    egress_mb_h: int = 30  # of one busy agent: voice both ways, 64 kbit/s
    survive_ppm: int = 0  # of a region's need, that is left with any one provider lost; 0: not asked
    provider_uusd_h: Mapping[str, int] = field(default_factory=dict)  # caps of single providers
    machines: int | None = None  # that may still be bought; None: no cap


@dataclass(frozen=True, eq=False)
class Market:
    """Everything a purchase is decided by. ``held[region][provider]`` are agents that are there already."""

    needs: Mapping[RegionId, int]  # agents to buy, by the region of the users
    offers: tuple[Offer, ...]
    rtt_us: Mapping[tuple[RegionId, RegionId], int]  # both regions differ; absent: not known, and not used
    terms: Terms = field(default_factory=Terms)
    held: Mapping[RegionId, Mapping[str, int]] = field(default_factory=dict)
    blocked: Mapping[tuple[str, DataCenterId, str], str] = field(default_factory=dict)  # offer -> why not now
    unusable: Mapping[tuple[str, DataCenterId, str], tuple[str, str]] = field(default_factory=dict)  # -> rule, text

    def delay_us(self, need: RegionId, offer: Offer) -> int | None:
        """Round trip that users of a region have to an offer beyond what is local."""
        return 0 if need == offer.region else self.rtt_us.get((need, offer.region))

    def unit_uusd_h(self, need: RegionId, offer: Offer) -> int:
        """What one agent for users of a region costs per hour, delay included."""
        delay = self.delay_us(need, offer) or 0
        egress = self.terms.egress_mb_h * offer.egress_uusd_gb // 1_000
        return -(-offer.price_uusd_h // offer.agents) + egress + delay * self.terms.delay_uusd_ms_h // 1_000

    def refusal(self, need: RegionId, offer: Offer) -> Rejected | None:
        """Why an offer cannot serve a region at all."""
        delay = self.delay_us(need, offer)
        if offer.key in self.unusable:
            rule, text = self.unusable[offer.key]
            return Rejected(offer, rule, 0, 0, text)
        if offer.key in self.blocked:
            return Rejected(offer, "back_off", 0, 0, self.blocked[offer.key])
        if offer.quota <= 0:
            return Rejected(offer, "quota", 0, offer.quota, "the provider lets us have no more")
        if delay is None:
            return Rejected(offer, "unknown_delay", 0, 0, "nobody measured the delay between the regions")
        if delay > self.terms.max_rtt_us:
            return Rejected(offer, "delay", delay, self.terms.max_rtt_us, "too far to speak with")
        return None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An offer that was not taken: the rule, its number and its limit."""

    offer: Offer
    rule: str  # one of RULES_OF_OFFERS
    number: int
    limit: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Purchase:
    """Agents of one offer for the users of one region, and why these."""

    need: RegionId
    offer: Offer
    agents: int
    unit_uusd_h: int  # with delay and egress
    delay_us: int
    rejected: tuple[Rejected, ...] = ()  # of the offers for the same users, nearest in cost first


@dataclass(frozen=True, eq=False)
class Plan:
    """What to buy: whole machines per offer, who they are for, and what remains without."""

    purchases: tuple[Purchase, ...]
    machines: Mapping[tuple[str, DataCenterId, str], int]
    unmet: Mapping[RegionId, int]
    cost_uusd_h: int  # of the machines alone
    by: str  # "programme" or "next best": the second answers at once, and where no programme could be solved
    notes: tuple[str, ...] = ()


RULES_OF_OFFERS: Mapping[str, str] = {
    "unknown_data_center": "its data center is not in the inventory",
    "wrong_provider": "its data center belongs to another provider",
    "not_serving": "its data center takes no new sessions by its intent",
    "price_unknown": "neither the settings nor the provider tell a price",
    "other_pool": "it is not for agents of this pool",
    "back_off": "its provider refused a short while ago",
    "quota": "the provider, or the settings, let us have no more",
    "unknown_delay": "nobody measured the delay between the regions",
    "delay": "the users are too far away",
    "machines": "`max_machines` are bought already",
    "budget": "it would pass what may be spent an hour",
    "provider_budget": "it would pass what may be spent an hour with this provider",
    "diversity": "its provider would have more than its share of the region",
    "dearer": "an agent there costs more, with delay and egress",
    "whole_machines": "cheaper by the agent, but what is left needs a smaller machine, or went with one bought anyway",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A provider, or one of its places, that is not asked for a while."""

    until: Micros
    failures: int
    kind: str
