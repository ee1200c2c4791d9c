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
