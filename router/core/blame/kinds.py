"""What the kinds of a case's components say about them before anything was observed, as arrays."""

from __future__ import annotations

import numpy as np

from router.core.blame.components import SHARES
from router.core.tables import F64, Bool
from router.core.verdicts import Component, ComponentKind

RARE = -4.0  # log odds that something is wrong at any moment, before anything was observed
SERVICE = {  # of faults of machines and places, how many are of what runs there alone: probes are answered all the same
    ComponentKind.NODE: 0.45,
    ComponentKind.EDGE_REGION: 0.15,
    ComponentKind.PROVIDER_REGION: 0.10,
    ComponentKind.PROVIDER: 0.10,
}
MACHINES = (ComponentKind.NODE, ComponentKind.EDGE_REGION, ComponentKind.PROVIDER_REGION, ComponentKind.PROVIDER)


class Kinds:
    """Arrays ``[component]``: masks of machines and places, of ways, of probers; logs of shares; prior log odds."""

    def __init__(self, names: tuple[Component, ...]) -> None:
        self.machines: Bool = np.array([name.kind in MACHINES for name in names], np.bool_)
        self.ways: Bool = np.array([is_way(name) for name in names], np.bool_)
        self.probers: Bool = np.array([name.kind is ComponentKind.PROBER for name in names], np.bool_)
        share = np.array([SERVICE.get(name.kind, 0.5) for name in names])  # of what is no machine nobody asks
        self.service: F64 = np.log(share)
        self.not_service: F64 = np.log1p(-share)
        self.prior = _priors(names, self.ways)


def is_way(name: Component) -> bool:
    """Whether it is a way between two data centers; the other kind of transit is a peering."""
    return name.kind is ComponentKind.TRANSIT and ">" in name.id


def _priors(names: tuple[Component, ...], ways: Bool) -> F64:
    """Log odds of each component before anything was observed: of its kind, shared by all of that kind."""
    order = list(SHARES)
    kinds = np.array([order.index(name.kind) for name in names])
    peerings = (kinds == order.index(ComponentKind.TRANSIT)) & ~ways
    share = np.array(list(SHARES.values()))[kinds] * np.where(ways | peerings, 0.5, 1.0)
    alike = np.bincount(kinds + len(SHARES) * ways)[kinds + len(SHARES) * ways]
    found: F64 = RARE + np.log(share / alike)
    return found
