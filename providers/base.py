"""What every cloud can be asked, whoever runs it: the protocol of the adapters, their facts and their errors.

An adapter is a thin, synchronous object over one cloud account; a worker thread calls it. It keeps no state, retries
nothing by itself and never waits longer than its time limit, so that the caller alone decides how often and how long
to try. All it knows about a launch is in the order, and all the cloud is told about it is in the machine's name and
tags: a machine can therefore be found again by whoever has lost the answer to the launch.

Idempotency. The name of a machine is a function of the order's idempotency key. Launching twice with one key gives one
machine: by the cloud's own means where it has any, by looking for the name or the tag where it has none. Launches with
the *same* key must not run at the same time; different keys may.

Errors. Whatever an SDK raises leaves an adapter as one of the :class:`CloudError` classes. Their texts are cut short
and hold no secret; what the SDK raised is not chained, because requests and addresses can carry secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

MANAGED_BY = "autoscaler"
# Linode allows 50 characters a tag, GCP lower case only: key "=" value has to fit everywhere.
_KEY = re.compile(r"^[a-z][a-z_]{0,15}$")
_VALUE = re.compile(r"^[a-z0-9][a-z0-9-]{0,31}$")
_DETAIL_LENGTH = 300
_TAGS_OF_OURS = ("deployment", "region", "managed_by", "launch")


class State(StrEnum):
    """What a cloud says about a machine."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    GOING = "going"


@dataclass(frozen=True, slots=True)
class CloudRegion:
    """A region as the cloud names it; ``open`` is false while the cloud says that it is closed or down."""

    code: str
    open: bool = True


@dataclass(frozen=True, slots=True)
class Size:
    """A kind of machine; the price is in millionths of a US dollar an hour, ``None`` where nobody told it."""

    name: str
    vcpus: int
    memory_mib: int
    price_microusd_per_hour: int | None


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of the account in one region, in units of the cloud."""

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class ConsoleHealth:
    """Whether the cloud's control API answers us, and what it said when it did not."""

    reachable: bool
    authorised: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine as the cloud tells it; addresses are those in the same answer, which some clouds leave out."""

    provider: str
    id: str
    name: str
    region: str
    size: str
    state: State
    tags: Mapping[str, str]
    addresses: tuple[str, ...] = ()

    @property
    def launch_key(self) -> str | None:
        """The idempotency key it was launched with."""
        return self.tags.get("launch")


@dataclass(frozen=True, slots=True)
class Order:
    """One machine to be launched.

    ``cloud_region`` and ``size`` are the cloud's own names, ``region`` is Tendril's; ``zone`` is for clouds that
    have zones. ``user_data`` is the start-up script: it holds a join token and is never shown.
    """

    idempotency_key: str
    region: str
    cloud_region: str
    size: str
    zone: str | None = None
    user_data: str = field(default="", repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what some cloud could not take. Raises :class:`ValueError`."""
        for what, value in (("idempotency_key", self.idempotency_key), ("region", self.region)):
            _check_value(what, value)
        for key, value in self.tags.items():
            if not _KEY.match(key) or key in _TAGS_OF_OURS:
                raise ValueError(f"tag {key!r} must match {_KEY.pattern} and be none of {', '.join(_TAGS_OF_OURS)}")
            _check_value(f"tag {key}", value)


def machine_name(idempotency_key: str) -> str:
    """Return the name that a launch with this key gives its machine."""
    return f"tendril-{idempotency_key}"


def tags_of(deployment: str, order: Order) -> dict[str, str]:
    """Return all tags of an ordered machine: ours, then the caller's in order of their keys."""
    ours = {
        "deployment": deployment,
        "region": order.region,
        "managed_by": MANAGED_BY,
        "launch": order.idempotency_key,
    }
    return ours | dict(sorted(order.tags.items()))


def check_deployment(deployment: str) -> str:
    """Return the deployment's name. Raises :class:`ValueError`."""
    _check_value("deployment", deployment)
    return deployment


def _check_value(what: str, value: str) -> None:
    if not _VALUE.match(value):
        raise ValueError(f"{what} {value!r} must match {_VALUE.pattern}: it becomes a tag on every cloud")


class CloudProvider(Protocol):
    """An account with one cloud. Every method may raise any :class:`CloudError`."""

    name: str

    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the cloud's regions by code."""
        ...

    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return what can be ordered in a region, by name."""
        ...

    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return the account's limits in a region; empty where the cloud does not tell them."""
        ...

    def launch(self, order: Order) -> Machine:
        """Order one machine; with a key that was used before, return that machine."""
        ...

    def get(self, machine_id: str) -> Machine:
        """Return one machine. Raises :class:`NotFound` when it is gone."""
        ...

    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine that has all these tags, by id."""
        ...

    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours; one that is gone already is a success. Raises :class:`NotOurs`."""
        ...

    def console_health(self) -> ConsoleHealth:
        """Ask the cheapest question that needs the credentials. Raises nothing."""
        ...

    def close(self) -> None:
        """Close connections; the adapter is not used any more."""
        ...


# --- errors ----------------------------------------------------------------------------------------------------------


class CloudError(Exception):
    """Something that a cloud, or the way to it, did not do; the text names cloud, operation and the cloud's words."""

    code: ClassVar[str] = "cloud_error"

    def __init__(self, provider: str, operation: str, detail: str) -> None:
        short = " ".join(detail.split())[:_DETAIL_LENGTH]
        super().__init__(f"{provider}: {operation}: {short}")
        self.provider = provider
        self.operation = operation
        self.detail = short


class OutOfCapacity(CloudError):
    """The cloud has no such machine left there: try another size, zone, region or cloud."""

    code = "out_of_capacity"


class QuotaExceeded(CloudError):
    """The account may not have more: only the cloud's support can change that."""

    code = "quota_exceeded"


class RateLimited(CloudError):
    """Too many requests; nothing was done. Ask again after ``retry_after_s``."""

    code = "rate_limited"

    def __init__(self, provider: str, operation: str, detail: str, retry_after_s: float) -> None:
        super().__init__(provider, operation, detail)
        self.retry_after_s = retry_after_s


class AuthFailed(CloudError):
    """The credentials are wrong, expired or lack a permission."""

    code = "auth_failed"


class NotFound(CloudError):
    """There is no such machine (any more)."""

    code = "not_found"


class Transient(CloudError):
    """No usable answer came; when ``outcome_unknown``, what was asked may have been done all the same."""

    code = "transient"

    def __init__(self, provider: str, operation: str, detail: str, outcome_unknown: bool) -> None:
        super().__init__(provider, operation, detail)
        self.outcome_unknown = outcome_unknown


class Conflict(Transient):
    """Somebody else is changing the same thing, or has it already: nothing was done."""

    code = "conflict"

    def __init__(self, provider: str, operation: str, detail: str) -> None:
        super().__init__(provider, operation, detail, outcome_unknown=False)


class Refused(CloudError):
    """The cloud calls the request wrong (unknown size, image, region): the same request will never succeed."""

    code = "refused"


class NotOurs(CloudError):
    """The machine belongs to Terraform, to another deployment or to a person; whoever made it removes it."""

    code = "not_ours"


class NotConfigured(CloudError):
    """A setting, an environment variable or the cloud's SDK is missing; the text says which, and how to get it."""

    code = "not_configured"


def refuse_strangers(machine: Machine, deployment: str) -> None:
    """Let nothing be terminated that this deployment's autoscaler did not launch. Raises :class:`NotOurs`."""
    owner, home = machine.tags.get("managed_by"), machine.tags.get("deployment")
    if owner != MANAGED_BY or home != deployment:
        raise NotOurs(
            machine.provider,
            "terminate",
            f"{machine.id} ({machine.name}) has managed_by={owner}, deployment={home}; only machines with "
            f"managed_by={MANAGED_BY}, deployment={deployment} are terminated from here: remove it where it was made",
        )
