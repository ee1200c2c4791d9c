"""A typed synchronous client of the HTTP contract, for the CLI, tests, the demo and media servers written in Python.

Every call returns the parsed JSON of the contract, or raises ``ApiProblem`` or ``Unreachable``.
Connections are kept open between calls; close the client, or use it as a context manager.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import httpx

from router.client.answers import Json, ServerEvent, Unreachable, object_of, parse_events, problem_of, why
from router.core.errors import InputRejected

Params = Mapping[str, str | int | float | bool | None]

DEFAULT_URL = "http://127.0.0.1:7400"
KEY_FILE = Path("var") / "admin.key"
_STREAM_SILENCE_S = 30.0  # three missed heartbeats of 10 s: the other side is gone
_PAGE = 500  # items asked for per page when a whole collection is wanted
_LONG_POLL_SLACK_S = 5.0  # a long poll may answer a little after the time it was allowed to wait


class Client:
    """Calls of the contract, by resource."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = 10.0) -> None:
        if not _is_address(url):
            raise InputRejected("url_invalid", f"{url!r} is no http:// or https:// address", field="--url")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InputRejected("key_invalid", "a key is printable ASCII text", field="--key")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self.authorization = f"Bearer {key}" if key else None
        headers = {"Authorization": self.authorization} if self.authorization else {}
        # The environment may name a proxy or a private CA, but nothing on this machine is reached through a proxy.
        trust_env = not _is_loopback(url)
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=trust_env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- transport ---------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> httpx.Response:
        """Send one request; answers 2xx and 304 are returned. Raises :class:`ApiProblem` and :class:`Unreachable`."""
        timeout = self._timeout_s if not wait_s else wait_s + _LONG_POLL_SLACK_S
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            response = self._http.request(
                method, path, params=given, json=body, headers=dict(headers or {}), timeout=timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.url, why(self.url, error)) from error
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise problem_of(response)

    def call(self, method: str, path: str, *, params: Params | None = None, body: object = None) -> Json:
        """Send one request and return the JSON object of its answer (empty for 204)."""
        response = self.request(method, path, params=params, body=body)
        return {} if response.status_code == httpx.codes.NO_CONTENT else object_of(self.url, response)

    def pages(self, path: str, params: Params | None = None, limit: int | None = None) -> list[Json]:
        """Return the items of a paged collection, all of them or the first ``limit``."""
        found: list[Json] = []
        query = dict(params or {})
        while True:
            if limit is not None:
                query["limit"] = min(_PAGE, limit - len(found))
            page = self.call("GET", path, params=query)
            found.extend(page["items"])
            query["after"] = page.get("next")
            if not query["after"] or (limit is not None and len(found) >= limit):
                return found[:limit]

    def events_of(self, path: str, params: Params | None = None, last_id: str | None = None) -> Iterator[ServerEvent]:
        """Follow a stream of server-sent events until it ends; silence beyond its heartbeats is an error."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(self._timeout_s, read=_STREAM_SILENCE_S)
        try:
            with self._http.stream("GET", path, params=given, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise problem_of(response)
                yield from parse_events(response.iter_lines())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.url, why(self.url, error)) from error

    # --- intent ------------------------------------------------------------------------------------------------------

    def resources(self, kind: str) -> list[Json]:
        """Return a whole collection, such as ``data-centers``."""
        return self.pages(f"/v1/{_id(kind)}")

    def resource(self, kind: str, id: str) -> Json:
        """Return one resource."""
        return self.call("GET", f"/v1/{_id(kind)}/{_id(id)}")

    def put(self, kind: str, id: str, body: Json, *, if_match: int | None = None) -> Json:
        """Create or replace one resource; ``if_match`` is the revision it must still have."""
        headers = {"If-Match": f'"{if_match}"'} if if_match is not None else {}
        return object_of(self.url, self.request("PUT", f"/v1/{_id(kind)}/{_id(id)}", body=body, headers=headers))

    def delete(self, kind: str, id: str, *, if_match: int | None = None) -> None:
        """Delete one resource."""
        headers = {"If-Match": f'"{if_match}"'} if if_match is not None else {}
        self.request("DELETE", f"/v1/{_id(kind)}/{_id(id)}", headers=headers)

    def apply_fleet(self, body: Json) -> Json:
        """Apply (or, with ``dry_run``, only compare) a whole fleet; the answer lists the changes."""
        return self.call("POST", "/v1/fleet", body=body)

    # --- answers -----------------------------------------------------------------------------------------------------

    def route(self, source: str, target: str, *, traffic_class: str = "voice", policy: str | None = None) -> Json:
        """Return the best route now, both directions."""
        params = {"class": traffic_class, "policy": policy}
        return self.call("GET", f"/v1/routes/{_id(source)}/{_id(target)}", params=params)

    def routes(self, pairs: Iterable[tuple[str, str]], *, traffic_class: str = "voice") -> Json:
        """Return the routes of many pairs, all of one generation."""
        body = {"class": traffic_class, "pairs": [{"from": a, "to": b} for a, b in pairs]}
        return self.call("POST", "/v1/routes/batch", body=body)

    def table(
        self, source: str, *, traffic_class: str = "voice", etag: str | None = None, wait_s: float | None = None
    ) -> tuple[Json | None, str | None]:
        """Return one ingress' routes and their ETag; ``None`` when they are still those of ``etag``."""
        response = self.request(
            "GET",
            "/v1/routes",
            params={"from": source, "class": traffic_class, "wait_s": wait_s},
            headers={"If-None-Match": etag} if etag else None,
            wait_s=wait_s or 0.0,
        )
        unchanged = response.status_code == httpx.codes.NOT_MODIFIED
        return (None if unchanged else object_of(self.url, response)), response.headers.get("etag", etag)

    def watch(self, source: str, *, traffic_class: str = "voice", last_id: str | None = None) -> Iterator[ServerEvent]:
        """Follow one ingress' routes: ``table`` once, then ``delta``."""
        return self.events_of("/v1/routes/watch", {"from": source, "class": traffic_class}, last_id)

    def explain(
        self, source: str, target: str, *, traffic_class: str = "voice", policy: str | None = None, limit: int = 1_000
    ) -> Json:
        """Return every candidate path with its metric terms and why it lost, the best ``limit`` of each direction."""
        params = {"class": traffic_class, "policy": policy, "limit": str(limit)}
        return self.call("GET", f"/v1/routes/{_id(source)}/{_id(target)}/explain", params=params)

    def links(
        self, *, source: str | None = None, target: str | None = None, transport: str | None = None
    ) -> list[Json]:
        """Return link estimates."""
        return self.pages("/v1/links", {"from": source, "to": target, "transport": transport})

    def matrix(self, transport: str | None = None) -> Json:
        """Return all pairs: rows from, columns to, null where unknown."""
        return self.call("GET", "/v1/matrix", params={"transport": transport})

    def health(self) -> Json:
        """Return data centers and regions x providers with their state and evidence."""
        return self.call("GET", "/v1/health")

    def targets(self, kind: str | None = None) -> list[Json]:
        """Return every target, or those of a kind, with its intent, health and capacity."""
        return self.pages("/v1/targets", {"kind": kind})

    def flows(self) -> Json:
        """Return sessions per link and per relay."""
        return self.call("GET", "/v1/flows")

    def events(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        kind: str | None = None,
        subject: str | None = None,
        limit: int = 100,
    ) -> list[Json]:
        """Return audit and decisions, newest first."""
        params = {"since": since, "until": until, "kind": kind, "subject": subject}
        return self.pages("/v1/events", params, limit)

    def stream(self, last_id: str | None = None) -> Iterator[ServerEvent]:
        """Follow everything that happens: ``hello``, ``generation``, ``event``, ``resync``."""
        return self.events_of("/v1/stream", None, last_id)

    # --- sessions, pools ---------------------------------------------------------------------------------------------

    def start_session(self, body: Json, *, idempotency_key: str | None = None) -> Json:
        """Start a session; the same idempotency key and body give the same session again."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        return object_of(self.url, self.request("POST", "/v1/sessions", body=body, headers=headers))

    def steer(self, body: Json) -> Json:
        """Return where a session would be placed, without starting it."""
        return self.call("POST", "/v1/steer", body=body)

    def session(self, id: str) -> Json:
        """Return one session."""
        return self.call("GET", f"/v1/sessions/{_id(id)}")

    def sessions(self, params: Params | None = None, *, limit: int | None = 100) -> list[Json]:
        """Return sessions; filters are ``data_center, state, client, pool, metadata.KEY``."""
        return self.pages("/v1/sessions", params, limit)

    def session_events(self, id: str) -> list[Json]:
        """Return a session's life, with reasons."""
        return self.pages(f"/v1/sessions/{_id(id)}/events")

    def resume_session(self, id: str, token: str, client: Json, unreachable: Sequence[str] = ()) -> Json:
        """Take a session up again: same agent, best edge now but none of ``unreachable``, a new token."""
        body: Json = {"token": token, "client": client, "unreachable": list(unreachable)}
        return self.call("POST", f"/v1/sessions/{_id(id)}/resume", body=body)

    def end_session(self, id: str) -> Json:
        """End a session and free its agent."""
        return self.call("DELETE", f"/v1/sessions/{_id(id)}")

    def agents(self, pool: str) -> list[Json]:
        """Return the agents of a pool."""
        return self.pages(f"/v1/pools/{_id(pool)}/agents")

    def capacity(self) -> list[Json]:
        """Return per pool how many places of agents are idle, busy and warming, and how many sessions wait."""
        return self.pages("/v1/capacity")

    def capacity_report(self) -> Json:
        """Return the same with what may be bought (``buying``) and what was (``launches``)."""
        return self.call("GET", "/v1/capacity")

    def launch(self, id: str) -> Json:
        """Return a bought machine, and as a canary what its sessions showed."""
        return self.call("GET", f"/v1/launches/{_id(id)}")

    def act_on_launch(self, id: str, action: str) -> Json:
        """``vouch`` for a canary, or ``return`` a machine to its provider."""
        return self.call("POST", f"/v1/launches/{_id(id)}/{_id(action)}")

    def register_agent(self, pool: str, body: Json) -> Json:
        """Register an agent, or find the lease it still has."""
        return self.call("POST", f"/v1/pools/{_id(pool)}/agents", body=body)

    # --- drains ------------------------------------------------------------------------------------------------------

    def drain(self, body: Json) -> Json:
        """Start a drain (or, with ``dry_run``, only plan it) and return its plan."""
        return self.call("POST", "/v1/drains", body=body)

    def simulate(self, body: Json) -> Json:
        """Ask what removing or adding something would do; nothing is done."""
        return self.call("POST", "/v1/simulations", body=body)

    def drains(self) -> list[Json]:
        """Return all drains, newest first."""
        return self.pages("/v1/drains")

    def practices(self) -> list[Json]:
        """Return the drains that are practised every week."""
        return list(self.call("GET", "/v1/drains?limit=1")["practices"])

    def ramps(self) -> list[Json]:
        """Return all ramps, newest first."""
        return self.pages("/v1/ramps")

    def ramp(self, id: str) -> Json:
        """Return one ramp with its evidence."""
        return self.call("GET", f"/v1/ramps/{_id(id)}")

    def begin_ramp(self, body: Json) -> Json:
        """Let a data center earn its users."""
        return self.call("POST", "/v1/ramps", body=body)

    def act_on_ramp(self, id: str, action: str) -> Json:
        """``pause``, ``resume``, ``advance`` or ``roll-back`` a ramp."""
        return self.call("POST", f"/v1/ramps/{_id(id)}/{_id(action)}")

    def act_on_drain(self, id: str, action: str, body: Json | None = None) -> Json:
        """``pause``, ``resume`` or ``undo`` a drain; ``undo`` takes ``force``."""
        return self.call("POST", f"/v1/drains/{_id(id)}/{_id(action)}", body=body)

    # --- access ------------------------------------------------------------------------------------------------------

    def keys(self) -> list[Json]:
        """Return the keys, without their secrets."""
        return self.pages("/v1/keys")

    def create_key(self, scope: str, name: str) -> Json:
        """Create a key; its text is in this answer and nowhere else."""
        return self.call("POST", "/v1/keys", body={"scope": scope, "name": name})

    def revoke_key(self, id: str) -> None:
        """Revoke a key at once."""
        self.request("DELETE", f"/v1/keys/{_id(id)}")

    def webhooks(self) -> list[Json]:
        """Return the webhooks and how deliveries to them go."""
        return self.pages("/v1/webhooks")

    def put_webhook(self, id: str, body: Json) -> Json:
        """Create or replace a webhook; the answer to the first call has its secret."""
        return self.put("webhooks", id, body)

    def test_webhook(self, id: str) -> Json:
        """Post a test message to a webhook now, and return what came of it."""
        return self.call("POST", f"/v1/webhooks/{_id(id)}/test")

    def renew_webhook_secret(self, id: str) -> Json:
        """Make another secret for a webhook; it is in this answer and nowhere else."""
        return self.call("POST", f"/v1/webhooks/{_id(id)}/secret")

    def webhook_deliveries(self, id: str, limit: int = 100) -> list[Json]:
        """Return the oldest messages that wait for a webhook."""
        return list(self.call("GET", f"/v1/webhooks/{_id(id)}/deliveries", params={"limit": limit})["items"])

    def join_token(self, data_center: str, expires_in_s: int) -> Json:
        """Create a single-use token with which one node joins a data center."""
        path = f"/v1/data-centers/{_id(data_center)}/join-tokens"
        return self.call("POST", path, body={"expires_in_s": expires_in_s})


def from_env(
    url: str | None = None,
    key: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    key_file: Path = KEY_FILE,
    timeout_s: float = 10.0,
) -> Client:
    """Return a client by arguments, else ``TENDRIL_URL`` and ``TENDRIL_KEY``, else the local control plane.

    Without a key the local control plane's own admin key file is used when it is readable, but only towards a loopback
    address: the key of this machine must not travel to whoever else an address names.
    """
    env = os.environ if environ is None else environ
    chosen = url or env.get("TENDRIL_URL") or DEFAULT_URL
    secret = key or env.get("TENDRIL_KEY")
    if not secret and _is_loopback(chosen):
        try:
            secret = key_file.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            secret = None  # no key: the control plane will say that it needs one
    return Client(chosen, secret, timeout_s=timeout_s)


def _id(text: str) -> str:
    return quote(text, safe="")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, an unfinished IPv6 address
        return False


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
