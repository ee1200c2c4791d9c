"""The reaper: what became of launches whose answer was lost.

A launch that timed out, or whose connection broke, may have made a machine that nobody knows. The caller's books hold
every idempotency key that it ever sent, written down *before* the launch; the cloud's list holds every machine with
its key as a tag. The reaper compares the two: a machine that is wanted and unknown is adopted, one that is not wanted
any more is terminated, and of two with one key the first is kept. A machine whose key is in no book is a stranger: it
is reported and left alone, because another control plane with the same deployment name may be its owner.

A cloud can be late: a launch may take effect after a run of the reaper found nothing. So a key leaves the books only
when a run some time later (``docs/reference/adapters.md`` says how long) found nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from providers.base import MANAGED_BY, CloudError, CloudProvider, Machine, State


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books say of a key: whether its machine is wanted, and the machine's id when the answer came."""

    wanted: bool
    machine_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one run did; what failed to go is tried again by the next run."""

    adopted: tuple[Machine, ...]
    terminated: tuple[Machine, ...]
    failed: tuple[tuple[Machine, CloudError], ...]
    strangers: tuple[Machine, ...]


def reap(provider: CloudProvider, deployment: str, books: Mapping[str, Booked]) -> Reaped:
    """Compare the cloud's list with the books, adopt and terminate. Raises :class:`CloudError` of the listing alone."""
    adopted: list[Machine] = []
    doomed: list[Machine] = []
    strangers: list[Machine] = []
    for key, machines in _by_key(provider, deployment).items():
        booked = books.get(key)
        if booked is None:
            strangers += machines
            continue
        kept = _kept(machines, booked)
        doomed += [m for m in machines if m is not kept]
        if kept is not None and kept.id != booked.machine_id:
            adopted.append(kept)
    terminated, failed = _terminate(provider, doomed)
    return Reaped(tuple(adopted), tuple(terminated), tuple(failed), tuple(strangers))


def _by_key(provider: CloudProvider, deployment: str) -> dict[str, list[Machine]]:
    found: dict[str, list[Machine]] = {}
    for machine in provider.list({"deployment": deployment, "managed_by": MANAGED_BY}):
        if machine.state is not State.GOING:
            found.setdefault(machine.launch_key or "", []).append(machine)
    return dict(sorted(found.items()))


def _kept(machines: list[Machine], booked: Booked) -> Machine | None:
    sound = [m for m in machines if m.state is not State.FAILED]
    if not booked.wanted or not sound:
        return None
    return next((m for m in sound if m.id == booked.machine_id), sound[0])


def _terminate(
    provider: CloudProvider, machines: list[Machine]
) -> tuple[list[Machine], list[tuple[Machine, CloudError]]]:
    done: list[Machine] = []
    failed: list[tuple[Machine, CloudError]] = []
    for machine in machines:
        try:
            provider.terminate(machine.id)
            done.append(machine)
        except CloudError as error:
            failed.append((machine, error))
    return done, failed
