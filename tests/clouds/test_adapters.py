"""Every adapter against its fake cloud: what is asked is as the cloud describes it, what comes back is typed."""

from __future__ import annotations

import base64
import dataclasses
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from bench.adapters.cases import missing
from bench.adapters.clouds import CASES, TOKEN, running
from bench.adapters.drill import DEPLOYMENT
from providers.adapters import adapter_names, open_provider
from providers.base import (
    AuthFailed,
    CloudError,
    CloudProvider,
    Conflict,
    Machine,
    NotConfigured,
    NotFound,
    NotOurs,
    Order,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    State,
    Transient,
)
from providers.fake.server import FakeCloud, Fault, Reply, Request, Script
from providers.reaper import Booked, reap

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "join-token-that-nobody-may-see"


def order(name: str, key: str = KEY, **more: object) -> Order:
    case = CASES[name]
    size = str(more.pop("size", case.size))
    return Order(key, "frankfurt", case.cloud_region, size, user_data=f"#!/bin/sh\n# {SECRET}\n", **more)  # type: ignore[arg-type]


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    lacking = missing(CASES[request.param])
    if lacking is not None:
        pytest.skip(lacking)
    return str(request.param)


@pytest.fixture
def world(name: str) -> Iterator[tuple[CloudProvider, FakeCloud]]:
    with running(name) as (provider, fake):
        yield provider, fake
        assert fake.violations == []


def test_a_case_for_every_adapter() -> None:
    assert set(CASES) == set(adapter_names())


def test_life_of_a_machine(name: str, world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    case = CASES[name]
    assert case.cloud_region in [r.code for r in provider.regions()]
    offered = {s.name: s for s in provider.sizes(case.cloud_region)}
    assert offered[case.size].vcpus > 0
    assert (offered[case.size].price_microusd_per_hour or 0) > 0
    provider.quota(case.cloud_region)
    machine = provider.launch(order(name, tags={"pool": "voice"}))
    assert machine.tags == {
        "deployment": DEPLOYMENT, "region": "frankfurt", "managed_by": "autoscaler", "launch": KEY, "pool": "voice",
    }  # fmt: skip
    assert (machine.provider, machine.region, machine.size) == (name, case.cloud_region, case.size)
    again = provider.get(machine.id)
    assert (again.id, again.state, again.tags) == (machine.id, State.RUNNING, machine.tags)
    assert again.addresses
    other = provider.launch(order(name, key="f" * 32))
    assert {m.id for m in provider.list({"deployment": DEPLOYMENT})} == {machine.id, other.id}
    assert [m.id for m in provider.list({"launch": KEY, "managed_by": "autoscaler"})] == [machine.id]
    assert provider.list({"deployment": "another"}) == ()
    provider.terminate(machine.id)
    provider.terminate(machine.id)
    assert fake.cloud.machines() == (other.id,)
    assert provider.console_health().authorised


def test_one_key_is_one_machine(name: str, world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    assert len({provider.launch(order(name)).id for _ in range(3)}) == 1
    assert len(fake.cloud.machines()) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.ERROR_AFTER_EFFECT, Fault.TIMEOUT_AFTER_EFFECT])
def test_a_lost_answer_is_asked_for_again(name: str, fault: Fault) -> None:
    with running(name, Script(fault)) as (provider, fake):
        with pytest.raises(Transient) as caught:
            provider.launch(order(name))
        assert caught.value.outcome_unknown
        (made,) = fake.cloud.machines()
        assert provider.launch(order(name)).id == made
        assert fake.cloud.machines() == (made,)
        assert fake.violations == []


def test_lost_launches_are_adopted_or_terminated(name: str) -> None:
    with running(name, Script(Fault.LOST_ANSWER, Fault.LOST_ANSWER)) as (provider, fake):
        for key in ("a" * 32, "b" * 32):
            with pytest.raises(Transient):
                provider.launch(order(name, key))
        stranger = provider.launch(order(name, "c" * 32))
        done = reap(provider, DEPLOYMENT, {"a" * 32: Booked(wanted=True), "b" * 32: Booked(wanted=False)})
        (adopted,), (gone,) = done.adopted, done.terminated
        assert (adopted.launch_key, gone.launch_key, done.strangers, done.failed) == (
            "a" * 32, "b" * 32, (stranger,), ()
        )  # fmt: skip
        assert set(fake.cloud.machines()) == {adopted.id, stranger.id}
        assert fake.violations == []


def test_an_effect_that_comes_late_leaves_one_machine(name: str) -> None:
    with running(name, Script(Fault.LATE_EFFECT)) as (provider, fake):
        with pytest.raises(Transient):
            provider.launch(order(name))
        known = provider.launch(order(name))
        fake.settle()
        done = reap(provider, DEPLOYMENT, {KEY: Booked(wanted=True, machine_id=known.id)})
        assert (fake.cloud.machines(), done.adopted) == ((known.id,), ())


ERRORS = {
    Fault.RATE_LIMITED: RateLimited,
    Fault.SERVER_ERROR: Transient,
    Fault.TIMEOUT: Transient,
    Fault.OUT_OF_CAPACITY: OutOfCapacity,
    Fault.QUOTA: QuotaExceeded,
}


@pytest.mark.parametrize("fault", ERRORS)
def test_faults_are_typed_and_make_no_machine(name: str, fault: Fault) -> None:
    # Racks have no quota, and are full when each free machine is refused.
    kind = OutOfCapacity if name == "own" and fault is Fault.QUOTA else ERRORS[fault]
    with running(name, Script(*[fault] * 50), machines=3) as (provider, fake):
        with pytest.raises(kind) as caught:
            provider.launch(order(name))
        assert (caught.value.provider, caught.value.operation) == (name, "launch")
        if isinstance(caught.value, RateLimited):
            assert caught.value.retry_after_s == 1.0
        fake.schedule = Script()
        listed = [m for m in provider.list({"launch": KEY}) if m.state is not State.FAILED]
        assert listed == []
        assert fake.violations == []


READ_ERRORS = {
    Fault.RATE_LIMITED: RateLimited,
    Fault.SERVER_ERROR: Transient,
    Fault.TIMEOUT: Transient,
    Fault.LOST_ANSWER: Transient,
    Fault.GARBLED: Transient,
}


@pytest.mark.parametrize("fault", READ_ERRORS)
def test_faults_of_every_reading_call_are_typed(name: str, fault: Fault) -> None:
    case = CASES[name]
    with running(name) as (provider, fake):
        machine = provider.launch(order(name))
        calls = {
            "regions": lambda: provider.regions(),
            "sizes": lambda: provider.sizes(case.cloud_region),
            "get": lambda: provider.get(machine.id),
            "list": lambda: provider.list({"launch": KEY}),
        }
        for operation, call in calls.items():
            fake.schedule = Script(*[fault] * 9, creating=False)
            with pytest.raises(READ_ERRORS[fault]) as caught:
                call()
            assert caught.value.operation == operation
            assert not getattr(caught.value, "outcome_unknown", False)
        fake.schedule = Script(*[fault] * 9, creating=False)
        health = provider.console_health()
        assert fault is Fault.GARBLED or (not health.reachable and health.detail)


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.LOST_ANSWER, Fault.TIMEOUT, Fault.RATE_LIMITED])
def test_a_failed_termination_can_be_repeated(name: str, fault: Fault) -> None:
    with running(name) as (provider, fake):
        machine = provider.launch(order(name))
        fake.schedule = lambda request, creates: None if request.method == "GET" else fault
        with pytest.raises(CloudError):
            provider.terminate(machine.id)
        fake.schedule = Script()
        provider.terminate(machine.id)
        assert fake.cloud.machines() == ()


@pytest.mark.parametrize("tags", [
    {"managed_by": "terraform", "deployment": DEPLOYMENT},
    {"managed_by": "autoscaler", "deployment": "another"},
    {"owner": "somebody"},
])  # fmt: skip
def test_what_others_made_is_left_alone(name: str, tags: dict[str, str]) -> None:
    with running(name) as (provider, fake):
        theirs = CASES[name].theirs(fake.cloud, tags)
        with pytest.raises(NotOurs, match="managed_by="):
            provider.terminate(theirs)
        assert theirs in fake.cloud.machines()
        assert reap(provider, DEPLOYMENT, {}).terminated == ()


def test_a_machine_of_terraform_is_left_alone_even_where_the_books_name_it(name: str) -> None:
    with running(name) as (provider, fake):
        tags = {"managed_by": "terraform", "deployment": DEPLOYMENT, "launch": KEY}
        theirs = CASES[name].theirs(fake.cloud, tags)
        done = reap(provider, DEPLOYMENT, {KEY: Booked(wanted=False, machine_id=theirs)})
        assert (done.terminated, done.adopted, done.strangers, done.failed) == ((), (), (), ())
        assert theirs in fake.cloud.machines()


def test_a_machine_that_terraform_took_over_is_left_alone(name: str) -> None:
    """It changed hands between the reaper's look and its deed."""
    with running(name) as (provider, fake):
        seen = provider.launch(order(name))
        provider.terminate(seen.id)
        theirs = CASES[name].theirs(fake.cloud, {"managed_by": "terraform", "deployment": DEPLOYMENT, "launch": KEY})
        late = Listed(provider, (dataclasses.replace(seen, id=theirs),))
        done = reap(late, DEPLOYMENT, {KEY: Booked(wanted=False)})
        ((_, error),) = done.failed
        assert isinstance(error, NotOurs)
        assert (done.terminated, theirs in fake.cloud.machines()) == ((), True)


class Listed:
    """An adapter whose list is from a moment ago."""

    def __init__(self, provider: CloudProvider, machines: tuple[Machine, ...]) -> None:
        self._provider = provider
        self._machines = machines

    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return what was there."""
        return self._machines

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def test_wrong_credentials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    with case.served(3, judged=False) as fake, closing(case.opened(fake.url, "wrong-token", 0.5)) as provider:
        with pytest.raises(AuthFailed) as caught:
            provider.launch(order(name))
        assert "wrong-token" not in str(caught.value)
        health = provider.console_health()
        assert (health.reachable, health.authorised) == (True, False)


def test_unknown_machines_sizes_and_regions(name: str, world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    for machine_id in (CASES[name].unknown_id, "../account", ""):
        with pytest.raises(NotFound):
            provider.get(machine_id)
        provider.terminate(machine_id)
    with pytest.raises(OutOfCapacity if name == "own" else Refused):
        provider.launch(order(name, size="no-such-size"))
    assert fake.cloud.machines() == ()


def test_nobody_there(name: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with closing(CASES[name].opened(f"http://127.0.0.1:{port}", TOKEN, 0.5)) as provider:
        with pytest.raises(Transient) as caught:
            provider.launch(order(name))
        assert not caught.value.outcome_unknown
        assert SECRET not in str(caught.value)
        assert not provider.console_health().reachable


def script_of(body: dict[str, Any]) -> str:
    """Return where each cloud wants the start-up script."""
    if "properties" in body:
        return str(body["properties"]["osProfile"]["customData"])
    metadata = body.get("metadata", {})
    return str(body.get("user_data") or metadata.get("user_data") or metadata["items"][0]["value"])


def test_no_error_shows_a_secret(name: str) -> None:
    """A cloud that repeats the whole request in its refusal."""
    with running(name, judged=False) as (provider, fake):
        answer = fake.cloud.answer

        def echo(request: Request) -> Reply:
            if not fake.cloud.creates(request):
                return answer(request)
            said = f"{script_of(request.body)} {request.headers['authorization']}"
            return Reply(400, {"error": {"message": said}, "errors": [{"reason": said}], "code": "x", "message": said})

        fake.cloud.answer = echo  # type: ignore[method-assign]
        with pytest.raises(CloudError) as caught:
            provider.launch(order(name))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        shown = str(caught.value)
        assert "***" in shown
        assert TOKEN not in shown
        assert SECRET not in shown
        assert base64.b64encode(order(name).user_data.encode()).decode() not in shown
        assert SECRET not in repr(order(name))


def test_settings() -> None:
    with pytest.raises(NotConfigured, match="no such adapter; there are"):
        open_provider("digitalocean", {})
    with pytest.raises(NotConfigured, match="setting deployment is missing"):
        open_provider("vultr", {}, {"VULTR_API_KEY": "x"})
    with pytest.raises(NotConfigured, match="setting regoin is unknown; there are base_url, deployment"):
        open_provider("vultr", {"deployment": "d", "regoin": "ams"}, {"VULTR_API_KEY": "x"})
    with pytest.raises(NotConfigured, match="VULTR_API_KEY is not set"):
        open_provider("vultr", {"deployment": "d"}, {})
    with pytest.raises(NotConfigured, match="setting os_id must be int"):
        open_provider("vultr", {"deployment": "d", "os_id": "2136"}, {"VULTR_API_KEY": "x"})
    with pytest.raises(NotConfigured, match="must match"):
        open_provider("vultr", {"deployment": "Prod Europe"}, {"VULTR_API_KEY": "x"})
    assert Conflict("own", "launch", "taken").outcome_unknown is False
