"""Who may do what: every endpoint against every scope, cookies and their CSRF header, keys that come and go."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import APIRoute

from router.access import scope_allows
from router.api.app import GROUPS
from router.api.gate import Require, need_of
from tests.api.conftest import World

OPEN = {("POST", "/v1/join"), ("POST", "/v1/sign-in"), ("DELETE", "/v1/sign-in")}
OPEN |= {("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/v1/beacon.js")}
EXPECTED: dict[tuple[str, str], str] = {
    ("GET", "/v1/routes"): "viewer",
    ("POST", "/v1/routes/batch"): "viewer",
    ("GET", "/v1/routes/watch"): "viewer",
    ("GET", "/v1/stream"): "viewer",
    ("POST", "/v1/steer"): "media",
    ("POST", "/v1/sessions"): "media",
    ("GET", "/v1/sessions"): "viewer",
    ("DELETE", "/v1/sessions/{id}"): "media",
    ("POST", "/v1/sessions/{id}/resume"): "media",
    ("POST", "/v1/pools/{pool}/agents"): "media",
    ("POST", "/v1/pools/{pool}/agents/{id}/cordon"): "operator",
    ("GET", "/v1/capacity"): "viewer",
    ("PUT", "/v1/data-centers/{id}"): "operator",
    ("DELETE", "/v1/policies/{id}"): "operator",
    ("POST", "/v1/fleet"): "operator",
    ("POST", "/v1/drains"): "operator",
    ("POST", "/v1/drains/{id}/undo"): "operator",
    ("POST", "/v1/data-centers/{id}/join-tokens"): "operator",
    ("POST", "/v1/keys"): "admin",
    ("GET", "/v1/keys"): "admin",
    ("DELETE", "/v1/keys/{id}"): "admin",
}
ROUTES = [
    (method, route.path, need_of(route))
    for group in GROUPS
    for route in group.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
SCOPES = ("viewer", "media", "operator", "admin", "agent:gcp-ams-1")


def test_everything_but_a_named_few_needs_a_key() -> None:
    assert {(method, path) for method, path, need in ROUTES if need is None} == OPEN


def test_scopes_are_what_they_are_said_to_be() -> None:
    found = {(method, path): need.scope for method, path, need in ROUTES if need is not None}
    assert {call: found[call] for call in EXPECTED} == EXPECTED
    changing = {call: scope for call, scope in found.items() if call[0] in ("PUT", "DELETE")}
    assert all(scope not in (None, "viewer") for scope in changing.values()), changing


def admitted(need: Require, scope: str) -> bool:
    """Whether a key of a scope should pass; the path names node ``gcp-ams-1``."""
    if scope.startswith("agent:"):
        return need.as_node
    return need.scope is not None and scope_allows(scope, need.scope)


async def test_every_endpoint_admits_its_scopes_and_no_other(bare: World) -> None:
    headers = {scope: await bare.key(scope) for scope in SCOPES}
    del bare.http.headers["Authorization"]
    streams = {"/v1/stream", "/v1/routes/watch"}
    for method, path, need in ROUTES:
        if need is None:
            continue
        url = re.sub(r"\{\w+\}", "gcp-ams-1", path)
        strange = await bare.http.request(method, url)
        assert (strange.status_code, strange.json()["code"]) == (401, "key_missing"), (method, path)
        assert strange.headers["WWW-Authenticate"].startswith("Bearer")
        for scope in SCOPES:
            if admitted(need, scope) and path in streams:
                continue  # these never end; they are tested through a real server
            # A parameter that nobody knows: whoever is let in is told so, and nothing is done.
            answer = await bare.http.request(method, url, params={"no-such": "1"}, headers=headers[scope])
            if admitted(need, scope):
                assert answer.json()["code"] == "unknown_parameter", (method, path, scope)
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_insufficient"), (method, path, scope)
                assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic abc", "key_malformed"),
        ("Bearer", "key_malformed"),
        ("Bearer tk_0123456789ab_" + "x" * 43, "key_invalid"),
        ("Bearer nonsense", "key_invalid"),
        ("Bearer " + "x" * 5_000, "key_invalid"),
    ],
)
async def test_a_wrong_key_is_401_and_not_echoed(bare: World, header: str, code: str) -> None:
    refused = await bare.call("GET", "/v1/providers", status=401, headers={"Authorization": header})
    assert refused["code"] == code
    assert header.partition(" ")[2] == "" or header.partition(" ")[2] not in str(refused)


async def test_a_stranger_learns_nothing_from_a_broken_body(bare: World) -> None:
    del bare.http.headers["Authorization"]
    refused = await bare.call("PUT", "/v1/providers/x", status=401, content=b"{", headers={"Content-Type": "text/html"})
    assert refused["code"] == "key_missing"


async def test_a_key_is_shown_once_works_and_is_revoked(bare: World) -> None:
    made = await bare.post("/v1/keys", {"scope": "viewer", "name": "grafana"})
    mine = {"Authorization": f"Bearer {made['key']}"}
    await bare.get("/v1/providers", headers=mine)
    listed = (await bare.get("/v1/keys"))["items"]
    assert made["key"] not in str(listed) and made["key"].split("_", 2)[2] not in str(listed)
    assert {(k["scope"], k["name"]) for k in listed} == {("admin", "TENDRIL_ADMIN_KEY"), ("viewer", "grafana")}
    await bare.call("DELETE", f"/v1/keys/{made['id']}", status=204)
    assert (await bare.call("GET", "/v1/providers", status=401, headers=mine))["code"] == "key_invalid"
    revoked = next(k for k in (await bare.get("/v1/keys"))["items"] if k["id"] == made["id"])
    assert revoked["revoked_at"] is not None
    assert (await bare.call("DELETE", "/v1/keys/ffffffffffff", status=404))["code"] == "unknown_key"


async def test_the_last_admin_key_stays(bare: World) -> None:
    (only,) = (await bare.get("/v1/keys"))["items"]
    refused = await bare.call("DELETE", f"/v1/keys/{only['id']}", status=409)
    assert refused["code"] == "last_admin_key"
    other = await bare.key("admin")
    await bare.call("DELETE", f"/v1/keys/{only['id']}", status=204, headers=other)
    await bare.call("GET", "/v1/keys", status=401)


@pytest.mark.parametrize("scope", ["root", "agent:", "agent:Bad_Node", "", "viewer "])
async def test_a_scope_that_is_none_makes_no_key(bare: World, scope: str) -> None:
    refused = await bare.call("POST", "/v1/keys", status=422, json={"scope": scope, "name": "x"})
    assert refused["field"] == "scope"
    assert len((await bare.get("/v1/keys"))["items"]) == 1
