"""What the control plane knows: routes and why, links, the matrix, regions and health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import ClassName, Format, Key, Output, Policy, TrafficClass, Url, connect

From = Annotated[str, typer.Argument(metavar="FROM", help="Data center that the path starts in.")]
To = Annotated[str, typer.Argument(metavar="TO", help="Data center that it ends in.")]
_WIDE = 14  # data centers up to which a matrix names its columns; beyond, they are numbered like the rows
_CANDIDATES = 12  # lines per direction of an explanation; the API has them all


class Quantity(StrEnum):
    """What a matrix shows."""

    RTT = "rtt"
    FORWARD = "forward"
    RETURN = "return"
    JITTER = "jitter"
    LOSS = "loss"
    AGE = "age"


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands of this module."""
    for name, command in (
        ("route", route), ("explain", explain), ("links", links), ("matrix", matrix), ("regions", regions),
        ("health", health), ("targets", targets),
    ):  # fmt: skip
        app.command(name, rich_help_panel=panel)(command)


def route(
    source: From,
    target: To,
    traffic_class: TrafficClass = ClassName.VOICE,
    policy: Policy = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print the best route now, both directions.

    With the hops, the saving against the direct path, backups, and reasons.
    """
    with connect(url, key) as client:
        answer = client.route(source, target, traffic_class=traffic_class, policy=policy)
    if output is Format.JSON:
        show.as_json(answer)
        return
    stale = ", STALE" if answer["stale"] else ""
    typer.echo(
        f"{answer['from']} → {answer['to']}, {answer['class']}, generation {answer['generation']}, "
        f"{show.age(answer['age_ms'])} old{stale}"
    )
    columns = ("", "path", "relays", *_PATH_COLUMNS, "protects")
    show.console().print(show.table(columns, _ways(answer)))
    typer.echo(_against_direct(answer))
    for reason in answer["reasons"]:
        typer.echo(f"  {reason}")


_PATH_COLUMNS = (">delay ms", ">± ms", ">jitter ms", ">loss %", ">MOS", ">age")


def _ways(answer: Mapping[str, Any]) -> Iterator[list[object]]:
    for name in ("forward", "return"):
        way = answer[name]
        yield [name, show.path(way), len(way["path"]) - 2 if way else None, *_measures(way), None]
    for name in ("forward", "return"):
        for backup in answer["backups"][name]:
            relays = len(backup["path"]) - 2
            yield [f"{name} backup", show.path(backup), relays, *_measures(backup), backup["protects"]]


def _measures(way: Mapping[str, Any] | None) -> list[str]:
    if way is None:
        return [show.DASH] * len(_PATH_COLUMNS)
    delays = [show.number(way[name], digits) for name, digits in (("delay_ms", 1), ("error_ms", 1), ("jitter_ms", 2))]
    return [*delays, show.number(way["loss_pct"], 2), show.number(way["mos"], 2), show.age(way.get("age_ms"))]


def _against_direct(answer: Mapping[str, Any]) -> str:
    rtt, direct = answer["rtt_ms"], answer["direct_rtt_ms"]
    line = f"rtt {show.number(rtt)} ms, direct {show.number(direct)} ms"
    if rtt is None or not direct:
        return line
    saved = direct - rtt
    return f"{line}, saves {saved:.1f} ms ({100 * saved / direct:.1f} %)" if saved > 0 else f"{line}, saves nothing"


def explain(
    source: From,
    target: To,
    traffic_class: TrafficClass = ClassName.VOICE,
    policy: Policy = None,
    all_candidates: Annotated[bool, typer.Option("--all", help="Print every candidate.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print every candidate path and why it lost.

    With the terms of its metric and the age of the evidence for every hop.
    """
    with connect(url, key) as client:
        answer = client.explain(source, target, traffic_class=traffic_class, policy=policy)
    if output is Format.JSON:
        show.as_json(answer)
        return
    typer.echo(f"{answer['from']} → {answer['to']}, {answer['class']}, generation {answer['generation']}")
    typer.echo(f"rule: {answer['rule']}")
    for name in ("forward", "return"):
        candidates = answer[name]
        shown = candidates if all_candidates else candidates[:_CANDIDATES]
        show.console().print(_candidates(name, shown))
        if len(shown) < len(candidates):
            typer.echo(f"{len(candidates) - len(shown)} more; print them with --all")


def _candidates(name: str, candidates: list[dict[str, Any]]) -> Any:
    columns = ("verdict", "path", "hops: delay ± error ms, age", ">metric ms", "of which", "why")
    lines = (
        [
            candidate["verdict"],
            show.path(candidate),
            "; ".join(_hop(hop) for hop in candidate["hops"]),
            show.number(_ms(candidate["metric_us"])),
            ", ".join(f"{_term(term)} {show.number(_ms(value))}" for term, value in candidate["terms"].items()),
            candidate["why"],
        ]
        for candidate in candidates
    )
    return show.table(columns, lines, title=name)


def _hop(hop: Mapping[str, Any]) -> str:
    return f"{show.number(hop['delay_ms'])} ± {show.number(hop['error_ms'])}, {show.age(hop['age_ms'])}"


def _term(name: str) -> str:
    return name.removesuffix("_us")


def _ms(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1000


def links(
    source: Annotated[str | None, typer.Option("--from", help="Only links from this data center.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="Only links to this data center.")] = None,
    transport: Annotated[str | None, typer.Option("--transport", help="Only links over this transport.")] = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print the directed links with estimates and ages."""
    with connect(url, key) as client:
        found = client.links(source=source, target=target, transport=transport)
    columns = (
        "from", "to", "transport", "state", "intent", ">rtt ms", ">forward ms", ">return ms", ">± ms", ">jitter ms",
        ">loss %", ">samples", ">age",
    )  # fmt: skip
    lines = (
        [
            link["from"], link["to"], link["transport"], link["state"], link["intent"],
            *(show.number(link[name]) for name in ("rtt_ms", "forward_ms", "return_ms", "error_ms")),
            show.number(link["jitter_ms"], 2), show.number(link["loss_pct"], 2), link["samples"],
            show.age(link["age_ms"]),
        ]
        for link in found
    )  # fmt: skip
    show.rows(output, {"items": found}, columns, lines)


def matrix(
    transport: Annotated[str | None, typer.Option("--transport", help="Transport; internet by default.")] = None,
    quantity: Annotated[Quantity, typer.Option("--show", help="What the table shows.")] = Quantity.RTT,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print all pairs as a matrix.

    Rows from, columns to, a dash where nothing is known.
    """
    with connect(url, key) as client:
        answer = client.matrix(transport)
    if output is Format.JSON:
        show.as_json(answer)
        return
    ids = answer["data_centers"]
    cells = answer[f"{quantity}_{'pct' if quantity is Quantity.LOSS else 'ms'}"]
    numbered = len(ids) > _WIDE
    heads = [str(i) for i in range(1, len(ids) + 1)] if numbered else ids
    names = [f"{i} {name}" for i, name in enumerate(ids, start=1)] if numbered else ids
    render = show.age if quantity is Quantity.AGE else _cell
    lines = ([name, *(render(value) for value in row)] for name, row in zip(names, cells, strict=True))
    unit = {Quantity.LOSS: "%", Quantity.AGE: "age"}.get(quantity, "ms")
    typer.echo(f"{quantity} in {unit}, generation {answer['generation']}; rows from, columns to")
    show.console().print(show.table((f"{len(ids)} data centers", *(f">{head}" for head in heads)), lines))


def _cell(value: float | None) -> str:
    return show.number(value, 0 if value is not None and abs(value) >= 100 else 1)


def regions(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print regions x providers with state and evidence."""
    with connect(url, key) as client:
        answer = client.health()
    columns = ("region", "provider", "state", "data centers", ">sessions", ">headroom %", "blame", "evidence")
    lines = (
        [
            cell["region"], cell["provider"], cell["state"], cell["data_centers"], cell["sessions"],
            show.number(cell["headroom_pct"], 0), _blamed(cell["blame"]), cell["evidence"],
        ]
        for cell in answer["cells"]
    )  # fmt: skip
    show.rows(output, answer, columns, lines)


def _blamed(verdict: Mapping[str, Any] | None) -> str | None:
    return None if verdict is None else f"{verdict['kind']}:{verdict['id']}"


def targets(
    kind: Annotated[str | None, typer.Option(help="node, data_center, provider_region, provider or agent_host")] = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print intent, health and capacity of every target."""
    with connect(url, key) as client:
        found = client.targets(kind)
    columns = ("kind", "target", "intent", "state", ">sessions", ">headroom %", ">agents idle/busy", "evidence")
    lines = ([one["kind"], one["id"], one["intent"], one["health"]["state"], *_fits(one)] for one in found)
    show.rows(output, found, columns, lines)


def _fits(target: Mapping[str, Any]) -> list[object]:
    fits, evidence = target["capacity"], target["health"]["evidence"]
    agents = f"{fits['agents_idle']}/{fits['agents_busy']}"
    return [fits["sessions"], show.number(fits["headroom_pct"], 0), agents, show.short(evidence)]


def health(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print who is at fault, and three facts of each place.

    Three facts that never overwrite each other: what operators asked, what is measured, what fits.
    """
    with connect(url, key) as client:
        answer = client.health()
    columns = (
        "data center", "provider", "region", "roles", "intent", "state", "since", ">age", ">vantages ok/lost",
        ">sessions", ">headroom %", ">nodes heard", "reason",
    )  # fmt: skip
    lines = (_health(dc) for dc in answer["data_centers"])
    show.rows(output, answer, columns, lines)
    if output is Format.TABLE:
        stale = ", STALE" if answer["stale"] else ""
        if answer["frozen"]:
            typer.echo(f"automation is frozen: {answer['frozen_reason']}")
        for verdict in answer["verdicts"]:
            sure = min(0.99, verdict["confidence"])  # evidence never makes all of it
            typer.echo(f"{verdict['text']} ({sure:.0%} sure, for {_age_of(answer, verdict)})")
        typer.echo(f"generation {answer['generation']}, routes {show.age(answer['routes_age_ms'])} old{stale}")


def _age_of(answer: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    now, since = (datetime.fromisoformat(text) for text in (answer["now"], verdict["since"]))
    return show.age(1000 * (now - since).total_seconds())


def _health(dc: Mapping[str, Any]) -> list[object]:
    capacity = dc["capacity_sessions"]
    heard = sum(node["age_ms"] is not None for node in dc["nodes"])
    return [
        dc["id"], dc["provider"], dc["region"], dc["roles"], dc["intent"], dc["state"], show.moment(dc["since"]),
        show.age(dc["age_ms"]), f"{dc['vantages_ok']}/{dc['vantages_lost']}",
        f"{dc['sessions']}/{capacity}" if capacity else dc["sessions"], show.number(dc["headroom_pct"], 0),
        f"{heard}/{len(dc['nodes'])}", dc["reason"],
    ]  # fmt: skip
