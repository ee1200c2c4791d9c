"""Hot paths: what they answer has the bytes of what FastAPI answers, and whatever is unusual is left to FastAPI."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.api.hot import HotApp, with_body
from router.api.hot_routes import Batch, HotRoutes
from router.core.model import TrafficClass
from router.core.tables import Context, Health, View
from router.runtime import Runtime
from router.schemas.fragments import Fragments
from tests.api.conftest import PLACES, World

VOICE = Context(TrafficClass.VOICE, None)
PAIRS = [(a, b) for a in PLACES for b in PLACES if a != b]


@pytest.fixture
async def ruled(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The measured world with a policy, its clock and its View stopped."""
    await world.put("/v1/policies/eu-only", {"match": {"class": "voice"}, "deny_regions": ["singapore"]})
    await world.measured()
    stop(world, monkeypatch)
    yield world


def stop(world: World, monkeypatch: pytest.MonkeyPatch, later_us: int = 0) -> None:
    """Stop the clock and the View of a world, ``later_us`` from now."""
    runtime = world.app.runtime
    view, now = runtime.view, runtime.now() + later_us
    monkeypatch.setattr(Runtime, "view", property(lambda _: view))
    monkeypatch.setattr(Runtime, "now", lambda _: now)


@contextmanager
def counted(world: World) -> Iterator[dict[str, int]]:
    """How many requests a hot path answered, and how many went on to FastAPI."""
    app = world.app.http
    assert isinstance(app, HotApp)
    seen = {"hot": 0, "on": 0}
    table = app.hot
    before = dict(table.exact), dict(table.under), table.plain
    table.exact |= {at: with_body(path) for at, path in table.plain.items()}
    table.plain = {}
    for paths in (table.exact, table.under):
        for at, path in list(paths.items()):

            async def counting(asked: Any, path: Any = path) -> Any:
                answer = await path(asked)
                seen["on" if answer is None else "hot"] += 1
                return answer

            paths[at] = counting
    try:
        yield seen
    finally:
        table.exact, table.under, table.plain = before


async def both(world: World, method: str, path: str, **options: Any) -> tuple[httpx.Response, bool]:
    """Ask with and without hot paths: status, headers and bytes must agree; and whether a hot path answered."""
    app = world.app.http
    assert isinstance(app, HotApp)
    with counted(world) as seen:
        hot = await world.http.request(method, path, **options)
    before = app.hot.exact, app.hot.under, app.hot.plain
    app.hot.exact, app.hot.under, app.hot.plain = {}, {}, {}
    try:
        cold = await world.http.request(method, path, **options)
    finally:
        app.hot.exact, app.hot.under, app.hot.plain = before
    assert (hot.status_code, hot.content) == (cold.status_code, cold.content)
    assert hot.headers.raw == cold.headers.raw
    return hot, seen["hot"] == 1


async def test_every_pair_class_and_policy_has_the_same_bytes(ruled: World) -> None:
    for source, target in PAIRS:
        for query in ("", "?class=agent", "?class=voice&policy=eu-only", "?policy=eu-only", "?class=video"):
            response, hot = await both(ruled, "GET", f"/v1/routes/{source}/{target}{query}")
            assert hot == (response.status_code == 200), query


async def test_it_has_the_same_bytes_as_time_goes_by(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    for later_us in (0, 1, 999, 10_000, 123_456, 1_000_000, 14_999_999, 86_400_000_000):
        stop(world, monkeypatch, later_us)
        for source, target in rng.sample(PAIRS, 4):
            response, hot = await both(world, "GET", f"/v1/routes/{source}/{target}")
            assert hot and response.is_success
    assert response.json()["stale"] is True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/routes/linode-fra/nowhere"),
        ("GET", "/v1/routes/linode-fra/linode-fra"),
        ("GET", "/v1/routes/linode-fra/Oracle%20Iad"),
        ("GET", "/v1/routes/linode-fra/oracle-iad?class=bogus"),
        ("GET", "/v1/routes/linode-fra/oracle-iad?class=voice&class=agent"),
        ("GET", "/v1/routes/linode-fra/oracle-iad?policy=nobody"),
        ("GET", "/v1/routes/linode-fra/oracle-iad?class=agent&policy=eu-only"),
        ("GET", "/v1/routes/linode-fra/oracle-iad?colour=red"),
        ("GET", "/v1/routes/linode-fra/oracle-iad/"),
        ("GET", "/v1/routes/linode-fra/oracle-iad/more"),
        ("GET", "/v1/routes/linode-fra"),
        ("HEAD", "/v1/routes/linode-fra/oracle-iad"),
        ("HEAD", "/v1/routes?from=linode-fra"),
        ("POST", "/v1/routes/linode-fra/oracle-iad"),
        ("OPTIONS", "/v1/routes/linode-fra/oracle-iad"),
        ("GET", "/v1/routes/batch"),
        ("GET", "/v1/routes"),
        ("GET", "/v1/routes?from=nowhere"),
        ("GET", "/v1/routes?from=linode-fra&wait_s=-1"),
        ("PUT", "/v1/routes/batch"),
    ],
)
async def test_what_is_refused_is_refused_by_fastapi(ruled: World, method: str, path: str) -> None:
    response, hot = await both(ruled, method, path)
    assert not hot and response.status_code >= 400


async def test_strangers_and_weak_keys_are_told_the_same(ruled: World) -> None:
    node = ruled.node_headers("linode-fra-1")
    for authorization in ("", "Bearer", "Bearer ", "Basic x", "Bearer tk_0", node["Authorization"]):
        response, hot = await both(
            ruled, "GET", "/v1/routes/linode-fra/oracle-iad", headers={"Authorization": authorization}
        )
        assert not hot and response.status_code in (401, 403)
    viewer = await ruled.key("viewer")
    response, hot = await both(ruled, "GET", "/v1/routes/linode-fra/oracle-iad", headers=viewer)
    assert hot and response.is_success


async def test_one_ingress_table_is_the_same_and_waiting_is_left_to_fastapi(ruled: World) -> None:
    for path in ("/v1/routes?from=linode-fra", "/v1/routes?class=voice&from=gcp-ams&policy=eu-only"):
        response, hot = await both(ruled, "GET", path)
        assert hot and len(response.json()["routes"]) == len(PLACES) - 1
        tag = {"If-None-Match": response.headers["etag"]}
        again, hot = await both(ruled, "GET", path, headers=tag)
        assert not hot and again.status_code == 304
        waited, hot = await both(ruled, "GET", f"{path}&wait_s=0.01", headers=tag)
        assert not hot and waited.status_code == 304
        other, _ = await both(ruled, "GET", path, headers={"If-None-Match": '"7"'})
        assert other.status_code == 200


async def test_a_batch_is_the_same_and_a_bad_one_is_refused_the_same(ruled: World) -> None:
    pairs = [{"from": a, "to": b} for a, b in random.Random(5).choices(PAIRS, k=50)]
    for body in ({"pairs": pairs}, {"pairs": pairs[:1], "class": "agent"}, {"pairs": pairs, "policy": "eu-only"}):
        response, hot = await both(ruled, "POST", "/v1/routes/batch", json=body)
        assert hot and len(response.json()["routes"]) == len(body["pairs"])
    bad: list[dict[str, Any]] = [
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}},
        {"content": b'{"pairs":[]}', "headers": {"Content-Type": "text/plain"}},
        {"json": {"pairs": []}},
        {"json": {"pairs": [{"from": "linode-fra", "to": "nowhere"}]}},
        {"json": {"pairs": pairs, "class": "bogus"}},
        {"json": {"pairs": pairs, "colour": "red"}},
        {"json": {"pairs": pairs}, "params": {"class": "voice"}},
        {},
    ]
    for options in bad:
        response, hot = await both(ruled, "POST", "/v1/routes/batch", **options)
        assert not hot and response.status_code >= 400, options


async def test_batches_hold_no_fragments_of_what_is_over(ruled: World) -> None:
    routes = HotRoutes()
    view, batches = ruled.app.runtime.view, [Batch(VOICE, (pair,)) for pair in PAIRS[:3]]
    routes._batches = {bytes([i]): batch for i, batch in enumerate(batches)}
    found = [routes._found(view, batch) for batch in batches]
    assert [routes._found(view, batch) for batch in batches] == found and routes.fragments.count == 3
    routes.fragments.look(replace(view, routes=replace(view.routes)))  # type: ignore[type-var]
    assert routes._found(view, batches[0]) != found[0]
    assert [batch.found for batch in batches[1:]] == [(), ()]


async def test_without_a_table_fastapi_answers(bare: World) -> None:
    await bare.put("/v1/providers/gcp", {})
    response, hot = await both(bare, "GET", "/v1/routes/a/b")
    assert not hot and response.status_code == 404


async def test_fragments_go_with_what_they_were_made_of_and_keep_their_bound(ruled: World) -> None:
    view = ruled.app.runtime.view
    assert view.routes is not None
    context, kept = view.routes.snapshot.contexts[0], Fragments()
    kept.look(view)
    for pair in PAIRS:
        assert kept.make(view, context, *pair) is not None
    assert kept.look(replace(view, now=view.now + 1)) is False and len(kept.of(context)) == len(PAIRS)
    assert kept.look(replace(view, links=replace(view.links))) is True and kept.of(context) == {}
    small = Fragments(max_chars=12_000)
    small.look(view)
    for pair in PAIRS:
        small.make(view, context, *pair)
        assert 0 < len(small.of(context)) < len(PAIRS)


def _same(view: View, _: Runtime) -> View:
    return view


async def test_the_reason_of_a_missing_path_follows_health(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    view = world.app.runtime.view
    assert view.routes is not None
    reachable = view.routes.reachable.copy()
    reachable[:, :, view.inventory.index["oracle-sin"]] = False  # type: ignore[index]
    cut = replace(view, routes=replace(view.routes, reachable=reachable))
    seen = []
    for state in (Health.UP, Health.DOWN):
        health = tuple(replace(one, state=state, reason="silent for 3 s") for one in cut.health)
        shown = replace(cut, health=health)
        monkeypatch.setattr(Runtime, "view", property(partial(_same, shown)))
        monkeypatch.setattr(Runtime, "now", lambda _: view.now)
        response, hot = await both(world, "GET", "/v1/routes/linode-fra/oracle-sin")
        assert hot and response.json()["forward"] is None
        seen.append(response.json()["reasons"][0])
    assert "down" not in seen[0] and "is down: silent for 3 s" in seen[1]


HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "authorization", "if-none-match", "x", "transfer-encoding"]),
    st.one_of(st.sampled_from(["application/json", "0", "-1", "7", "Bearer x", "*"]), st.text("ab\xe9 ;=", max_size=9)),
    max_size=4,
)
PATHS = st.one_of(
    st.sampled_from(
        ["/v1/routes", "/v1/routes/batch", "/v1/sessions/heartbeat", "/v1/reports", "/v1/routes/linode-fra/oracle-iad"]
    ),
    st.text(max_size=30).map(lambda text: "/v1/routes/" + text),
)


async def test_whatever_comes_in_it_is_never_a_500_and_the_same_as_without(ruled: World) -> None:
    app = ruled.app.http
    assert isinstance(app, HotApp)
    key = ruled.http.headers["authorization"].encode()

    async def ask(method: str, path: str, query: bytes, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        if "authorization" not in headers:
            raw.append((b"authorization", key))
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
            "headers": raw, "root_path": "", "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"},
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        parts = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    cases: list[tuple[Any, ...]] = []

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.sampled_from(["GET", "POST", "HEAD", "PUT"]), PATHS, st.binary(max_size=30), HEADERS, st.binary(max_size=60)
    )
    def collect(method: str, path: str, query: bytes, headers: dict[str, str], body: bytes) -> None:
        cases.append((method, path, query, headers, body))

    collect()
    for case in cases:
        hot = await ask(*case)
        before = app.hot.exact, app.hot.under, app.hot.plain
        app.hot.exact, app.hot.under, app.hot.plain = {}, {}, {}
        cold = await ask(*case)
        app.hot.exact, app.hot.under, app.hot.plain = before
        assert hot == cold and hot[0] < 500, case
