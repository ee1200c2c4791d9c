"""``tendril simulate``: what if some of the fleet were gone, or some more of it there?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect, pairs

_ADD = (
    "A data center that is not there: id=…,provider=…,region=…[,sessions=N][,at=LAT/LON][,roles=edge+hub]; repeatable."
)
_FIELDS = ("id", "provider", "region", "sessions", "at", "roles")


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command of this module."""
    app.command("simulate", rich_help_panel=panel)(simulate)


def simulate(
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="SELECTOR|FROM:TO", help="What would be gone; repeatable."),
    ] = None,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="DATA_CENTER", help=_ADD)] = None,
    named: Annotated[int, typer.Option("--named", min=0, max=100, help="Pairs to name per list.")] = 5,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print what removing or adding something would do.

    Data centers and links go or come on paper: what becomes of routes, live sessions and headroom, and which rules a
    drain of the same would break.
    """
    if not remove and not add:
        raise typer.BadParameter("give --remove, --add, or both", param_hint="--remove")
    body = {"remove": list(remove or ()), "add": [_new(text) for text in add or ()], "named": named}
    with connect(url, key) as client:
        found = client.simulate(body)
    if output is Format.JSON:
        show.as_json(found)
    else:
        _print(found)


def _new(text: str) -> dict[str, object]:
    """Read one ``--add``."""
    parts = pairs(text.split(","), "--add")
    unknown = [name for name in parts if name not in _FIELDS]
    if unknown or not {"id", "provider", "region"} <= set(parts):
        raise typer.BadParameter(f"{text!r}: write {_ADD.partition(': ')[2].partition(';')[0]}", param_hint="--add")
    body: dict[str, object] = {name: parts[name] for name in ("id", "provider", "region")}
    try:
        if "sessions" in parts:
            body["capacity"] = {"sessions": int(parts["sessions"])}
        if "at" in parts:
            latitude, _, longitude = parts["at"].partition("/")
            body |= {"latitude": float(latitude), "longitude": float(longitude)}
    except ValueError:
        rule = "sessions is a whole number, at is LATITUDE/LONGITUDE in degrees"
        raise typer.BadParameter(f"{text!r}: {rule}", param_hint="--add") from None
    if "roles" in parts:
        body["roles"] = parts["roles"].split("+")
    return body


def _print(found: Mapping[str, Any]) -> None:
    typer.echo(found["summary"])
    show.facts((("generation", found["generation"]), ("age of the routes", show.age(found["age_ms"]))))
    show.console().print(show.table(_ROUTE_COLUMNS, (_route(effect) for effect in found["routes"]), title="routes"))
    voice = next((effect for effect in found["routes"] if effect["class"] == "voice"), None)
    if voice is not None:
        _pairs(voice, ("lost_pairs", "voice: no path any more"), ("worst", "voice: slower"), ("best", "voice: faster"))
    shifts = found["sessions"]["shifts"]
    if shifts:
        lines = ([shift["from"], shift["to"], shift["sessions"]] for shift in shifts)
        show.console().print(show.table(("from", "to", ">sessions"), lines, title="where sessions go"))
    show.facts(_people(found["sessions"]))
    lines = (_region(region) for region in found["regions"])
    show.console().print(show.table(_REGION_COLUMNS, lines, title="room per region"))
    _newcomers(found["added"])
    for refusal in found["refusals"]:
        typer.echo(f"rule: {show.refusal(refusal)}")
    for note in found["notes"]:
        typer.echo(f"note: {note}")


_ROUTE_COLUMNS = (
    "class", "policy", ">pairs", ">no path", ">new path", ">other path", ">slower", ">p50 ms", ">p95 ms", ">faster",
    ">surely", ">p50 ms",
)  # fmt: skip
_REGION_COLUMNS = (
    "region", ">edges", ">then", ">sessions", ">then", ">free %", ">then", "if one more failed", ">places missing",
)  # fmt: skip


def _route(effect: Mapping[str, Any]) -> list[object]:
    growth, saving = effect["growth_ms"] or {}, effect["saving_ms"] or {}
    return [
        effect["class"], effect["policy"], effect["pairs"], effect["lost"], effect["gained"], effect["rerouted"],
        effect["slower"], show.number(growth.get("p50")), show.number(growth.get("p95")), effect["faster"],
        effect["faster_at_worst"], show.number(saving.get("p50")),
    ]  # fmt: skip


def _pairs(effect: Mapping[str, Any], *lists: tuple[str, str]) -> None:
    columns = ("from", "to", "path now", "path then", ">now ms", ">then ms", ">by ms", "links")
    for name, title in lists:
        if effect[name]:
            lines = (
                [
                    pair["from"], pair["to"], _path(pair["before_path"]), _path(pair["after_path"]),
                    show.number(pair["before_ms"]), show.number(pair["after_ms"]), show.number(pair["delta_ms"]),
                    "predicted" if pair["predicted"] else "measured",
                ]
                for pair in effect[name]
            )  # fmt: skip
            show.console().print(show.table(columns, lines, title=title))


def _path(path: list[str] | None) -> str:
    return "no path" if path is None else " → ".join(path)


def _people(sessions: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "live sessions", sessions["live"]
    for name in ("to_move", "no_place", "lose_agent", "lose_path", "rerouted"):
        yield name.replace("_", " "), sessions[name]
    growth = sessions["moved_growth_p95_ms"]
    yield "those that move: one way longer by", None if growth is None else f"{growth:.1f} ms (95th percentile)"


def _region(region: Mapping[str, Any]) -> list[object]:
    verdict = region["n_plus_1"]
    holds = None if verdict["next_loss"] is None else "holds" if verdict["holds"] else f"without {verdict['next_loss']}"
    return [
        region["region"], region["edges_before"], region["edges_after"], region["sessions_before"],
        region["sessions_after"], show.number(region["headroom_before_pct"]), show.number(region["headroom_after_pct"]),
        holds, verdict["missing"],
    ]  # fmt: skip


def _newcomers(added: list[Mapping[str, Any]]) -> None:
    for one in added:
        lines = ([n["data_center"], n["delay_ms"], n["low_ms"], n["high_ms"]] for n in one["nearest"])
        title = f"{one['id']} at {one['latitude']}, {one['longitude']} ({one['position_from']}): predicted, one way"
        show.console().print(title, soft_wrap=True)  # longer than its table is wide
        show.console().print(show.table(("to", ">ms", ">at least", ">at most"), lines))
