"""The service discovery answer, read as strictly as Prometheus reads it (``discovery/http`` and ``targetgroup``)."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.api.conftest import World, fleet, node_body

PATH = "/v1/prometheus/targets"
LABEL_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
ADDRESS = re.compile(r"^(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")


def read(response: httpx.Response) -> list[tuple[str, dict[str, str]]]:
    """Addresses with their labels. Prometheus takes status 200 and this media type only, and these two fields."""
    assert response.status_code == 200
    assert re.fullmatch(r"(?i)application/json(; ?charset=\"?utf-8\"?)?", response.headers["Content-Type"].strip())
    groups: Any = response.json()
    assert isinstance(groups, list), "null is an empty answer to Go, and would drop every target"
    found = []
    for group in groups:
        assert set(group) == {"targets", "labels"}
        for name, value in group["labels"].items():
            assert LABEL_NAME.match(name) and isinstance(value, str), name
        for target in group["targets"]:
            assert ADDRESS.match(target) and "/" not in target and 0 < int(target.rpartition(":")[2]) < 65_536
            found.append((target, group["labels"]))
    return found


async def test_the_control_plane_is_found_where_it_was_asked_and_serves_metrics_there(bare: World) -> None:
    ((address, labels),) = read(await bare.http.get(PATH, headers=await bare.key("viewer")))
    assert address == f"{bare.http.base_url.host}:{bare.http.base_url.port or 80}"
    assert labels == {
        "__scheme__": "http", "__metrics_path__": "/metrics", "__meta_tendril_role": "control-plane",
    }  # fmt: skip
    scraped = await bare.http.get(f"{labels['__scheme__']}://{address}{labels['__metrics_path__']}")
    assert scraped.status_code == 200 and b"tendril_" in scraped.content
    elsewhere = read(await bare.http.get(PATH, headers={"Host": "[2001:db8::1]:7400"}))
    assert elsewhere[0][0] == "[2001:db8::1]:7400"
    for nonsense in ("a:99999", "a:b", "a/b", "[", "", "x y:1"):
        ((own, _),) = read(await bare.http.get(PATH, headers={"Host": nonsense}))
        assert own == "127.0.0.1:80", nonsense


async def test_nodes_are_listed_at_the_port_that_is_asked_for(bare: World) -> None:
    assert len(read(await bare.http.get(PATH, params={"node_port": 9100}))) == 1, "an empty fleet has no nodes"
    await bare.post("/v1/fleet", fleet())
    more = {"data_center": "gcp-ams", "labels": {"rack.row": "7", "team": "ops"}}
    await bare.put("/v1/nodes/gcp-ams-1", node_body("gcp-ams-1") | more)
    six = node_body("gcp-ams-2") | {"data_center": "gcp-ams", "addresses": {"internet": "2001:db8::2"}}
    await bare.put("/v1/nodes/gcp-ams-2", six)
    await bare.put("/v1/nodes/gcp-ams-3", {"data_center": "gcp-ams", "addresses": {}, "reflector_port": 7421})
    found = read(await bare.http.get(PATH, params={"node_port": 9100}))[1:]
    assert [address for address, _ in found] == ["127.0.0.9:9100", "[2001:db8::2]:9100"], "one has no address"
    assert found[0][1] == {
        "__meta_tendril_role": "node",
        "__meta_tendril_node": "gcp-ams-1",
        "__meta_tendril_data_center": "gcp-ams",
        "__meta_tendril_provider": "gcp",
        "__meta_tendril_region": "amsterdam",
        "__meta_tendril_roles": ",edge,",
        "__meta_tendril_intent": "serving",
        "__meta_tendril_data_center_intent": "serving",
        "__meta_tendril_label_rack_row": "7",
        "__meta_tendril_label_team": "ops",
    }


async def test_bad_questions_are_refused(bare: World) -> None:
    told = await bare.call("GET", PATH, status=422, params={"node_port": "0"})
    assert (told["code"], told["field"]) == ("invalid_parameter", "node_port")
    assert (await bare.call("GET", PATH, status=401, headers={"Authorization": "Bearer tk_no"}))[
        "code"
    ] == "key_invalid"
