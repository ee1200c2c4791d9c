"""Writes reference pages from the code, so that they cannot drift: ``python -m router.api.reference FOLDER``.

``http-api.md`` comes from the endpoints, ``settings.md`` from the settings, ``metrics.md`` from the collector. A test
compares each with what is in ``docs/reference``. (``errors.md`` is written by hand, with a test that it is complete.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute
from prometheus_client.core import Metric
from pydantic.fields import FieldInfo

from router.api import agent_reference, drain_reference
from router.api.app import GROUPS
from router.api.gate import need_of
from router.core.plane import ControlPlane
from router.settings import PREFIX, Settings
from router.telemetry import Observed, Tallies, ViewCollector

API_HEAD = """# HTTP API

Generated from the endpoints by `python -m router.api.reference docs/reference`. The whole truth, with every field and
limit, is `/openapi.json` (OpenAPI 3.1); this page is the map.

- **Who may.** `Authorization: Bearer KEY`. Scopes are a ladder, `viewer` < `media` < `operator` < `admin`; a node's own
  key (`agent:<node>`) stands beside it and may act for that node alone. Browsers trade a key (`POST /v1/sign-in`) for
  the cookie `tendril_session` (HttpOnly, SameSite=Strict, 12 h from the last `GET /v1/sign-in`, at most 7 days;
  revoking the key ends it) and, to change something, add `X-Tendril-CSRF` with the `csrf_token` of that answer.
- **Strict.** Unknown fields and unknown or repeated parameters are refused; numbers are JSON numbers, finite and
  bounded; ids match `^[a-z0-9][a-z0-9-]{0,62}$`. Refusals are `application/problem+json`, see [errors](errors.md).
- **Units.** Times are RFC 3339 UTC, delays ms, loss %, prices US dollars; null where nothing is known, never 0.
- **Pages.** Collections answer `{"items": […], "next": …}`; pass `next` as `after`. `limit` bounds a page.
- **Revisions.** Resources carry `revision` and an `ETag`; `If-Match: "REVISION"` insists on it (412
  `revision_conflict`). `revision` in a body is ignored, so an answer may be sent back. An `intent` that a body leaves
  out stays what it is.
- **Freshness.** A change of intent, a drain, a link or a policy is in force in the routes before its answer leaves.
  `GET /v1/routes?from=` and plans have an `ETag`: `If-None-Match` gives 304, with `wait_s` it waits for a newer one.
- **Links.** `expected_ms` and `metric_us` of a link, and its age, follow every report at once; the rest is of the last
  link table, made once a second.
- **Idempotency.** `PUT` and `DELETE` of a session may be repeated; `POST /v1/sessions` with the same `Idempotency-Key`
  and body gives the same session for 24 h (the token is a fresh one of the same epoch). A join token that was made with
  an `Idempotency-Key` is given again for the same key until it is used, revoked or expired; then another one is made.
- **Resuming.** `POST /v1/sessions/{id}/resume` takes `{token, client, unreachable?}`. `unreachable` names up to 16 data
  centers whose edge did not answer the client just now; they are not offered in this answer (unknown names are passed
  over), and with nothing left it is 409 `no_edge`: ask again without them. An edge whose node had sessions and has said
  nothing for 1.5 s, or one and a half times its usual pause if that is longer, is the last choice. The same token sent
  again within 30 s gets a token of the same new epoch again; once that has been used at an edge or to resume, once the
  session has been moved or has ended, or later, the old token is 409 `fenced`.

"""
STREAMS = """
## Streams

Server-sent events, with a comment line as heartbeat every 10 s.

`GET /v1/routes/watch?from=X` sends `table` once (all routes of one ingress, as `GET /v1/routes?from=X`), then a `delta`
per generation: only routes whose path, backups or reachability changed or whose delay moved by more than 1 ms and 2 %,
and in `gone` the data centers that no longer exist. The event id is the generation. `Last-Event-ID` with the present
generation resumes without a table. A reader that takes more than 5 s for an event gets a fresh `table`. `end` says that
the ingress or policy was deleted.

`GET /v1/stream` sends `hello {generation, now, epoch}`, then `generation {generation, changed_pairs}`,
`event {at, kind, subject, actor, reason, detail}`, `drain` (id, state, share and progress) and `ramp` (as
`GET /v1/ramps/{id}` gives it) when they have changed, at most once a second each, and `resync {}` after events were
dropped because the reader was slow.
"""
SETTINGS_HEAD = f"""# Settings

Generated from the code by `python -m router.api.reference docs/reference`. A setting comes from a command line flag,
else from the environment (`{PREFIX}` and its name in capitals, such as `{PREFIX}PORT`), else from the YAML file that
`--config` names, else it is the default. An empty variable is an unset one. `tendril config check` checks them,
`tendril config show` prints them with secrets struck out, `tendril config schema` prints their JSON Schema.

| setting | default | allowed | meaning |
|---|---|---|---|
"""
METRICS_HEAD = """# Metrics

Generated from the collector by `python -m router.api.reference docs/reference`. `GET /metrics` needs no key. Everything
is read from the view at scrape time. Labels are `data_center`, `pool`, `provider` and words of fixed lists: the number
of series grows with the fleet and never with users, sessions or paths; NaN stands for "not known yet".

| metric | type | label | meaning |
|---|---|---|---|
"""
METRICS_TAIL = """
`tendril_routes_held_back`: the first question of the
[switching rule](../explanation/how-tendril-decides.md#changing-ones-mind) that the candidate failed.

| reason | the candidate is better, but |
|---|---|
| `absolute` | by less than the absolute margin |
| `relative` | by less than the relative margin |
| `windows` | the newest bucket does not agree with the average |
| `risk` | it is too likely to be worse than the direct path next |
| `regret` | better for so short a time that staying has not yet cost as much as a move |
| `dwell` | the pair changed its path lately and still waits |
| `herd` | too many pairs moved onto the same relay, or off a loaded one, at once; the best gains went first |

`tendril_evidence_refused_total`: what was left out, a report or a row of one (see
[Evidence is refused](../runbooks/evidence-refused.md)).

| reason | what |
|---|---|
| `duplicate` | a report that came in before, or came later than a newer one of the same agent |
| `unknown_node` | a report of a node that is not in the inventory |
| `unknown_peer` | a row about a node or transport that is not in the inventory (yet, or any more) |
| `faster_than_light` | a row whose round trip, or sum of one-way minima, is below half of what light in fibre needs |
| `contradiction` | a row whose two one-way minima add up to more than its round trip |
| `beacon_unknown_data_center` | a beacon about a data center that is gone |
| `beacon_without_network` | a beacon that nothing says whose network it is about |
| `beacon_outran_light` | a beacon faster than half of what light in fibre needs, be the place 1,500 km wrong |
| `network_forgotten` | a client network that was heard longest ago, when there were too many |
| `clock` | the delays of a row that the offsets known of the two clocks make impossible; its round trip still counts |
"""
OTHER_LABELS = {
    "tendril_routes_held_back": "`reason`",
    "tendril_evidence_refused": "`reason`",
    "tendril_capacity_forecast": "`pool`",
    "tendril_capacity_buffer": "`pool`",
    "tendril_capacity_missing": "`pool`",
    "tendril_launches": "`provider`, `state`",
    "tendril_launch_refusals": "`provider`, `kind`",
}


def http_api() -> str:
    """The map of all endpoints."""
    lines = [API_HEAD]
    titles: dict[str, list[str]] = {}
    for group in GROUPS:
        for route in group.routes:
            if isinstance(route, APIRoute):
                for method in sorted(route.methods or ()):
                    titles.setdefault(str(route.tags[0]), []).append(_row(method, route))
    for title, rows in titles.items():
        lines += [f"## {title.capitalize()}\n\n| call | needs | does |\n|---|---|---|\n", *rows, "\n"]
    return "".join(lines).rstrip("\n") + "\n" + STREAMS


def _row(method: str, route: APIRoute) -> str:
    need = need_of(route)
    scopes = (
        [] if need is None else [scope for scope in (need.scope, "agent:<node>" if need.as_node else None) if scope]
    )
    query = sorted(field.alias for field in route.dependant.query_params)
    asked = f" `?{'&'.join(query)}`" if query else ""
    text = (route.summary or (route.description or "").split("\n")[0]).rstrip(".")
    if route.summary and route.endpoint.__doc__:
        text = route.endpoint.__doc__.split("\n")[0].rstrip(".")
    text = text.replace("``", "`")
    needed = ", ".join(f"`{scope}`" for scope in scopes) or "nothing"
    return f"| `{method} {route.path}`{asked} | {needed} | {text} |\n"


def settings_page() -> str:
    """All settings with default, range and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "none" if field.default in (None, "") else str(field.default)
        rows.append(f"| `{name}` | `{default}` | {_allowed(name, field)} | {field.description} |\n")
    return SETTINGS_HEAD + "".join(rows)


def _allowed(name: str, field: FieldInfo) -> str:
    schema: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "minimum" in schema:
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    return "path" if field.annotation is Path else "text"


class _Nothing:
    """A control plane before its first input, for the collector to look at."""

    solves = 0
    solve_seconds = 0.0
    failures = 0
    inbox_depth = 0
    batches = 0
    requests = 0
    delivered = 0
    failed = 0
    given_up = 0
    reaped = 0

    def __init__(self) -> None:
        self.view = ControlPlane().view
        self.counts = self
        self.turnstile = self
        self.outbox = self
        self.machines = self
        self.refusals: dict[tuple[str, str], int] = {}

    def now(self) -> int:
        """The beginning of time."""
        return 0


def metrics_of(observed: Observed) -> Iterator[Metric]:
    """All metrics of a control plane."""
    yield from ViewCollector(observed, Tallies()).collect()


def metrics_page() -> str:
    """All metrics with type and meaning."""
    rows = []
    for metric in metrics_of(_Nothing()):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        per_data_center = metric.name.startswith(("tendril_data_center_", "tendril_sessions_"))
        label = "`data_center`" if per_data_center else OTHER_LABELS.get(metric.name, "–")
        rows.append(f"| `{name}` | {metric.type} | {label} | {metric.documentation} |\n")
    return METRICS_HEAD + "".join(rows) + METRICS_TAIL


PAGES = {
    "agents-of-pools.md": agent_reference.page,
    "drains.md": drain_reference.page,
    "http-api.md": http_api,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
}


def write(folder: Path) -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Command line: one argument, the folder to write to."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m router.api.reference FOLDER\n")
        return 2
    write(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
