"""Sessions and the pools their agents come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import ClassName, Format, Key, Limit, Metadata, Output, Url, connect, pairs

Id = Annotated[str, typer.Argument(metavar="ID", help="Session.")]
PoolId = Annotated[str, typer.Argument(metavar="POOL", help="Pool.")]

session = typer.Typer(no_args_is_help=True, help="Start, show, list and end sessions.")
pool = typer.Typer(no_args_is_help=True, help="Pools of stateful agents.")


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command groups of this module."""
    app.add_typer(session, name="session", rich_help_panel=panel)
    app.add_typer(pool, name="pool", rich_help_panel=panel)


@session.command()
def start(
    ip: Annotated[str | None, typer.Option("--ip", help="Client address; kept as /24 or /48.")] = None,
    asn: Annotated[int | None, typer.Option("--asn", help="Client's AS number.")] = None,
    country: Annotated[str | None, typer.Option("--country", help="Client's country, ISO 3166-1 alpha-2.")] = None,
    latitude: Annotated[float | None, typer.Option("--lat", help="Client's latitude.")] = None,
    longitude: Annotated[float | None, typer.Option("--lon", help="Client's longitude.")] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Take an agent from this pool.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Or connect to this data center.")] = None,
    traffic_class: Annotated[
        ClassName | None, typer.Option("--class", help="Traffic class; the pool's, or voice.")
    ] = None,
    max_rtt_ms: Annotated[float | None, typer.Option("--max-rtt-ms", help="Refuse a longer round trip.")] = None,
    metadata: Metadata = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key gives the same session again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the ranked edges and start nothing.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Start a session for a client: edge, agent and both paths, with reasons."""
    client_facts = {"ip": ip, "asn": asn, "country": country, "latitude": latitude, "longitude": longitude}
    body: dict[str, Any] = {"client": _given(client_facts), **_given({"pool": pool, "to": to, "class": traffic_class})}
    if metadata:
        body["metadata"] = pairs(metadata, "--metadata")
    if max_rtt_ms is not None:
        body["constraints"] = {"max_rtt_ms": max_rtt_ms}
    with connect(url, key) as client:
        answer = client.steer(body) if dry_run else client.start_session(body, idempotency_key=idempotency_key)
    if output is Format.JSON:
        show.as_json(answer)
    elif dry_run:
        _print_edges(answer)
    else:
        _print_session(answer)


def _given(facts: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in facts.items() if value is not None}


def _print_edges(answer: Mapping[str, Any]) -> None:
    columns = (
        "edge", "node", "hub", ">access ms", "known by", ">forward ms", ">return ms", ">total ms", "reason",
    )  # fmt: skip
    names = ("access_ms", "access_provenance", "forward_ms", "return_ms", "total_ms")
    lines = (
        [edge["data_center"], edge["node"], edge["hub"], *(_measure(edge[name]) for name in names), edge["reason"]]
        for edge in answer["edges"]
    )
    show.console().print(show.table(columns, lines))
    if answer.get("rejected"):
        lost = ([r["data_center"], r["rule"], r["detail"]] for r in answer["rejected"])
        show.console().print(show.table(("not chosen", "rule", "detail"), lost))
    for reason in answer["reasons"]:
        typer.echo(f"  {reason}")


def _measure(value: object) -> str:
    return show.number(value) if isinstance(value, float) else show.text(value)


def _print_session(answer: Mapping[str, Any]) -> None:
    agent, edge = answer["agent"], answer["edge"]
    facts: list[tuple[str, object]] = [
        ("session", answer["id"]),
        ("state", answer["state"]),
        ("queue", f"position {answer['position']}" if answer.get("position") else None),
        ("class", answer["class"]),
        ("client", show.labels(_given(answer["client"]))),
        ("edge", f"{edge['data_center']} {edge['url']}".strip()),
        ("agent", f"{agent['id']} in {agent['data_center']}" if agent else None),
        ("pool", answer.get("pool")),
        ("forward", show.path(answer["forward"])),
        ("return", show.path(answer["return"])),
        ("moved from", answer.get("moved_from")),
        ("lease until", show.moment(answer["lease_expires_at"])),
        ("metadata", show.labels(answer.get("metadata"))),
        (
            "ended",
            f"{show.moment(answer['ended_at'])} {answer['end_reason'] or ''}" if answer.get("ended_at") else None,
        ),
        ("token", answer.get("token")),
    ]
    show.facts(facts)
    for reason in answer["reasons"]:
        typer.echo(f"  {reason}")
    if answer.get("legs"):
        columns = ("leg", "state", "client", "edge", "agent", "hub", "since", "ended")
        show.console().print(show.table(columns, map(_leg_line, answer["legs"])))


def _leg_line(leg: Mapping[str, Any]) -> list[object]:
    return [
        leg["id"], leg["state"], show.labels(_given(leg["client"] or {})), leg["edge"], leg["agent"],
        leg["agent_data_center"], show.moment(leg["created_at"]), leg["end_reason"],
    ]  # fmt: skip


@session.command("show")
def show_session(
    id: Id,
    events: Annotated[bool, typer.Option("--events/--no-events", help="Its life, event by event.")] = True,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print one session: edge, agent, both paths, reasons, and its life."""
    with connect(url, key) as client:
        answer = client.session(id)
        life = client.session_events(id) if events else []
    if output is Format.JSON:
        show.as_json(answer | {"events": life} if events else answer)
        return
    _print_session(answer)
    for event in life:
        by = "" if event["actor"] == "tendril" else f" by {event['actor']}"
        typer.echo(f"{show.moment(event['at'])}  {event['kind']}{by}  {show.labels(event['detail'])}".rstrip())
        for reason in filter(None, (event["reason"] or "").split("; ")):
            typer.echo(f"    {reason}")


@session.command("list")
def list_sessions(
    data_center: Annotated[str | None, typer.Option("--data-center", help="Only at this edge.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only in this state.")] = None,
    client_text: Annotated[
        str | None, typer.Option("--client", help="Only of this prefix, AS number or country.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Only with an agent of this pool.")] = None,
    metadata: Metadata = None,
    limit: Limit = 100,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print sessions, newest first."""
    filters: dict[str, str | None] = {"data_center": data_center, "state": state, "client": client_text, "pool": pool}
    filters |= {f"metadata.{name}": value for name, value in pairs(metadata, "--metadata").items()}
    with connect(url, key) as client:
        found = client.sessions(filters, limit=limit)
    columns = ("id", "state", "class", "client", "edge", "agent", "hub", "since", "metadata")
    lines = (_session_line(item) for item in found)
    show.rows(output, {"items": found}, columns, lines)


def _session_line(item: Mapping[str, Any]) -> list[object]:
    agent = item["agent"] or {}
    return [
        item["id"], item["state"], item["class"], show.labels(_given(item["client"])), item["edge"]["data_center"],
        agent.get("id"), agent.get("data_center"), show.moment(item["created_at"]), show.labels(item["metadata"]),
    ]  # fmt: skip


@session.command()
def end(id: Id, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """End a session and free its agent."""
    with connect(url, key) as client:
        answer = client.end_session(id)
    if output is Format.JSON:
        show.as_json(answer)
    else:
        typer.echo(f"ended {id}")


@pool.command("list")
def list_pools(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print the pools."""
    with connect(url, key) as client:
        found, capacity = client.resources("pools"), {item["pool"]: item for item in client.capacity()}
    full = [p | {"capacity": capacity.get(p["id"])} for p in found]
    lines = (
        [p["id"], p["class"], show.number(p["max_rtt_ms"]), *_capacity(p["capacity"]), show.labels(p["labels"])]
        for p in full
    )
    columns = ("pool", "class", ">max rtt ms", ">idle", ">busy", ">warming", ">queued", "labels")
    show.rows(output, {"items": full}, columns, lines)


def _capacity(found: Mapping[str, Any] | None) -> list[object]:
    return [None if found is None else found[name] for name in ("idle", "busy", "warming", "queued")]


@pool.command("show")
def show_pool(id: PoolId, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print one pool and its agents."""
    with connect(url, key) as client:
        found = client.resource("pools", id)
        agents = client.agents(id)
        capacity = next((item for item in client.capacity() if item["pool"] == id), None)
    columns = ("agent", "data center", "node", "state", "cordoned", "sessions", ">room", ">epoch", "address", "seen")
    lines = (
        [
            a["id"], a["data_center"], a["node"], a["state"], "yes" if a["cordoned"] else "",
            " ".join(lease["id"] for lease in a["sessions"]), a["capacity"] - a["held"], a["epoch"], a["address"],
            show.moment(a["seen_at"]),
        ]
        for a in agents
    )  # fmt: skip
    show.rows(output, found | {"agents": agents, "capacity": capacity}, columns, lines)
    if output is Format.TABLE:
        ready = sum(a["state"] == "ready" for a in agents)
        typer.echo(f"{id}: {ready} of {len(agents)} agents ready")
        for place in capacity["data_centers"] if capacity else ():
            free = f"{place['idle']} idle, {place['busy']} busy, {place['warming']} warming"
            typer.echo(f"  {place['data_center']}: {free}")
        if capacity and capacity["queued"]:
            typer.echo(f"  {capacity['queued']} sessions wait for an agent")
