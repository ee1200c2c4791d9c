"""Over which links users and agents speak: cheap where that is good enough, dear ones as insurance.

One programme for a whole day, because demand moves with the sun and hubs are full at different hours (Titan-Next's and
Switchboard's shape): shares ``x[slot, way]`` of each group's demand, at the least cost, such that the mean delay grows
by no more than agreed, no group's by more than its bound, no hub is over its room, no provider has more than its part
of a hub, and every group keeps a part on an insured way, so that this is measured and warm when the cheap one fails.
A hub's room and a provider's part can be given up at a price far above any link's: there is always an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.core.capacity.linear import Builder, Linear, Solution, binding
from router.core.tables import F64

OVERFULL, CROWDED = 1_000.0, 10.0  # times the dearest link: what giving up a hub's room or a provider's part costs


@dataclass(frozen=True, slots=True)
class Way:
    """How a group of users may speak with agents: by which provider, to which hub, at what price and delay."""

    group: int
    hub: int
    provider: str
    name: str
    uusd_gb: int  # both directions together, per gigabyte each way
    rtt_us: int
    insured: bool = False


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a split must keep."""

    mean_extra_us: int = 5_000  # of round trip, over the shortest way of each group, weighed by demand
    most_extra_us: int = 60_000  # of any group: beyond it a conversation is felt to lag (ITU-T G.114's 150 ms one way)
    insured_ppm: int = 20_000  # of each group's demand on insured ways, where it has one
    provider_ppm: int = 500_000  # of a hub's load


@dataclass(frozen=True, eq=False)
class Question:
    """Demand ``[slot, group]`` in GB per slot; room ``[hub]`` in GB per slot."""

    demand: F64
    ways: tuple[Way, ...]
    room: F64
    agreed: Agreed


@dataclass(frozen=True, eq=False)
class Split:
    """Shares ``[slot, way]`` of the way's group; ``why`` are the rules that cost something, dearest first."""

    share: F64
    usd: float
    mean_rtt_us: float
    why: tuple[str, ...]


def allowed(question: Question) -> list[int]:
    """Ways that are not too long for their group."""
    best = shortest(question.ways)
    return [k for k, way in enumerate(question.ways) if way.rtt_us <= best[way.group] + question.agreed.most_extra_us]


def shortest(ways: Sequence[Way]) -> dict[int, int]:
    """The shortest way of each group."""
    found: dict[int, int] = {}
    for way in ways:
        found[way.group] = min(way.rtt_us, found.get(way.group, way.rtt_us))
    return found


def split_programme(question: Question) -> Linear:
    """The programme; columns are the allowed ways, slot by slot."""
    ways, build = allowed(question), Builder()
    column: dict[tuple[int, int], int] = {}
    for slot in range(len(question.demand)):
        for k in ways:
            way = question.ways[k]
            column[slot, k] = build.column(question.demand[slot, way.group] * way.uusd_gb / 1e6, 1.0)
    best = shortest(question.ways)
    extra = []
    for (slot, k), at in column.items():
        way = question.ways[k]
        extra.append((at, float(question.demand[slot, way.group]) * (way.rtt_us - best[way.group])))
    build.row("mean delay", question.agreed.mean_extra_us * float(question.demand.sum()), extra)
    for slot in range(len(question.demand)):
        _groups(build, question, slot, ways, column)
        _hubs(build, question, slot, ways, column)
    return build.built()


def _groups(build: Builder, question: Question, slot: int, ways: list[int], column: dict[tuple[int, int], int]) -> None:
    for group in range(question.demand.shape[1]):
        mine = [k for k in ways if question.ways[k].group == group]
        if mine:
            build.row(f"all of group {group} at {slot}", -1.0, [(column[slot, k], -1.0) for k in mine])
        if safe := [k for k in mine if question.ways[k].insured]:
            least = -question.agreed.insured_ppm / 1e6
            build.row(f"insurance of group {group} at {slot}", least, [(column[slot, k], -1.0) for k in safe])


def _hubs(build: Builder, question: Question, slot: int, ways: list[int], column: dict[tuple[int, int], int]) -> None:
    part = question.agreed.provider_ppm / 1e6
    dearest = max(way.uusd_gb for way in question.ways) / 1e6
    for hub in range(len(question.room)):
        load = [(k, float(question.demand[slot, question.ways[k].group])) for k in ways if question.ways[k].hub == hub]
        if not load:
            continue
        entries = [(column[slot, k], n) for k, n in load]
        over = build.column(OVERFULL * dearest)
        build.row(f"room of hub {hub} at {slot}", float(question.room[hub]), [*entries, (over, -1.0)])
        for provider in sorted({question.ways[k].provider for k, _ in load}):
            own = [(column[slot, k], n * ((question.ways[k].provider == provider) - part)) for k, n in load]
            build.row(
                f"part of {provider} in hub {hub} at {slot}", 0.0, [*own, (build.column(CROWDED * dearest), -1.0)]
            )


def read_split(question: Question, asked: Linear, solution: Solution) -> Split:
    """The answer as shares that add up to one per slot and group."""
    ways = allowed(question)
    share = np.zeros((len(question.demand), len(question.ways)))
    count = len(question.demand) * len(ways)  # the columns that follow are what was given up
    share[:, ways] = np.maximum(0.0, solution.x[:count].reshape(len(question.demand), len(ways)))
    group = np.array([way.group for way in question.ways])
    for one in range(question.demand.shape[1]):
        share[:, group == one] /= np.maximum(share[:, group == one].sum(1, keepdims=True), 1e-12)
    usd, mean = judged(question, share)
    told = (
        f"{name} binds: one more would save {price:.6g} USD, penalties of what was given up included"
        for name, price in binding(asked, solution)
    )
    return Split(share, usd, mean, tuple(t for t in told if not t.startswith("all of group"))[:20])


def judged(question: Question, share: F64) -> tuple[float, float]:
    """Cost in USD and mean round trip in microseconds of any split."""
    group = np.array([way.group for way in question.ways])
    load = question.demand[:, group] * share
    price = np.array([way.uusd_gb for way in question.ways]) / 1e6
    rtt = np.array([way.rtt_us for way in question.ways], float)
    return float((load * price).sum()), float((load * rtt).sum() / max(load.sum(), 1e-12))
