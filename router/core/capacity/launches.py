"""Launches that fail: whom not to ask for a while. Who is asked instead: see ``races``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.core.capacity.offers import Block, Offer
from router.core.model import DataCenterId, Micros


class Refusal(StrEnum):
    """What kind of no a provider said."""

    OUT_OF_CAPACITY = "out_of_capacity"  # this size, in this place
    QUOTA_EXCEEDED = "quota_exceeded"  # this place
    RATE_LIMITED = "rate_limited"  # everywhere
    AUTH_FAILED = "auth_failed"  # everywhere, until a person acts
    TRANSIENT = "transient"  # this place
    REFUSED = "refused"  # this size, in this place: the request is wrong, and would be again
    NOT_CONFIGURED = "not_configured"  # everywhere, until a person acts
    NEVER_JOINED = "never_joined"  # this size, in this place: paid for, and of no use
    BAD_CANARY = "bad_canary"  # this size, in this place: it joined, and sessions on it went badly


@dataclass(frozen=True, slots=True)
class Wait:
    """First and longest wait after a refusal, and how wide it counts."""

    first_s: int
    most_s: int
    scope: str  # offer, place, provider


WAITS: Mapping[Refusal, Wait] = {
    Refusal.OUT_OF_CAPACITY: Wait(60, 1_800, "offer"),  # racks are freed within minutes, or not today
    Refusal.QUOTA_EXCEEDED: Wait(600, 21_600, "place"),  # a quota rises when a person raised it
    Refusal.RATE_LIMITED: Wait(5, 300, "provider"),
    Refusal.AUTH_FAILED: Wait(3_600, 3_600, "provider"),
    Refusal.TRANSIENT: Wait(5, 300, "place"),
    Refusal.REFUSED: Wait(3_600, 86_400, "offer"),
    Refusal.NOT_CONFIGURED: Wait(3_600, 3_600, "provider"),
    Refusal.NEVER_JOINED: Wait(600, 21_600, "offer"),
    Refusal.BAD_CANARY: Wait(600, 21_600, "offer"),
}
_Where = tuple[str, str, str]


class Backoff:
    """Who is not asked, until when; private state of the core. Every further refusal doubles the wait."""

    def __init__(self) -> None:
        self._blocks: dict[_Where, Block] = {}

    def refused(self, offer: Offer, kind: Refusal, now: Micros) -> Block:
        """Take in a refusal. One that comes while the wait lasts is of a launch sent before, and does not double it."""
        wait, where = WAITS[kind], _where(offer, WAITS[kind].scope)
        held = self._blocks.get(where)
        if held is not None and now < held.until and held.kind == kind.value:
            return held
        failures = 1 if held is None else held.failures + 1
        lasts_s = min(wait.most_s, wait.first_s << min(failures - 1, 20))
        self._blocks[where] = Block(now + lasts_s * 1_000_000, failures, kind.value)
        return self._blocks[where]

    def launched(self, offer: Offer) -> None:
        """Take in a success: whatever was held against the place is void."""
        for scope in ("offer", "place", "provider"):
            self._blocks.pop(_where(offer, scope), None)

    def blocked(self, offers: Iterable[Offer], now: Micros) -> dict[tuple[str, DataCenterId, str], str]:
        """Offers that are not asked now, and why."""
        found = {}
        for offer in offers:
            blocks = [self._blocks.get(_where(offer, scope)) for scope in ("provider", "place", "offer")]
            held = [block for block in blocks if block is not None and now < block.until]
            if held:
                worst = max(held, key=lambda block: (block.until, block.kind))
                left_s = -(-(worst.until - now) // 1_000_000)
                found[offer.key] = f"{worst.kind}: refused {worst.failures} times, not asked for {left_s} s more"
        return found


def _where(offer: Offer, scope: str) -> _Where:
    parts = offer.provider, offer.data_center, offer.size
    kept = {"provider": 1, "place": 2, "offer": 3}[scope]
    return (parts[0], parts[1] if kept > 1 else "", parts[2] if kept > 2 else "")
