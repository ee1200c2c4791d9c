"""Policies: which data centers, transports and prices a context may use, and which contexts exist.

A context is a traffic class under at most one policy. Every class always has its plain context; a policy adds one
context per class that it can match. The highest priority policy that matches a request wins, ties go to the smaller id.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.core.errors import InputRejected
from router.core.model import (
    DEFAULT_MAX_RELAYS,
    MAX_CONTEXTS,
    MAX_RELAYS,
    DataCenter,
    Inventory,
    Policy,
    PolicyId,
    PoolId,
    TrafficClass,
)
from router.core.tables import Context


def contexts(inventory: Inventory) -> tuple[Context, ...]:
    """Routing contexts in index order: the first 32, should a database hold more than :func:`check_limit` admits."""
    return _wanted(inventory)[:MAX_CONTEXTS]


def check_limit(inventory: Inventory) -> None:
    """Raise ``too_many_contexts`` beyond the limit of 32; to be asked before a policy is committed."""
    count = len(_wanted(inventory))
    if count > MAX_CONTEXTS:
        raise InputRejected(
            "too_many_contexts",
            f"policies and classes would make {count} routing contexts",
            field="match.class",
            rule="(traffic class x policy) combinations are limited; give policies a match.class",
            limit=MAX_CONTEXTS,
        )


def _wanted(inventory: Inventory) -> tuple[Context, ...]:
    plain = [Context(traffic_class) for traffic_class in TrafficClass]
    ruled = [
        Context(traffic_class, policy.id)
        for policy in inventory.policies.values()
        for traffic_class in TrafficClass
        if policy.match_class in (None, traffic_class)
    ]
    return (*plain, *ruled)


def matching(
    inventory: Inventory, traffic_class: TrafficClass, pool: PoolId | None, labels: Mapping[str, str]
) -> PolicyId | None:
    """The policy that governs a session, ``None`` if none matches."""
    fits = [p for p in inventory.policies.values() if _matches(p, traffic_class, pool, labels)]
    return min(fits, key=lambda p: (-p.priority, p.id)).id if fits else None


def _matches(policy: Policy, traffic_class: TrafficClass, pool: PoolId | None, labels: Mapping[str, str]) -> bool:
    return (
        policy.match_class in (None, traffic_class)
        and policy.match_pool in (None, pool)
        and all(labels.get(key) == value for key, value in policy.match_labels.items())
    )


def forbids(policy: Policy | None, data_center: DataCenter) -> str | None:
    """Why a policy keeps traffic out of a data center, ``None`` if it does not."""
    if policy is None:
        return None
    if policy.allow_providers is not None and data_center.provider not in policy.allow_providers:
        return f"policy {policy.id} allows only providers {', '.join(policy.allow_providers) or 'none'}"
    if data_center.provider in policy.deny_providers:
        return f"policy {policy.id} denies provider {data_center.provider}"
    if policy.allow_regions is not None and data_center.region not in policy.allow_regions:
        return f"policy {policy.id} allows only regions {', '.join(policy.allow_regions) or 'none'}"
    if data_center.region in policy.deny_regions:
        return f"policy {policy.id} denies region {data_center.region}"
    if policy.pin and data_center.id not in policy.pin:
        return f"policy {policy.id} pins traffic to {', '.join(policy.pin)}"
    return None


def max_relays(policy: Policy | None) -> int:
    """How many relays a path may have under a policy."""
    if policy is None or policy.max_relays is None:
        return DEFAULT_MAX_RELAYS
    return min(MAX_RELAYS, policy.max_relays)
