"""What is Azure's own: launches that fail after they were accepted, parts of machines, its token service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bench.adapters.cases import missing
from bench.adapters.clouds import CASES, TOKEN, running
from bench.adapters.drill import DEPLOYMENT
from providers.adapters import open_provider
from providers.base import CloudProvider, NotConfigured, Order, OutOfCapacity, Refused, State, Transient
from providers.fake.azure import TENANT
from providers.fake.server import FakeCloud, Fault, Reply, Request, Script
from providers.reaper import Booked, reap

KEY = "0123456789abcdef0123456789abcdef"


def order(key: str = KEY, **more: Any) -> Order:
    return Order(key, "frankfurt", **{"cloud_region": "westeurope", "size": "Standard_D2s_v5"} | more)


@pytest.fixture(autouse=True)
def installed() -> None:
    lacking = missing(CASES["azure"])
    if lacking is not None:
        pytest.skip(lacking)


@pytest.fixture
def world() -> Iterator[tuple[CloudProvider, FakeCloud]]:
    with running("azure") as (provider, fake):
        yield provider, fake
        assert fake.violations == []


def asked(fake: FakeCloud) -> list[Request]:
    """Return a list that every later request is added to."""
    seen: list[Request] = []
    answer = fake.cloud.answer

    def noted(request: Request) -> Reply:
        seen.append(request)
        return answer(request)

    fake.cloud.answer = noted  # type: ignore[method-assign]
    return seen


def test_a_launch_is_one_put_that_overwrites_nothing(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    seen = asked(fake)
    provider.launch(order(zone="2"))
    (put,) = [r for r in seen if r.method == "PUT"]
    assert put.headers["if-none-match"] == "*"
    assert put.path.endswith(f"/virtualMachines/tendril-{KEY}")
    assert put.body["zones"] == ["2"]


def test_nothing_stays_behind(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    machine = provider.launch(order())
    assert len(fake.cloud._parts) == 3  # type: ignore[attr-defined]  # card, address and disk
    provider.terminate(machine.id)
    assert (fake.cloud.machines(), fake.cloud._parts) == ((), {})  # type: ignore[attr-defined]


def test_the_fake_counts_what_stays_behind(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    machine = provider.launch(order())
    parts = fake.cloud._parts  # type: ignore[attr-defined]
    parts[f"address/{machine.id}"] = (machine.id, False)
    provider.terminate(machine.id)
    assert fake.cloud.machines() == (f"address/{machine.id}",)


def test_no_room_is_said_at_once_or_later() -> None:
    with running("azure", Script(*[Fault.OUT_OF_CAPACITY] * 4)) as (provider, fake):
        said = []
        for key in ("a", "b", "c", "d"):
            with pytest.raises(OutOfCapacity) as caught:
                provider.launch(order(key))
            said.append(caught.value.detail.split()[1])
        assert sorted(said) == ["AllocationFailed:"] * 2 + ["SkuNotAvailable:"] * 2
        left = provider.list({"deployment": DEPLOYMENT})
        assert {m.state for m in left} == {State.FAILED}
        for machine in left:  # the same key again says why, and makes nothing
            with pytest.raises(OutOfCapacity):
                provider.launch(order(machine.launch_key or ""))
        done = reap(provider, DEPLOYMENT, {m.launch_key or "": Booked(wanted=True) for m in left})
        assert (done.terminated, fake.cloud.machines()) == (left, ())
        assert fake.violations == []


def test_a_running_machine_whose_change_failed_is_not_reaped(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    machine = provider.launch(order())
    fake.cloud._rows[machine.id]["properties"]["provisioningState"] = "Failed"  # type: ignore[attr-defined]
    done = reap(provider, DEPLOYMENT, {KEY: Booked(wanted=True, machine_id=machine.id)})
    assert (done.terminated, fake.cloud.machines()) == ((), (machine.id,))
    assert provider.get(machine.id).state is State.RUNNING


def test_a_failed_machine_that_cannot_be_looked_at_hides_no_other(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    good, bad = provider.launch(order()), provider.launch(order("b"))
    fake.cloud._rows[bad.id]["properties"]["provisioningState"] = "Failed"  # type: ignore[attr-defined]
    fake.schedule = lambda request, creates: Fault.SERVER_ERROR if request.path.endswith(f"/{bad.id}") else None
    states = {m.id: m.state for m in provider.list({"deployment": DEPLOYMENT})}
    assert states == {good.id: State.RUNNING, bad.id: State.STARTING}


def test_a_name_that_somebody_else_has_is_refused(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    CASES["azure"].theirs(fake.cloud, {"managed_by": "terraform"})
    fake.cloud._rows[f"tendril-{KEY}"] = fake.cloud._rows.pop("theirs")  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="has no tag of this launch"):
        provider.launch(order())


def test_a_list_of_several_pages(world: tuple[CloudProvider, FakeCloud], monkeypatch: pytest.MonkeyPatch) -> None:
    provider, _ = world
    monkeypatch.setattr("providers.fake.azure._PAGE", 2)
    made = [provider.launch(order(key)).id for key in "abcde"]
    assert [m.id for m in provider.list({"deployment": DEPLOYMENT})] == made


def test_the_token_goes_nowhere_else(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    answer = fake.cloud.answer

    def elsewhere(request: Request) -> Reply:
        reply = answer(request)
        there = {"Azure-AsyncOperation": "https://127.0.0.1:1/operations/1"}
        return Reply(reply.status, reply.body, there) if request.method == "PUT" else reply

    fake.cloud.answer = elsewhere  # type: ignore[method-assign]
    with pytest.raises(Transient, match=r"the operation is at https://127\.0\.0\.1:1") as caught:
        provider.launch(order())
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("status", [429, 500])
def test_a_token_service_that_fails_means_that_nothing_was_done(status: int) -> None:
    with running("azure") as (provider, fake):
        answer = fake.cloud.answer

        def failing(request: Request) -> Reply:
            if request.path.startswith(f"/{TENANT}/oauth2"):
                return Reply(status, {"error": "temporarily_unavailable", "error_description": "AADSTS90033"})
            return answer(request)

        fake.cloud.answer = failing  # type: ignore[method-assign]
        with pytest.raises(Exception, match="azure: launch") as caught:
            provider.launch(order())
        assert not getattr(caught.value, "outcome_unknown", False)
        assert fake.cloud.machines() == ()


def test_settings() -> None:
    case = CASES["azure"]
    settings = {"deployment": "d", **case.settings("http://127.0.0.1:1")}
    with pytest.raises(NotConfigured, match="is not PUBLISHER:OFFER:SKU:VERSION"):
        open_provider("azure", settings | {"image": "debian"}, case.environ(TOKEN))
    with pytest.raises(NotConfigured, match="client_id should be the id of"):
        open_provider("azure", settings, {"AZURE_CLIENT_SECRET": TOKEN})
    refused = pytest.raises(Refused, match="the setting subnets names none in southeastasia")
    with closing(open_provider("azure", settings, case.environ(TOKEN))) as provider, refused:
        provider.launch(order(cloud_region="southeastasia"))
