"""Refusals: one document for everything that goes wrong, garbage never a server error, every code documented."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from router.api.problems import STATUS, of_crash, status_of
from router.core.errors import InputRejected, Unavailable, Unsafe
from router.core.model import KINDS
from router.schemas.problems import Problem
from router.schemas.resources import singular
from tests.api.conftest import World, running

ROOT = Path(__file__).parents[2]
ERRORS = {"InputRejected", "Unavailable", "Unsafe", "Refused"}
# Codes that only commands on an operator's own machine raise; they never cross HTTP.
LOCAL = (
    "router/addresses.py",
    "router/bootstrap.py",
    "router/cli",
    "router/client",
    "router/demo",
    "router/purchasing.py",
    "router/settings.py",
    "router/sim",
    "router/vantages.py",
)


# Chosen by what the framework says and not by a literal next to the exception.
MADE_ELSEWHERE = {
    "bad_request", "not_found", "method_not_allowed", "body_too_large", "missing_field", "unknown_field",
    "invalid_field", "missing_parameter", "invalid_parameter", "internal_error",
}  # fmt: skip


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that a response is a whole problem document."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    document = Problem.model_validate(response.json())
    assert (document.code, document.status, document.type) == (code, status, f"urn:tendril:problem:{code}")
    return dict(response.json())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("GET", "/v1/providers/", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/providers/a/b/c", 404, "not_found"),
        ("PATCH", "/v1/providers/a", 405, "method_not_allowed"),
        ("POST", "/v1/health", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("DELETE", "/v1/drains/x", 405, "method_not_allowed"),
    ],
)
async def test_unknown_paths_and_methods(bare: World, method: str, path: str, status: int, code: str) -> None:
    is_problem(await bare.http.request(method, path), status, code)


async def test_405_lists_all_methods_that_would_do(bare: World) -> None:
    response = await bare.http.patch("/v1/providers/a")
    assert response.headers["Allow"] == "DELETE, GET, PUT"


GARBAGE = [
    b"{", b"\xff\xfe\x00", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 6_000, b'"' + b"\\u0000" * 10 + b'"', b"tru",
    b"{'a': 1}",
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_the_callers_fault(bare: World, body: bytes) -> None:
    response = await bare.http.put("/v1/providers/x", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    is_problem(response, response.status_code, response.json()["code"])
    assert response.json()["code"] in ("malformed_json", "bad_request", "invalid_field")


async def test_a_body_that_is_not_an_object_or_missing(bare: World) -> None:
    for body in (b"[]", b"5", b'"x"', b"null"):
        response = await bare.http.put("/v1/providers/x", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422 and response.json()["field"] == "body", body
    is_problem(await bare.http.put("/v1/providers/x"), 422, "missing_field")


async def test_malformed_text_is_refused_without_breaking_the_refusal(bare: World) -> None:
    for body in (b'{"name": "\\ud800"}', b'{"\\ud800": 1}', b'{"labels": {"\\ud800": "x"}}'):
        response = await bare.http.put("/v1/providers/x", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert response.json()["code"] in ("invalid_field", "unknown_field")
    long = await bare.http.put("/v1/providers/x", json={"k" * 5_000: 1})
    assert long.status_code == 422 and len(long.content) < 2_000


async def test_only_json_is_read(bare: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = await bare.http.put("/v1/providers/x", content=b"{}", headers={"Content-Type": kind})
        is_problem(response, 415, "unsupported_media_type")
    response = await bare.http.put(
        "/v1/providers/x", content=b"{}", headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert response.status_code == 201


async def test_a_body_has_a_limit_whether_or_not_it_says_its_length(tmp_path: Path) -> None:
    async with running(tmp_path, max_body_bytes=65_536) as world:
        big = json.dumps({"name": "x" * 70_000}).encode()
        kind = {"Content-Type": "application/json"}
        is_problem(await world.http.put("/v1/providers/x", content=big, headers=kind), 413, "body_too_large")

        async def chunks():  # type: ignore[no-untyped-def]
            for i in range(0, len(big), 1_000):
                yield big[i : i + 1_000]

        is_problem(await world.http.put("/v1/providers/x", content=chunks(), headers=kind), 413, "body_too_large")
        node = await world.key("agent:n")
        response = await world.http.post("/v1/reports", content=chunks(), headers=node)
        is_problem(response, 413, "body_too_large")
        assert (await world.get("/v1/providers"))["items"] == []


async def test_several_broken_rules_are_all_named(bare: World) -> None:
    response = await bare.http.put("/v1/regions/x", json={"country": "x", "latitude": 91, "longitude": 0, "oops": 1})
    document = is_problem(response, 422, "invalid_field")
    assert {error["field"] for error in document["errors"]} == {"country", "latitude", "oops"}  # type: ignore[attr-defined]


def test_whose_fault_it_is_decides_where_the_table_is_silent() -> None:
    assert status_of(InputRejected("some_new_code", "x")) == 422
    assert status_of(Unsafe("some_new_code", "x")) == 409
    assert status_of(Unavailable("some_new_code", "x")) == 503


def test_a_defect_is_500_and_tells_nothing() -> None:
    request = Request({"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b""})
    response = of_crash(request, ValueError("secret detail"))
    assert response.status_code == 500
    assert json.loads(bytes(response.body))["code"] == "internal_error" and b"secret" not in bytes(response.body)


async def test_before_the_start_everything_is_not_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.app.runtime.stop()
        response = await world.http.get("/v1/health")
        assert response.headers["Retry-After"] == "1"
        is_problem(response, 503, "not_ready")
        is_problem(await world.http.get("/readyz"), 503, "not_ready")
        assert (await world.http.get("/healthz")).status_code == 200


def raised() -> dict[str, set[str]]:
    """Every error code that the source raises, with the files that do; read from the syntax trees."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "router").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(LOCAL):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                first = node.args[0]
                if called in ERRORS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.setdefault(first.value, set()).add(name)
                if called == "problem" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                    found.setdefault(str(node.args[1].value), set()).add(name)
    for kind in KINDS:
        found.setdefault(f"unknown_{singular(kind)}", set()).add("router/store/resources.py")
    return found


def documented() -> dict[str, int]:
    """Codes and statuses of the tables in docs/reference/errors.md."""
    text = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    return {code: int(status) for code, status in re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", text, re.MULTILINE)}


def test_every_code_that_is_raised_has_a_status_and_is_documented() -> None:
    codes = raised()
    assert len(codes) > 40, "the scan found suspiciously little"
    unlisted = {code: files for code, files in codes.items() if code not in STATUS}
    assert unlisted == {}
    assert set(STATUS) - set(codes) - MADE_ELSEWHERE == set(), "these are never raised"
    assert documented() == dict(STATUS)
