"""Verdicts as sentences."""

from __future__ import annotations

from router.core.model import DataCenterId, Inventory
from router.core.verdicts import Action, Component, ComponentKind, Evidence

ACTIONS = {
    ComponentKind.NODE: Action.EJECT_NODE,
    ComponentKind.EDGE_REGION: Action.DRAIN_DATA_CENTER,
    ComponentKind.PROVIDER_REGION: Action.DRAIN_PROVIDER_REGION,
    ComponentKind.PROVIDER: Action.DRAIN_PROVIDER,
    ComponentKind.TARGET: Action.EJECT_TARGET,
    ComponentKind.TRANSIT: Action.STEER_GROUP,
    ComponentKind.CLIENT_ISP: Action.TELL_SUPPORT,
    ComponentKind.PROBER: Action.DISCARD_VANTAGE,
}


def sentence(inventory: Inventory, component: Component, evidence: Evidence, is_sure: bool) -> str:
    """``Oracle Frankfurt is losing 8.0 % of packets, seen from 11 of 12 vantages.``"""
    what = subject(inventory, component)
    told = []
    if "probes" in evidence.sources:
        verb = "reports" if component.kind is ComponentKind.PROBER else "is losing"
        told.append(f"{verb} {evidence.loss_ppm / 1e4:.1f} % of packets {_lost(component)}")
    if "sessions" in evidence.sources:
        told.append(f"fails {evidence.failed_ppm / 1e4:.1f} % of sessions")
    text = " and ".join(told) or "is bad"
    seen = f"seen from {evidence.vantages_bad} of {evidence.vantages} vantages"
    doubt = "" if is_sure else "Probably "
    return f"{doubt}{what} {text}, {seen}."


def _lost(component: Component) -> str:
    return "that nobody else misses" if component.kind is ComponentKind.PROBER else "or delivering them late"


def subject(inventory: Inventory, component: Component) -> str:
    """What a component is called among people."""
    name = component.id
    match component.kind:
        case ComponentKind.NODE:
            return f"node {name}"
        case ComponentKind.EDGE_REGION:
            return _place(inventory, DataCenterId(name))
        case ComponentKind.PROVIDER_REGION:
            provider, region = name.split("/")
            return f"everything of {_provider(inventory, provider)} in {_region(inventory, region)}"
        case ComponentKind.PROVIDER:
            return f"all of {_provider(inventory, name)}"
        case ComponentKind.TARGET:
            return f"the agents at {_place(inventory, DataCenterId(name))}"
        case ComponentKind.TRANSIT if ">" in name:
            a, b = name.split(">")
            return f"the way between {a} and {b}"
        case ComponentKind.TRANSIT:
            group, provider = name.split("/")
            return f"the peering of {group.upper()} with {_provider(inventory, provider)}"
        case ComponentKind.CLIENT_ISP:
            return f"client network {name.upper()}"
    return f"the prober on {name}"


def _place(inventory: Inventory, id: DataCenterId) -> str:
    dc = inventory.data_centers.get(id)
    if dc is None:
        return id
    return f"{_provider(inventory, dc.provider)} {_region(inventory, dc.region)} ({id})"


def _provider(inventory: Inventory, id: str) -> str:
    found = next((p for p in inventory.providers.values() if p.id == id), None)
    return (found.name if found is not None else "") or id.capitalize()


def _region(inventory: Inventory, id: str) -> str:
    found = next((r for r in inventory.regions.values() if r.id == id), None)
    return (found.name if found is not None else "") or id.capitalize()
