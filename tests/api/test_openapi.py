"""The OpenAPI document agrees with the contract and with the answers, and no example it allows breaks the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.api.conftest import ADMIN_KEY, World, listening

RESOURCES = ("providers", "regions", "data-centers", "nodes", "links", "policies", "pools")
CONTRACT: dict[str, set[str]] = {
    **{f"/v1/{kind}/{{id}}": {"put", "get", "delete"} for kind in RESOURCES},
    **{f"/v1/{kind}": {"get"} for kind in RESOURCES},
    "/v1/data-centers/{id}/join-tokens": {"get", "post"},
    "/v1/join-tokens/{id}": {"get", "delete"},
    "/v1/join": {"post"},
    "/v1/fleet": {"post"},
    "/v1/nodes/{id}/plan": {"get"},
    "/v1/nodes/{id}/reaction-plan": {"get"},
    "/v1/nodes/{id}/ack": {"post"},
    "/v1/keys": {"get", "post"},
    "/v1/keys/{id}": {"delete"},
    "/v1/routes/{from}/{to}": {"get"},
    "/v1/routes/batch": {"post"},
    "/v1/routes": {"get"},
    "/v1/routes/watch": {"get"},
    "/v1/routes/{from}/{to}/explain": {"get"},
    "/v1/links/{from}/{to}/history": {"get"},
    "/v1/flows": {"get"},
    "/v1/matrix": {"get"},
    "/v1/beacons": {"post"},
    "/v1/clients": {"get"},
    "/v1/clients/{ip}": {"get"},
    "/v1/reports": {"post"},
    "/v1/steer": {"post"},
    "/v1/sessions": {"get", "post"},
    "/v1/sessions/{id}": {"get", "delete"},
    "/v1/sessions/{id}/resume": {"post"},
    "/v1/sessions/{id}/legs": {"get", "post"},
    "/v1/sessions/{id}/legs/{leg}": {"get", "delete"},
    "/v1/sessions/{id}/legs/{leg}/resume": {"post"},
    "/v1/sessions/heartbeat": {"post"},
    "/v1/sessions/{id}/events": {"get"},
    "/v1/pools/{pool}/agents": {"get", "post"},
    "/v1/pools/{pool}/agents/{id}/heartbeat": {"post"},
    "/v1/pools/{pool}/agents/{id}/release": {"post"},
    "/v1/pools/{pool}/agents/{id}/cordon": {"post"},
    "/v1/pools/{pool}/agents/{id}/uncordon": {"post"},
    "/v1/capacity": {"get"},
    "/v1/launches/{id}": {"get"},
    "/v1/launches/{id}/return": {"post"},
    "/v1/launches/{id}/vouch": {"post"},
    "/v1/health": {"get"},
    "/v1/drains": {"get", "post"},
    "/v1/drains/{id}": {"get"},
    **{f"/v1/drains/{{id}}/{verb}": {"post"} for verb in ("pause", "resume", "undo")},
    "/v1/simulations": {"post"},
    "/v1/prometheus/targets": {"get"},
    "/v1/ramps": {"get", "post"},
    "/v1/ramps/{id}": {"get"},
    **{f"/v1/ramps/{{id}}/{verb}": {"post"} for verb in ("advance", "pause", "resume", "roll-back", "robots")},
    "/v1/ramps/{id}/calls": {"post"},
    "/v1/ramps/{id}/calls/{session}": {"post"},
    "/v1/targets": {"get"},
    "/v1/webhooks": {"get"},
    "/v1/webhooks/{id}": {"get", "put", "delete"},
    "/v1/webhooks/{id}/test": {"post"},
    "/v1/webhooks/{id}/secret": {"post"},
    "/v1/webhooks/{id}/deliveries": {"get"},
    "/v1/events": {"get"},
    "/v1/stream": {"get"},
    "/v1/sign-in": {"get", "post", "delete"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}
QUERIES = {
    ("/v1/routes/{from}/{to}", "get"): {"class", "policy"},
    ("/v1/routes", "get"): {"from", "class", "policy", "wait_s"},
    ("/v1/links", "get"): {"from", "to", "transport", "limit", "after"},
    ("/v1/links/{from}/{to}/history", "get"): {"since", "until", "step_s", "transport"},
    ("/v1/matrix", "get"): {"transport", "class"},
    ("/v1/sessions", "get"): {"data_center", "state", "client", "pool", "limit", "after"},
}
FIELDS = {
    "DataCenterBody": {
        "id", "provider", "region", "roles", "latitude", "longitude", "capacity", "egress_usd_per_gb", "media_url",
        "intent", "labels", "revision",
    },
    "PolicyBody": {
        "id", "priority", "match", "allow_providers", "deny_providers", "allow_regions", "deny_regions",
        "allow_transports", "max_relays", "max_price_usd_per_gb", "pin", "revision",
    },
    "Route": {
        "from", "to", "class", "generation", "computed_at", "age_ms", "stale", "forward", "return", "rtt_ms",
        "direct_rtt_ms", "backups", "valid_until", "reasons",
    },
    "Path": {"path", "transports", "delay_ms", "error_ms", "jitter_ms", "loss_pct", "mos", "metric_us"},
    "PlaceBody": {"client", "pool", "to", "class", "constraints", "metadata"},
    "ClientBody": {"ip", "asn", "country", "latitude", "longitude"},
    "ConstraintsBody": {"allow_providers", "deny_providers", "allow_regions", "deny_regions", "max_rtt_ms"},
    "SessionAnswer": {
        "id", "state", "edge", "edges", "agent", "forward", "return", "backups", "token", "lease_expires_at", "grace_s",
        "reasons",
    },
    "ResumeBody": {"token", "client", "unreachable"},
    "HeartbeatBody": {"node", "epoch", "changed", "totals"},
    "DrainBody": {"selector", "mode", "deadline_s", "reason", "expires_at", "dry_run", "force"},
    "SimulationBody": {"remove", "add"},
    "SimulationAnswer": {
        "generation", "age_ms", "summary", "removed", "added", "routes", "partitions", "sessions", "headroom",
        "data_centers", "regions", "refusals", "notes",
    },
    "LinkAnswer": {
        "rtt_ms", "forward_ms", "return_ms", "error_ms", "jitter_ms", "loss_pct", "age_ms", "samples", "state",
        "provenance",
    },
    "Matrix": {"generation", "data_centers", "rtt_ms", "forward_ms", "return_ms", "jitter_ms", "loss_pct", "age_ms"},
}  # fmt: skip


async def document(world: World) -> Any:
    """The OpenAPI document as a stranger gets it."""
    return await world.get("/openapi.json", headers={"Authorization": ""})


async def test_the_contract_is_all_there_and_nothing_else(bare: World) -> None:
    openapi = await document(bare)
    assert openapi["openapi"].startswith("3.1")
    assert {path: set(operations) for path, operations in openapi["paths"].items()} == CONTRACT


async def test_parameters_and_fields_have_the_contracts_names(bare: World) -> None:
    openapi = await document(bare)
    for (path, method), names in QUERIES.items():
        found = {p["name"] for p in openapi["paths"][path][method]["parameters"] if p["in"] == "query"}
        assert names == found, path
    for model, names in FIELDS.items():
        assert names <= set(openapi["components"]["schemas"][model]["properties"]), model


async def test_every_operation_says_what_it_is_who_may_and_how_it_refuses(bare: World) -> None:
    openapi = await document(bare)
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            refusal = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert refusal == {"$ref": "#/components/schemas/Problem"}
            assert "422" not in operation["responses"]
            is_open = not path.startswith("/v1/") or (path in ("/v1/join", "/v1/sign-in") and method != "get")
            assert ("security" in operation) != is_open, (method, path)
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    text = json.dumps(openapi)
    assert all(
        f"#/components/schemas/{name}" not in text or name in openapi["components"]["schemas"] for name in FIELDS
    )


# These wait or never end by design; they have tests of their own.
ENDLESS = {"/v1/stream", "/v1/routes/watch"}
# Defining a webhook makes the server call an address, and nobody may be called at addresses out of a generator.
CALLS_OUT = {("/v1/webhooks/{id}", "put")}
EXAMPLES = 12  # per operation: about 65 operations within the time the whole suite can spare


NODES_OWN = {"/v1/reports", "/v1/nodes/{id}/ack"}


def fuzz(url: str, node_key: str) -> int:
    """Run generated requests against a server; how many were sent. Raises on a 5xx or an answer off its schema."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in ENDLESS or (operation.path, operation.method) in CALLS_OUT:
            continue

        @seed(20261122)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def one(case: Any) -> None:
            nonlocal sent
            if isinstance(case.query, dict) and "wait_s" in case.query:
                case.query = {name: value for name, value in case.query.items() if name != "wait_s"}
            key = node_key if case.operation.path in NODES_OWN else ADMIN_KEY
            headers = {"Authorization": f"Bearer {key}"}
            response = case.call(headers=headers, timeout=20)
            sent += 1
            case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

        one()
    return sent


@pytest.mark.slow
async def test_no_example_of_the_schema_is_a_server_error_or_answers_off_its_schema(world: World) -> None:
    await world.agent()
    await world.session()
    async with listening(world.app) as url:
        sent = await asyncio.to_thread(fuzz, url, world.node_keys["gcp-ams-1"])
    assert sent > 350
