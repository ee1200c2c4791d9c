"""What is Oracle's own: signatures, retry tokens, regions, and a 404 that can mean "not allowed"."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.adapters.cases import missing
from bench.adapters.clouds import CASES, TOKEN, running
from bench.adapters.drill import DEPLOYMENT
from providers.adapters import open_provider
from providers.base import AuthFailed, CloudProvider, NotConfigured, NotFound, Order, OutOfCapacity, Refused
from providers.fake.server import FakeCloud, Fault, Reply, Request, Script

KEY = "0123456789abcdef0123456789abcdef"
SIZE = "VM.Standard.E5.Flex:2:16"


def order(key: str = KEY, **more: Any) -> Order:
    return Order(key, "frankfurt", **{"cloud_region": "eu-frankfurt-1", "size": SIZE} | more)


@pytest.fixture(autouse=True)
def installed() -> None:
    lacking = missing(CASES["oracle"])
    if lacking is not None:
        pytest.skip(lacking)


@pytest.fixture
def world() -> Iterator[tuple[CloudProvider, FakeCloud]]:
    with running("oracle") as (provider, fake):
        yield provider, fake
        assert fake.violations == []


def launched(provider: CloudProvider, fake: FakeCloud) -> Request:
    """Launch, and return the request as it came."""
    seen: list[Request] = []
    answer = fake.cloud.answer

    def noted(request: Request) -> Reply:
        seen.append(request)
        return answer(request)

    fake.cloud.answer = noted  # type: ignore[method-assign]
    provider.launch(order())
    fake.cloud.answer = answer  # type: ignore[method-assign]
    return next(r for r in seen if r.method == "POST")


def test_the_signature_covers_request_and_body(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    request = launched(provider, fake)
    assert fake.cloud.answer(request).status == 200
    another_date = {**request.headers, "date": "Thu, 05 Jan 2014 21:31:40 GMT"}
    no_body = {k: v for k, v in request.headers.items() if k != "x-content-sha256"}
    for forged in (
        dataclasses.replace(request, raw=request.raw.replace(b"frankfurt", b"karlsruhe")),
        dataclasses.replace(request, target=request.target + "?x=1"),
        dataclasses.replace(request, headers=another_date),
        dataclasses.replace(request, headers=no_body),
        dataclasses.replace(request, headers={**request.headers, "authorization": "Bearer x"}),
    ):
        assert fake.cloud.answer(forged).status == 401


def test_no_room_is_said_as_an_internal_error() -> None:
    refused = pytest.raises(OutOfCapacity, match=r"\[500\] InternalError: Out of host capacity")
    with running("oracle", Script(Fault.OUT_OF_CAPACITY)) as (provider, _), refused:
        provider.launch(order())


def test_a_key_whose_machine_is_gone_is_used_up(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    provider.terminate(provider.launch(order()).id)
    with pytest.raises(Refused, match="the machine of this key is gone"):
        provider.launch(order())
    assert fake.cloud.machines() == ()


def test_the_zone_is_a_name_or_a_number(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    for key, zone in (("a", None), ("b", "2"), ("c", "Uocm:EU-FRANKFURT-1-AD-3")):
        provider.launch(order(key, zone=zone))
    rows = fake.cloud._rows.values()  # type: ignore[attr-defined]
    assert [r["availabilityDomain"][-1] for r in rows] == ["1", "2", "3"]
    with pytest.raises(Refused, match="has no zone 4; it has Uocm:EU-FRANKFURT-1-AD-1"):
        provider.launch(order("d", zone="4"))


def test_machines_of_all_regions_in_pages(
    world: tuple[CloudProvider, FakeCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, _ = world
    monkeypatch.setattr("providers.fake.oracle._PAGE", 2)
    made = [provider.launch(order(key)).id for key in "abc"]
    made += [provider.launch(order(key, cloud_region="us-ashburn-1")).id for key in "def"]
    assert [m.id for m in provider.list({"deployment": DEPLOYMENT})] == made


def test_not_found_is_not_believed_where_we_may_not_look(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, fake = world
    machine = provider.launch(order())
    answer = fake.cloud.answer
    hidden = Reply(404, {"code": "NotAuthorizedOrNotFound", "message": "Authorization failed or not found."})
    fake.cloud.answer = lambda request: hidden  # type: ignore[method-assign]
    with pytest.raises(AuthFailed, match="the compartment is not to be seen either"):
        provider.terminate(machine.id)
    one = f"/instances/{machine.id.partition('/')[2]}"
    fake.cloud.answer = lambda request: hidden if request.path.endswith(one) else answer(request)  # type: ignore[method-assign]
    with pytest.raises(AuthFailed, match="is listed, and may not be read"):
        provider.terminate(machine.id)
    fake.cloud.answer = answer  # type: ignore[method-assign]
    provider.terminate(machine.id)
    with pytest.raises(NotFound):
        provider.get(machine.id)


def test_sizes_and_limits(world: tuple[CloudProvider, FakeCloud]) -> None:
    provider, _ = world
    sizes = {s.name: (s.vcpus, s.memory_mib) for s in provider.sizes("eu-frankfurt-1")}
    assert sizes[SIZE] == (4, 16_384)
    assert sizes["VM.Standard2.1"] == (2, 15_360)
    assert "VM.Standard.E5.Flex" not in sizes
    cores, memory = provider.quota("eu-frankfurt-1")
    assert (cores.name, cores.used, cores.limit) == ("standard-e5-core-count", 12, 72)  # of three zones
    assert memory.name == "standard-e5-memory-count"
    for size in ("VM.Standard.E5.Flex:2", "VM.Standard.E5.Flex:two:16"):
        with pytest.raises(Refused):
            provider.launch(order(size=size))
    assert provider.launch(order(size="VM.Standard2.1")).size == "VM.Standard2.1"


def test_settings(tmp_path: Path) -> None:
    case = CASES["oracle"]
    settings = {"deployment": "d", **case.settings("http://127.0.0.1:1")}
    with pytest.raises(NotConfigured, match="credentials: ConfigFileNotFound"):
        open_provider("oracle", settings, {"OCI_CONFIG_FILE": str(tmp_path / "none")})
    with pytest.raises(NotConfigured, match="credentials: ProfileNotFound"):
        open_provider("oracle", settings, {**case.environ(TOKEN), "OCI_CLI_PROFILE": "another"})
    refused = pytest.raises(Refused, match="name none in ap-tokyo-1")
    with closing(open_provider("oracle", settings, case.environ(TOKEN))) as provider, refused:
        provider.launch(order(cloud_region="ap-tokyo-1"))
