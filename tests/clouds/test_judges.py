"""The judges judge: a request or an answer that a cloud's description does not allow is a violation."""

from __future__ import annotations

import pytest

from bench.adapters.cases import missing
from bench.adapters.clouds import CASES
from providers.fake.server import Description, Reply, Request


def judge(name: str) -> Description:
    lacking = missing(CASES[name])
    if lacking is not None:
        pytest.skip(lacking)
    return CASES[name].description()


def post(path: str, body: object, **query: str) -> Request:
    return Request("POST", path, query, {}, body)


def get(path: str, **query: str) -> Request:
    return Request("GET", path, query, {}, None)


@pytest.mark.parametrize("body", [
    {"region": "us-east"},
    {"region": "us-east", "type": "g6-nanode-1", "label": "a"},
    {"region": "us-east", "type": "g6-nanode-1", "label": "two--dashes"},
    {"region": "us-east", "type": "g6-nanode-1", "tags": "one"},
    {"region": 1, "type": "g6-nanode-1"},
    None,
])  # fmt: skip
def test_linode_bodies(body: object) -> None:
    assert judge("linode").request_faults(post("/v4/linode/instances", body))


def test_linode() -> None:
    linode = judge("linode")
    good = {"region": "us-east", "type": "g6-nanode-1", "label": "tendril-0123", "tags": ["launch=0123"]}
    assert linode.request_faults(post("/v4/linode/instances", good)) == []
    assert linode.request_faults(get("/v4/linode/instances", page="1", page_size="500")) == []
    assert linode.request_faults(get("/v4/linode/instances", page_size="600"))
    assert linode.request_faults(get("/v4/linode/instances", label="x"))
    assert linode.request_faults(get("/v4/linode/machines"))
    assert linode.request_faults(get("/linode/instances"))
    single = get("/v4/linode/instances/7")
    assert linode.reply_faults(single, Reply(200, {"id": 7, "status": "running", "ipv6": None})) == []
    assert linode.reply_faults(single, Reply(200, {"id": "7"}))
    assert linode.reply_faults(single, Reply(200, {"status": "melting"}))


def test_vultr() -> None:
    vultr = judge("vultr")
    good = {"region": "ams", "plan": "vc2-1c-1gb", "os_id": 2136, "tags": ["launch=0123"]}
    assert vultr.request_faults(post("/v2/instances", good)) == []
    assert vultr.request_faults(post("/v2/instances", good | {"plann": "x"}))
    assert vultr.request_faults(post("/v2/instances", good | {"user_data": "#!/bin/sh"}))
    assert vultr.request_faults(get("/v2/instances", per_page="501"))
    assert vultr.reply_faults(post("/v2/instances", good), Reply(200, {}))
    assert vultr.reply_faults(get("/v2/regions"), Reply(200, {"regions": [{"id": "ams"}], "meta": {}}))


def test_own() -> None:
    own = judge("own")
    assert own.request_faults(post("/machines/r1/power", {"power": "off", "launch": "0123"})) == []
    assert own.request_faults(post("/machines/r1/power", {"power": "off"}))
    assert own.request_faults(post("/machines/r1/power", {"power": "reset", "launch": "0123"}))
    assert own.reply_faults(get("/machines"), Reply(200, {"machines": [{"id": "r1"}]}))


AZURE = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590"
MACHINE = f"{AZURE}/resourceGroups/edge/providers/Microsoft.Compute/virtualMachines/a"


def put(path: str, body: object, **query: str) -> Request:
    return Request("PUT", path, {"api-version": "2026-04-01"} | query, {}, body)


@pytest.mark.parametrize("body", [
    {},  # no location
    {"location": "westeurope", "size": "Standard_B1s"},
    {"location": "westeurope", "tags": ["a"]},
    {"location": "westeurope", "id": "what only the cloud tells"},
    {"location": "westeurope", "properties": {"provisioningState": "Succeeded"}},
    {"location": "westeurope", "properties": {"storageProfile": {"osDisk": {"deleteOption": "Delete"}}}},
    {"location": "westeurope", "properties": {"networkProfile": {"networkApiVersion": "1999-01-01"}}},
])  # fmt: skip
def test_azure_bodies(body: object) -> None:
    assert judge("azure").request_faults(put(MACHINE, body))


def test_azure() -> None:
    azure = judge("azure")
    disk = {"createOption": "FromImage", "deleteOption": "Delete"}
    good = {"location": "westeurope", "properties": {"storageProfile": {"osDisk": disk}}}
    request = put(MACHINE, good)
    assert azure.request_faults(request) == []
    assert azure.request_faults(put(f"{MACHINE}/start", good))
    assert azure.request_faults(put(MACHINE, good, force="true"))
    told = {"location": "westeurope", "id": MACHINE, "properties": {"provisioningState": "Succeeded"}}
    assert azure.reply_faults(request, Reply(201, told)) == []
    assert azure.reply_faults(request, Reply(201, told | {"state": "up"}))
    assert azure.reply_faults(request, Reply(201, {"id": MACHINE}))
    assert azure.reply_faults(request, Reply(409, {"error": {"code": "SkuNotAvailable", "message": "none"}})) == []
    assert azure.reply_faults(request, Reply(409, {"error": {"kode": "SkuNotAvailable"}}))
    listed = Request("GET", f"{AZURE}/locations", {"api-version": "2022-12-01"}, {}, None)
    assert azure.reply_faults(listed, Reply(200, {"regions": []}))


@pytest.mark.parametrize("change", [
    {"compartmentId": None},
    {"availabilityDomain": 1},
    {"displayname": "a"},
    {"sourceDetails": {"sourceType": "tape", "imageId": "ocid1.image.x"}},
    {"sourceDetails": {"sourceType": "image", "image": "ocid1.image.x"}},
    {"shapeConfig": {"ocpus": "2"}},
    {"createVnicDetails": {"subnet": "x"}},
])  # fmt: skip
def test_oracle_bodies(change: dict[str, object]) -> None:
    good = {"compartmentId": "ocid1.c", "availabilityDomain": "AD-1", "shape": "VM.Standard2.1",
            "sourceDetails": {"sourceType": "image", "imageId": "ocid1.image.x"}}  # fmt: skip
    oracle, path = judge("oracle"), "/compute/eu-frankfurt-1/20160918/instances"
    assert oracle.request_faults(post(path, good)) == []
    assert oracle.request_faults(post(path, good | change))


def test_oracle() -> None:
    oracle = judge("oracle")
    path = "/compute/eu-frankfurt-1/20160918/instances"
    assert oracle.request_faults(get(path, compartmentId="ocid1.c", limit="1000")) == []
    assert oracle.request_faults(get(path, compartmentId="ocid1.c", limit="1001"))
    assert oracle.request_faults(get("/compute/eu-frankfurt-1/20160918/machines"))
    row = {"id": "i", "availabilityDomain": "a", "compartmentId": "c", "region": "r", "shape": "s",
           "lifecycleState": "RUNNING", "timeCreated": "2026-01-01T00:00:00Z"}  # fmt: skip
    assert oracle.reply_faults(get(path), Reply(200, [row])) == []
    assert oracle.reply_faults(get(path), Reply(200, [row | {"lifecycleState": "MELTING"}]))
    assert oracle.reply_faults(get(path), Reply(200, [{k: v for k, v in row.items() if k != "shape"}]))
    assert oracle.reply_faults(get(path), Reply(500, {"error": "x"}))
