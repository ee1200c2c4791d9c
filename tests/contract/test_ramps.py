"""Ramps in the database: revisions, one open ramp per data center, and the intent in the same transaction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Intent, RampId, RampKind, RampState
from router.store import Store
from tests.contract.conftest import NOW, World

IAD = DataCenterId("oracle-iad")


def test_a_ramp_is_written_read_and_decided_on_its_revision(world: World, store: Store) -> None:
    world.seed()
    draft = ramps.begin(RampKind.NEW, IAD, RampId("r-1"), "new rack", "ann", NOW)
    first = store.put_ramp(draft, {IAD: Intent.CANARY}, actor="ann", now=NOW).result
    assert first.revision == 1 and store.boot(NOW).ramps == (first,)
    assert store.inventory().data_centers[IAD].intent is Intent.CANARY
    paused = replace(first, state=RampState.PAUSED, paused_from=RampState.REGISTERED, retry_at=NOW + 5)
    second = store.put_ramp(paused, {}, actor="ann", now=NOW).result
    assert store.boot(NOW).ramps == (second,) == (replace(paused, revision=2),)
    with pytest.raises(InputRejected) as caught:
        store.put_ramp(paused, {IAD: Intent.SERVING}, actor="bob", now=NOW)
    assert caught.value.code == "revision_conflict" and caught.value.limit == 2
    assert store.inventory().data_centers[IAD].intent is Intent.CANARY  # nothing of it was written
    kinds = [event.kind for _, event in store.events(limit=10) if event.kind.startswith("ramp.")]
    assert sorted(kinds) == ["ramp.begun", "ramp.paused"]


def test_a_data_center_is_on_one_open_ramp(world: World, store: Store) -> None:
    world.seed()
    draft = ramps.begin(RampKind.NEW, IAD, RampId("r-1"), "", "ann", NOW)
    first = store.put_ramp(draft, {}, actor="ann", now=NOW).result
    with pytest.raises(InputRejected) as caught:
        store.put_ramp(replace(draft, id=RampId("r-2")), {}, actor="bob", now=NOW)
    assert caught.value.code == "ramp_exists"
    over = replace(first, state=RampState.WITHDRAWN, finished_at=NOW)
    store.put_ramp(over, {}, actor="ann", now=NOW)
    store.put_ramp(replace(draft, id=RampId("r-2")), {}, actor="bob", now=NOW)
