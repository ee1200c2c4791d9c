"""``tendril demo``: start the living world, look at it, break it, heal it, and talk in it."""

from __future__ import annotations

import asyncio
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from router.core.errors import InputRejected, Unavailable
from router.demo import ground
from router.demo.call import conduct, home_of
from router.demo.ground import Options
from router.demo.launcher import launch
from router.demo.model_world import DEFAULT_DATA_CENTERS
from router.demo.people import MAX_USERS
from router.demo.user import User
from router.demo.world import MAX_NODES_PER_DATA_CENTER

app = typer.Typer(help="The living demo world: emulated WAN, probe agents, users.", pretty_exceptions_enable=False)


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


State = Annotated[Path, typer.Option("--state-dir", help="Where worlds, keys and logs are kept.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="Print a table or JSON.")]


class Kind(StrEnum):
    """What can be broken."""

    BLACKHOLE = "blackhole"
    GRAY = "gray"
    LOSS = "loss"
    DELAY = "delay"
    JITTER = "jitter"


class Way(StrEnum):
    """Which packets are hit."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    matrix: Annotated[Path | None, typer.Option(help="Play a measured RTT matrix (CSV).")] = None,
    data_centers: Annotated[int | None, typer.Option(min=2, help="Size of the model world.")] = None,
    nodes: Annotated[int, typer.Option(min=1, max=MAX_NODES_PER_DATA_CENTER, help="Nodes per data center.")] = 1,
    users: Annotated[int, typer.Option(min=0, max=MAX_USERS, help="Users who talk all the time.")] = 6,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Control plane.")] = ground.DEFAULT_PORT,
    emulator_port: Annotated[int, typer.Option(min=1, max=65_535)] = ground.EMULATOR_PORT,
    people_port: Annotated[int, typer.Option(min=1, max=65_535)] = ground.PEOPLE_PORT,
    octet: Annotated[int, typer.Option(min=1, max=251, help="127.OCTET and the next three carry the world.")] = 1,
    world: Annotated[Path | None, typer.Option(help="Play a world file that is there already.")] = None,
    namespaces: Annotated[
        bool, typer.Option("--namespaces", help="A network namespace per node instead of loopback (root).")
    ] = False,
    state_dir: State = ground.DEFAULT_STATE,
) -> None:
    """Run the living world in the foreground; Ctrl-C stops everything."""
    if context.invoked_subcommand is not None:
        return
    if matrix is not None and data_centers is not None:
        raise typer.BadParameter("a matrix says itself which data centers there are", param_hint="--data-centers")
    if world is not None and (matrix is not None or data_centers is not None):
        raise typer.BadParameter("a world file says itself what it is made of", param_hint="--world")
    size = DEFAULT_DATA_CENTERS if data_centers is None else data_centers
    options = Options(state_dir, matrix, size, nodes, users, port, emulator_port, people_port, octet, world, namespaces)
    asyncio.run(launch(options, lambda text: print(text, flush=True)))


@app.command("break")
def break_(
    target: Annotated[str, typer.Argument(help="SELECTOR (data_center=…, provider=…, region=…) or FROM:TO.")],
    kind: Annotated[Kind, typer.Option(help="What happens to the packets.")] = Kind.BLACKHOLE,
    value: Annotated[float | None, typer.Option(help="Loss, gray: per cent; delay, jitter: ms.")] = None,
    direction: Annotated[Way | None, typer.Option(help="Which packets.  [default: both; a link: its own]")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Heal by itself after this: 30s, 5m.")] = None,
    state_dir: State = ground.DEFAULT_STATE,
    output: Output = Format.TABLE,
) -> None:
    """Break a link, data center, region or provider of the emulated network."""
    body: dict[str, object] = {"kind": kind.value}
    if "=" in target:
        body["target"] = target
    else:
        source, colon, other = target.partition(":")
        if not colon:
            raise typer.BadParameter("write data_center=ID, provider=ID, region=ID, or FROM:TO", param_hint="TARGET")
        body["link"] = [source, other]
    seconds = _seconds(for_)
    given = {"value": value, "direction": direction and direction.value, "for_s": seconds}
    body |= {name: what for name, what in given.items() if what is not None}
    fault = _ask("POST", ground.read_note(state_dir)["emulator_url"], "/faults", body)
    ending = "until healed" if seconds is None else f"for {seconds} s"
    _print(fault, output, f"{fault['id']}: {kind.value} on {target}, {fault.get('legs', '?')} links hit, {ending}")


@app.command()
def heal(
    fault: Annotated[str | None, typer.Argument(help="Which fault; all when left out.")] = None,
    state_dir: State = ground.DEFAULT_STATE,
    output: Output = Format.TABLE,
) -> None:
    """Heal one fault, or all of them."""
    path = "/faults" if fault is None else f"/faults/{fault}"
    answer = _ask("DELETE", ground.read_note(state_dir)["emulator_url"], path)
    _print(answer, output, f"healed: {', '.join(answer['healed']) or 'nothing was broken'}")


@app.command()
def state(state_dir: State = ground.DEFAULT_STATE, output: Output = Format.TABLE) -> None:
    """Show the emulated network: what is broken, how much flows, how exact the emulation is."""
    answer = _ask("GET", ground.read_note(state_dir)["emulator_url"], "/state")
    counters, accuracy = answer["counters"], answer["accuracy"]
    lines = [
        f"{answer['world']}: {len(answer['data_centers'])} data centers, {answer['links']} links, "
        f"{len(answer['users'])} users, up {answer['uptime_s']:.0f} s",
        f"{counters['forwarded']} packets forwarded, {counters['lost']} lost, {counters['blackholed']} swallowed; "
        f"half of them left within {accuracy['p50_us']} µs of their time, 99 % within {accuracy['p99_us']} µs",
    ]
    for broken in answer["faults"]:
        where = broken["target"] or ":".join(broken["link"])
        heals = "" if broken["heals_in_s"] is None else f", heals in {broken['heals_in_s']:.0f} s"
        value = "" if broken["value"] is None else f" {broken['value']:g}"
        lines.append(f"{broken['id']}: {broken['kind']}{value} on {where} ({broken['direction']}){heals}")
    _print(answer, output, "\n".join(lines))


@app.command()
def people(state_dir: State = ground.DEFAULT_STATE, output: Output = Format.TABLE) -> None:
    """Show the users who talk in the world, as their own packets tell it."""
    answer = _ask("GET", ground.read_note(state_dir)["people_url"], "/people")
    columns = "{:<18} {:<11} {:<24} {:<28} {:>8} {:>7} {:>8} {:>6} {:>8}"
    lines = [columns.format("user", "state", "edge", "agent", "rtt ms", "loss %", "gap ms", "moves", "resumes")]
    for user in answer["people"]:
        gap_ms = user["longest_gap_ms"]["last_minute"]
        cells = [user["id"], user["state"], user["edge"], user["agent"], user["rtt_ms"], user["loss_pct"], gap_ms]
        cells += [user["moves"], user["resumes"]]
        lines.append(columns.format(*("-" if cell is None else cell for cell in cells)))
    _print(answer, output, "\n".join(lines))


@app.command()
def calls(state_dir: State = ground.DEFAULT_STATE, output: Output = Format.TABLE) -> None:
    """Show what is heard in a world in namespaces: numbered packets through tunnels and relays."""
    answer = _ask("GET", ground.read_note(state_dir)["people_url"], "/calls")
    columns = "{:<24} {:<24} {:>8} {:>6} {:>7} {:>6} {:>8} {:>8} {:>8} {:>7}"
    gaps = ("gaps", "p50 ms", "p99 ms", "longest")
    lines = [columns.format("from", "to", "arrived", "lost", "loss %", *gaps, "dropped")]
    for leg in answer["calls"]:
        cells = [leg["from"], leg["to"], leg["arrived"], leg["lost"], leg["loss_pct"], leg["gaps"]]
        cells += [*leg["gap_ms"].values(), leg["copies_dropped"]]
        lines.append(columns.format(*("-" if cell is None else cell for cell in cells)))
    lines.append("a gap is a run of packets (20 ms each) of which no copy came; dropped are second copies, sent while")
    lines.append("a path was suspect, that the relay at the far end kept from the listener")
    _print(answer, output, "\n".join(lines))


@app.command()
def roam(
    user: Annotated[str, typer.Argument(help="As `tendril demo people` names it.")],
    state_dir: State = ground.DEFAULT_STATE,
    output: Output = Format.TABLE,
) -> None:
    """Give a user another address in mid-call, as a phone gets that leaves the Wi-Fi."""
    answer = _ask("POST", ground.read_note(state_dir)["people_url"], f"/people/{quote(user, safe='')}/roam")
    _print(answer, output, f"{answer['id']} goes on from {answer['host']}")


@app.command()
def call(
    country: Annotated[str | None, typer.Option(help="Call from a city of this country.  [default: KZ]")] = None,
    lat: Annotated[float | None, typer.Option(min=-90, max=90)] = None,
    lon: Annotated[float | None, typer.Option(min=-180, max=180)] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long to talk; until Ctrl-C when left out.")] = None,
    state_dir: State = ground.DEFAULT_STATE,
    output: Output = Format.TABLE,
) -> None:
    """Talk to an AI agent from anywhere, live, and see how long the longest gap was."""
    home = home_of(country, lat, lon)
    if output is Format.TABLE:
        typer.echo(f"calling from {home.city} ({home.latitude}, {home.longitude}); Ctrl-C hangs up")
    key = ground.admin_key(state_dir)
    show = _Lines().show if output is Format.TABLE else _silent
    summary = asyncio.run(conduct(ground.read_note(state_dir), key, home, seconds, show))
    _print(summary, output, _farewell(summary))


class _Lines:
    """One line a second, and one more when the edge changes."""

    def __init__(self) -> None:
        self._told: tuple[str, str] | None = None

    def show(self, user: User) -> None:
        summary = user.summary()
        placed = (str(summary["edge"]), str(summary["agent"]))
        forward = (user.placement.get("forward") or {}).get("path") or []
        if summary["edge"] is not None and placed != self._told and forward[:1] in ([], [placed[0]]):
            self._told = placed
            typer.echo(f"edge {placed[0]}, agent {placed[1]}, path {' > '.join(forward) or 'unknown'}")
        gap_ms = summary["longest_gap_ms"]
        typer.echo(
            f"{summary['state']:<11} rtt {summary['rtt_ms'] or '-'} ms, loss {summary['loss_pct'] or 0} %, "
            f"longest gap {gap_ms['since_start']} ms, agent heard {summary['agent_heard']}, "  # type: ignore[index]
            f"moves {summary['moves']}, resumes {summary['resumes']}"
            + (f"  ({summary['problem']})" if summary["problem"] else "")
        )


def _silent(user: User) -> None:
    """JSON is printed once, at the end."""


def _farewell(summary: dict[str, Any]) -> str:
    lines = [
        f"{change['kind']} {change['from']} -> {change['to']}: gap {change['gap_ms']} ms"
        for change in summary["changes"]
    ]
    kept = "yes" if not summary["agent_changes"] and not summary["memory_breaks"] else "no"
    lines.append(
        f"longest gap {summary['longest_gap_ms']['since_start']} ms, {summary['answers']} answers, "
        f"{summary['lost']} lost; same agent with the same memory throughout: {kept}"
    )
    return "\n".join(lines)


def _ask(method: str, url: str, path: str, body: object = None) -> Any:
    try:
        response = httpx.request(method, url + path, json=body, timeout=5.0, trust_env=False)
    except httpx.HTTPError as error:
        text = f"nothing answers at {url}: is a demo world running? (tendril demo)"
        raise Unavailable("world_unreachable", text) from error
    answer = response.json()
    if response.status_code >= 300:
        raise InputRejected(
            str(answer.get("code", response.status_code)), str(answer.get("detail", response.text)),
            field=answer.get("field"), rule=answer.get("rule"), limit=answer.get("limit"),
        )  # fmt: skip
    return answer


def _seconds(text: str | None) -> int | None:
    """Read ``30s``, ``5m``, ``1h`` or plain seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smh]?)", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 30s, 5m or 1h", param_hint="--for")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600}[match[2]]


def _print(answer: object, output: Format, text: str) -> None:
    typer.echo(json.dumps(answer, indent=2) if output is Format.JSON else text)
