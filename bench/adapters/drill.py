"""The drill: a caller that keeps books, launches through faults, reaps, counts, and cleans up.

The caller does what ``docs/reference/adapters.md`` asks for: the key is written down before the launch, an unknown
outcome is asked again with the same key, a refusal for good gives up, and the reaper settles the rest. It waits for
nothing: what a cloud asks it to wait is added up and told.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from providers.base import (
    CloudError,
    CloudProvider,
    Machine,
    Order,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Transient,
)
from providers.fake.server import FakeCloud, Fault
from providers.reaper import Booked, reap

DEPLOYMENT = "drill"
TRIES = 2  # then the caller leaves it to the reaper, as one does that has a user waiting
# Of a million requests. Time-outs are the fewest, because each has to be waited for.
FAULTS: Mapping[Fault, int] = {
    Fault.RATE_LIMITED: 50_000,
    Fault.SERVER_ERROR: 30_000,
    Fault.TIMEOUT: 4_000,
    Fault.GARBLED: 10_000,
    Fault.OUT_OF_CAPACITY: 50_000,
    Fault.QUOTA: 20_000,
    Fault.LOST_ANSWER: 60_000,
    Fault.ERROR_AFTER_EFFECT: 40_000,
    Fault.TIMEOUT_AFTER_EFFECT: 4_000,
    Fault.LATE_EFFECT: 20_000,
}
_RUNS = 50  # of the reaper, or of terminating all, before the drill says that it does not end


@dataclass(slots=True)
class Drill:
    """What happened: errors by their code, machines that nobody answers for, machines left when all was removed."""

    launches: int
    answered: int = 0
    given_up: int = 0
    unknown: int = 0
    adopted: int = 0
    reaped: int = 0
    leaked: int = 0
    left: int = 0
    twice: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    asked_to_wait_s: float = 0.0


def drill(provider: CloudProvider, fake: FakeCloud, cloud_region: str, size: str, launches: int, seed: int) -> Drill:
    """Launch, reap under faults, let late effects happen, reap again, count; then remove all and count again."""
    result = Drill(launches)
    books: dict[str, Booked] = {}
    for number in range(launches):
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{number}").hex
        books[key] = Booked(wanted=True)
        books[key] = _launch(provider, Order(key, "somewhere", cloud_region, size, user_data="#!/bin/sh\n"), result)
    _settle(provider, books, result)
    fake.settle()
    _settle(provider, books, result)
    held = Counter(b.machine_id for b in books.values() if b.machine_id is not None)
    result.twice = sum(count - 1 for count in held.values())
    result.leaked = len(set(fake.cloud.machines()) ^ set(held))
    for key, booked in books.items():
        books[key] = Booked(wanted=False, machine_id=booked.machine_id)
    _settle(provider, books, result)
    result.left = len(fake.cloud.machines())
    return result


def _launch(provider: CloudProvider, order: Order, result: Drill) -> Booked:
    for _ in range(TRIES):
        try:
            machine = provider.launch(order)
        except (OutOfCapacity, QuotaExceeded) as error:
            result.errors[error.code] += 1
            result.given_up += 1
            return Booked(wanted=False)
        except RateLimited as error:
            result.errors[error.code] += 1
            result.asked_to_wait_s += error.retry_after_s
        except Transient as error:
            result.errors[error.code] += 1
        else:
            result.answered += 1
            return Booked(wanted=True, machine_id=machine.id)
    result.unknown += 1
    return Booked(wanted=result.unknown % 2 == 0)  # every second of them is not wanted any more when it turns up


def _settle(provider: CloudProvider, books: dict[str, Booked], result: Drill) -> None:
    """Reap until a run goes through without an error and finds nothing to do."""
    for _ in range(_RUNS):
        try:
            done = reap(provider, DEPLOYMENT, books)
        except CloudError as error:
            result.errors[error.code] += 1
            continue
        for machine in done.adopted:
            result.adopted += 1
            books[_key(machine)] = Booked(wanted=True, machine_id=machine.id)
        result.reaped += len(done.terminated)
        result.errors.update(error.code for _, error in done.failed)
        if not done.failed and not done.adopted and not done.terminated:
            return
    raise RuntimeError(f"{provider.name}: the reaper found work in {_RUNS} runs")


def _key(machine: Machine) -> str:
    key = machine.launch_key
    if key is None:
        raise LookupError(f"{machine.id} was adopted without a key")
    return key
