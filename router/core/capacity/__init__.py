"""Capacity: how much will be needed, how many agents to keep warm, and where to buy them."""

from router.core.capacity.buffer import RULES, BufferRule, Quiet, Stock, Want, to_release
from router.core.capacity.forecast import ArrivalBook, Forecast
from router.core.capacity.greedy import Cart, next_best
from router.core.capacity.launches import WAITS, Backoff, Refusal, spill
from router.core.capacity.offers import Market, Offer, Plan, Purchase, Rejected, Terms
from router.core.capacity.programme import Programme, Solution, programme, read

__all__ = [
    "RULES",
    "WAITS",
    "ArrivalBook",
    "Backoff",
    "BufferRule",
    "Cart",
    "Forecast",
    "Market",
    "Offer",
    "Plan",
    "Programme",
    "Purchase",
    "Quiet",
    "Refusal",
    "Rejected",
    "Solution",
    "Stock",
    "Terms",
    "Want",
    "next_best",
    "programme",
    "read",
    "spill",
    "to_release",
]
