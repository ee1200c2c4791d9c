"""The agent's HTTP calls to the control plane: join, fetch the plans, acknowledge them, report.

Two ways to fail, because the agent reacts differently: :class:`Refused` (the control plane understood and said no:
trying the same again is pointless for a while) and :class:`Unreachable` (no answer, or not one that makes sense).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields

import httpx

from probes.state import Identity
from probes.wire import (
    ProbePlan,
    ProbeReport,
    ReactionPlan,
    ReportRows,
    WireError,
    decode_plan,
    decode_reaction_plan,
)

_REPORT_FIELDS = tuple(field.name for field in fields(ProbeReport) if field.name != "checks")
_ROWS_FIELDS = tuple(field.name for field in fields(ReportRows))

TIMEOUT_S = 5.0  # for a report, which is worthless soon; a control plane that needs longer is as good as gone


class UplinkError(Exception):
    """A call that did not do what it should."""


class Refused(UplinkError):
    """The control plane answered 4xx; ``status`` and the problem's ``code`` say why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}" if detail else f"{status} {code}")
        self.status = status
        self.code = code


class Unreachable(UplinkError):
    """No connection, no answer in time, a 5xx, or an answer that is not what was asked for."""


def token_digest(token: str) -> str:
    """What an identity remembers of the token that bought it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


class Uplink:
    """One control plane at ``url``, through a client that many agents may share."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")

    async def join(self, token: str, node: Mapping[str, object]) -> tuple[Identity, ProbePlan]:
        """Trade a single-use token for an identity and a first plan."""
        answer = await self._call("POST", "/v1/join", None, {"token": token, "node": node})
        try:
            identity = Identity(_text(answer, "node"), _text(answer, "data_center"), _text(answer, "key"),
                                token_digest(token))  # fmt: skip
            return identity, decode_plan(answer.get("plan"))
        except WireError as error:
            raise Unreachable(f"the answer to join is not understood: {error}") from error

    async def plan(self, identity: Identity) -> ProbePlan:
        """The node's plan as it is now."""
        answer = await self._call("GET", f"/v1/nodes/{identity.node}/plan", identity.key, None)
        try:
            plan = decode_plan(answer)
        except WireError as error:
            raise Unreachable(f"the plan is not understood: {error}") from error
        if plan.node != identity.node:
            raise Unreachable(f"the plan is for node {plan.node}, not {identity.node}")
        return plan

    async def reaction_plan(self, identity: Identity, etag: str, wait_s: float) -> tuple[ReactionPlan, str] | None:
        """The node's reaction plan and its entity tag; ``None`` if ``etag`` is still the newest after ``wait_s``."""
        headers = {"if-none-match": etag} if etag else {}
        path = f"/v1/nodes/{identity.node}/reaction-plan?wait_s={wait_s:g}"
        answer = await self._send("GET", path, identity.key, None, headers, wait_s + TIMEOUT_S)
        if answer.status_code == 304:
            return None
        try:
            return decode_reaction_plan(_parsed(answer)), answer.headers.get("etag", "")
        except WireError as error:
            raise Unreachable(f"the reaction plan is not understood: {error}") from error

    async def acknowledge(self, identity: Identity, plan_version: int, generation: int, etag: str) -> None:
        """Tell which plans the node follows; generation 0: no reaction plan yet."""
        body: dict[str, object] = {"plan_version": plan_version}
        if generation:
            body |= {"generation": generation, "reaction_etag": etag}
        await self._call("POST", f"/v1/nodes/{identity.node}/ack", identity.key, body)

    async def report(self, identity: Identity, report: ProbeReport) -> int:
        """Deliver a report; returns the version of the plan that the node should have."""
        answer = await self._call("POST", "/v1/reports", identity.key, _plain(report))
        version = answer.get("plan_version")
        if type(version) is not int:
            raise Unreachable("the answer to a report must name plan_version, an integer")
        return version

    async def beacons(self, identity: Identity, rows: list[dict[str, object]]) -> None:
        """Deliver round trips to machines in client networks."""
        await self._call("POST", "/v1/beacons", identity.key, rows)

    async def _call(self, method: str, path: str, key: str | None, body: object) -> dict[str, object]:
        return _parsed(await self._send(method, path, key, body, {}, TIMEOUT_S))

    async def _send(
        self, method: str, path: str, key: str | None, body: object, more: Mapping[str, str], timeout_s: float
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", **more} if key else dict(more)
        content = None
        if body is not None:
            content = json.dumps(body, separators=(",", ":")).encode()
            headers["content-type"] = "application/json"
        try:
            return await self._client.request(
                method, self._url + path, content=content, headers=headers, timeout=timeout_s
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def _parsed(answer: httpx.Response) -> dict[str, object]:
    """The JSON object of an answer. Raises :class:`Refused` or :class:`Unreachable`."""
    try:
        parsed = answer.json()
    except (ValueError, RecursionError) as error:
        raise Unreachable(f"status {answer.status_code} without JSON") from error
    if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
        problem = parsed if isinstance(parsed, dict) else {}
        raise Refused(answer.status_code, str(problem.get("code", "refused")), str(problem.get("detail", "")))
    if not answer.is_success or not isinstance(parsed, dict):
        raise Unreachable(f"status {answer.status_code}")
    return parsed


def _plain(report: ProbeReport) -> dict[str, object]:
    """What ``wire.encode`` gives, but with tuples, which JSON writes as lists: one pass less over every number."""
    record: dict[str, object] = {name: getattr(report, name) for name in _REPORT_FIELDS}
    record["rows"] = {name: getattr(report.rows, name) for name in _ROWS_FIELDS}
    record["reflexes"] = [asdict(event) for event in report.reflexes]
    if report.checks:  # none are asked for by a control plane that does not know them
        record["checks"] = [asdict(check) for check in report.checks]
    return record


def _text(answer: Mapping[str, object], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str) or not value:
        raise WireError(key, "must be a non-empty string")
    return value
