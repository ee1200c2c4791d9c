"""Capacity: how much will be needed, how many agents to keep warm, where to buy them, over which links they speak."""

from router.core.capacity.board import CapacityBoard, PlaceBoard
from router.core.capacity.buffer import RULES, BufferRule, Quiet, Stock, Want, to_release
from router.core.capacity.forecast import ArrivalBook, Forecast
from router.core.capacity.greedy import Cart, next_best
from router.core.capacity.launches import WAITS, Backoff, Refusal
from router.core.capacity.linear import Linear, Solution
from router.core.capacity.links import Agreed, Question, Split, Way, judged, read_split, shortest, split_programme
from router.core.capacity.machines import Buying, Launch, LaunchId, LaunchState, NodeStock
from router.core.capacity.offers import Market, Offer, Plan, Purchase, Rejected, Terms
from router.core.capacity.programme import Programme, programme, read

__all__ = [
    "RULES",
    "WAITS",
    "Agreed",
    "ArrivalBook",
    "Backoff",
    "BufferRule",
    "Buying",
    "CapacityBoard",
    "Cart",
    "Forecast",
    "Launch",
    "LaunchId",
    "LaunchState",
    "Linear",
    "Market",
    "NodeStock",
    "Offer",
    "PlaceBoard",
    "Plan",
    "Programme",
    "Purchase",
    "Question",
    "Quiet",
    "Refusal",
    "Rejected",
    "Solution",
    "Split",
    "Stock",
    "Terms",
    "Want",
    "Way",
    "judged",
    "next_best",
    "programme",
    "read",
    "read_split",
    "shortest",
    "split_programme",
    "to_release",
]
