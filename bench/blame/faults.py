"""Faults: what breaks, how badly, for whom, and how it changes with time; drawn by a seed or read from a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.blame.world import B, World
from router.core.verdicts import Component, ComponentKind

KINDS = tuple(ComponentKind)
SHAPES = ("step", "ramp", "flap")
HITS = ("both", "sessions", "probes")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks. Percentages are of what crosses it while it lasts."""

    component: Component
    at_s: float
    duration_s: float
    loss_pct: float = 0.0
    return_loss_pct: float | None = None  # None: as ``loss_pct``
    delay_ms: float = 0.0
    setup_failure_pct: float = 0.0
    drop_pct: float = 0.0  # of sessions that go bad although no packet is lost
    flows_pct: float = 100.0  # of flows that are hit at all, the same ones for as long as it lasts
    shape: str = "step"  # ramp: reaches its full size after 10 s; flap: five seconds of it, then three without
    hits: str = "both"

    @property
    def is_partial(self) -> bool:
        """Whether most of what crosses it still gets through."""
        return self.flows_pct < 100 or max(self.loss_pct, self.setup_failure_pct, self.drop_pct) < 50

    def size(self, now_s: float) -> float:
        """How much of it there is at a moment, 0 to 1."""
        age = now_s - self.at_s
        if not 0 <= age < self.duration_s:
            return 0.0
        if self.shape == "ramp":
            return min(1.0, 0.1 + age / 10)
        return float(age % 8 < 5) if self.shape == "flap" else 1.0


@dataclass(frozen=True, eq=False)
class Placed:
    """A fault and whom it hits in a world."""

    fault: Fault
    rows: B
    groups: B


def place_fault(world: World, fault: Fault, number: int) -> Placed:
    """Find the probes and the people that cross a fault."""
    rows, groups = crossing(world, fault.component)
    rng = np.random.default_rng([world.seed, 7, number])
    if fault.flows_pct < 100:  # the same path by a hash of addresses and ports: a probe is one flow, a person another
        rows &= rng.random(len(rows)) < fault.flows_pct / 100
    return Placed(fault, rows & (fault.hits != "sessions"), groups & (fault.hits != "probes"))


def crossing(world: World, component: Component) -> tuple[B, B]:
    """Which probes and which groups of people have a component on their path."""
    pairs, groups, home = world.pairs, world.groups, world.home
    u, v = home[pairs.source], home[pairs.peer]
    edge = home[groups.node]
    stops = (edge, groups.hub, np.where(groups.relay >= 0, groups.relay, edge))
    nobody_rows, nobody = np.zeros(len(u), np.bool_), np.zeros(len(edge), np.bool_)
    name = component.id
    match component.kind:
        case ComponentKind.NODE:
            i = world.nodes.index(name)
            return (pairs.source == i) | (pairs.peer == i), groups.node == i
        case ComponentKind.PROBER:
            return pairs.source == world.nodes.index(name), nobody
        case ComponentKind.TARGET:
            return nobody_rows, groups.hub == world.dcs.index(name)
        case ComponentKind.CLIENT_ISP:
            return nobody_rows, groups.isp == world.isps.index(name)
        case ComponentKind.TRANSIT if "/" in name:
            isp, provider = name.split("/")
            mine = world.provider[edge] == world.providers.index(provider)
            return nobody_rows, (groups.isp == world.isps.index(isp)) & mine
        case ComponentKind.TRANSIT:
            a, b = (world.dcs.index(dc) for dc in name.split(">"))
            legs = [(stops[0], stops[2]), (stops[2], stops[1])]
            on = [((x == a) & (y == b)) | ((x == b) & (y == a)) for x, y in [(u, v), *legs]]
            return on[0], on[1] | on[2]
    inside = places_of(world, component)
    rows = (inside[u] | inside[v]) & ~pairs.sibling
    return rows, inside[stops[0]] | inside[stops[1]] | inside[stops[2]]


def places_of(world: World, component: Component) -> B:
    """The data centers of a place, a provider's region or a provider."""
    if component.kind is ComponentKind.EDGE_REGION:
        return np.array([dc == component.id for dc in world.dcs])
    provider, _, region = component.id.partition("/")
    mine: B = world.provider == world.providers.index(provider)
    return mine & (world.region == world.regions.index(region)) if region else mine


def candidates(world: World, kind: ComponentKind) -> list[str]:
    """What can break in a world and would be noticed by somebody: it carries people, or is probed."""
    groups = world.groups
    edge = world.home[groups.node]
    size = np.bincount(world.home, minlength=len(world.dcs))
    people = np.bincount(edge, groups.people, len(world.dcs))
    match kind:
        case ComponentKind.NODE | ComponentKind.PROBER:
            busy = np.bincount(groups.node, groups.people, len(world.nodes)) >= 10
            several = size[world.home] > 1
            wanted = busy & several if kind is ComponentKind.NODE else several
            return [world.nodes[i] for i in np.flatnonzero(wanted)]
        case ComponentKind.EDGE_REGION:
            return [dc for i, dc in enumerate(world.dcs) if people[i] >= 10]
        case ComponentKind.PROVIDER_REGION:
            pairs = [(int(p), int(r)) for p, r in zip(world.provider, world.region, strict=True)]
            return sorted({f"{world.providers[p]}/{world.regions[r]}" for p, r in pairs if pairs.count((p, r)) > 1})
        case ComponentKind.PROVIDER:
            return [p for i, p in enumerate(world.providers) if len(set(world.region[world.provider == i])) > 1]
        case ComponentKind.TARGET:
            held = np.bincount(groups.hub, groups.people, len(world.dcs))
            return [world.dcs[h] for h in world.hubs if held[h] >= 20 and len(set(edge[groups.hub == h])) > 2]
        case ComponentKind.CLIENT_ISP:
            return [name for i, name in enumerate(world.isps) if len(set(world.provider[edge[groups.isp == i]])) > 1]
        case ComponentKind.TRANSIT:
            found = []
            for i, isp in enumerate(world.isps):
                mine = groups.isp == i
                for p in sorted(set(world.provider[edge[mine]].tolist())):
                    here = groups.people[mine & (world.provider[edge] == p)].sum()
                    if here >= 10 and here < 0.8 * groups.people[mine].sum():
                        found.append(f"{isp}/{world.providers[p]}")
            some = [f"{min(a, b)}>{max(a, b)}" for a in world.dcs[::3] for b in world.dcs[1::3] if a != b]
            return found + some[: len(found)]


def draw_faults(world: World, at_s: float, duration_s: float) -> list[Fault]:
    """One fault of any kind, or two at once for one world in ten; three in ten are partial."""
    rng = np.random.default_rng([world.seed, 3])
    kinds = [kind for kind in KINDS if candidates(world, kind)]
    count = 2 if rng.random() < 0.1 else 1
    found: list[Fault] = []
    while len(found) < count:
        kind = kinds[int(rng.integers(len(kinds)))]
        names = candidates(world, kind)
        component = Component(kind, names[int(rng.integers(len(names)))])
        if all(fault.component != component for fault in found):
            start = at_s + float(rng.uniform(0, 2)) + (float(rng.uniform(0, 8)) if found else 0.0)
            found.append(_drawn(component, start, duration_s, rng))
    return found


def _drawn(component: Component, at_s: float, duration_s: float, rng: np.random.Generator) -> Fault:
    partial = rng.random() < 0.3
    shape = str(rng.choice(SHAPES, p=(0.7, 0.15, 0.15)))
    base = Fault(component, at_s, duration_s, shape=shape)
    if component.kind is ComponentKind.TARGET or (component.kind is ComponentKind.NODE and rng.random() < 0.4):
        share = float(rng.uniform(25, 45) if partial else rng.uniform(50, 100))
        return replace(base, setup_failure_pct=share, drop_pct=share, hits="sessions")  # gray: it answers probes
    if component.kind is ComponentKind.PROBER:
        if rng.random() < 0.5:
            return replace(base, delay_ms=float(rng.uniform(60, 500)), hits="probes")  # a clock that is wrong
        return replace(base, loss_pct=float(rng.uniform(20, 45) if partial else rng.uniform(50, 95)), hits="probes")
    if partial and rng.random() < 0.5:
        return replace(base, loss_pct=float(rng.uniform(60, 100)), flows_pct=float(rng.uniform(40, 80)))
    if partial:
        one_way = rng.random() < 0.4
        return replace(base, loss_pct=float(rng.uniform(8, 30)), return_loss_pct=0.0 if one_way else None)
    if rng.random() < 0.25:
        return replace(base, delay_ms=float(rng.uniform(100, 400)), loss_pct=float(rng.uniform(0, 5)))
    return replace(base, loss_pct=100.0 if rng.random() < 0.5 else float(rng.uniform(35, 95)))


class ScenarioError(ValueError):
    """A scenario file that is not as documented."""


_FIELDS = {"kind", "component", "at_s", "duration_s", "loss_pct", "return_loss_pct", "delay_ms", "setup_failure_pct",
           "drop_pct", "flows_pct", "shape", "hits"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file: which world, how long, and what breaks in it."""

    name: str
    seed: int
    duration_s: float
    entries: tuple[dict[str, Any], ...]

    def faults(self, world: World) -> list[Fault]:
        """The faults of the file in a world; ``component: any`` takes the first that there is of its kind."""
        return [_entry(world, entry, i, self.duration_s) for i, entry in enumerate(self.entries)]


def read_scenario(path: Path) -> Scenario:
    """Read a file. Raises :class:`ScenarioError` that names the field."""
    data = yaml.safe_load(path.read_text())
    if not isinstance(data, dict) or set(data) - {"name", "seed", "duration_s", "faults"}:
        raise ScenarioError(f"{path}: a mapping with name, seed, duration_s and faults is expected")
    entries = data.get("faults", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ScenarioError(f"{path}: faults must be a list of mappings")
    length = _number(data.get("duration_s", 60), "duration_s")
    return Scenario(str(data.get("name", path.stem)), int(data.get("seed", 1)), length, tuple(entries))


def _entry(world: World, entry: dict[str, Any], i: int, until_s: float) -> Fault:
    where = f"faults[{i}]"
    if unknown := sorted(set(entry) - _FIELDS):
        raise ScenarioError(f"{where}: no field {unknown[0]}; there are {', '.join(sorted(_FIELDS))}")
    try:
        kind = ComponentKind(str(entry.get("kind")))
    except ValueError as error:
        raise ScenarioError(f"{where}.kind: {error}; there are {', '.join(KINDS)}") from None
    there = candidates(world, kind)
    name = str(entry.get("component", "any"))
    if name == "any":
        if not there:
            raise ScenarioError(f"{where}: the world of this seed has no {kind.value} that anybody would miss")
        name = there[0]
    try:
        crossing(world, Component(kind, name))
    except ValueError:
        raise ScenarioError(f"{where}.component: there is no {name}; for example {', '.join(there[:3])}") from None
    shape, hits = str(entry.get("shape", "step")), str(entry.get("hits", "both"))
    if shape not in SHAPES or hits not in HITS:
        raise ScenarioError(f"{where}: shape is one of {', '.join(SHAPES)}; hits one of {', '.join(HITS)}")
    sizes = {
        name: _number(entry[name], f"{where}.{name}")
        for name in _FIELDS
        if name in entry and name[-3:] in ("pct", "_ms")
    }
    at_s = _number(entry.get("at_s", 40), f"{where}.at_s")
    length = _number(entry.get("duration_s", max(1.0, until_s - at_s)), f"{where}.duration_s")
    return Fault(Component(kind, name), at_s, length, shape=shape, hits=hits, **sizes)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ScenarioError(f"{where}: must be a number from 0 on, is {value!r}")
    return float(value)
