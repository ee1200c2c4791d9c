"""Taking data centers out of rotation and back: ``drain``, ``undrain``, ``drains``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import drain_progress, show
from router.cli.options import Format, Key, Output, Url, connect, duration_s, selector, selector_text
from router.core.errors import InputRejected

if TYPE_CHECKING:
    from router.client import Client

_SELECTOR_HELP = "provider=…, region=…, data_center=…, node=…; several joined by commas must all match."


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands of this module."""
    for name, command in (("drain", drain), ("undrain", undrain), ("drains", drains)):
        app.command(name, rich_help_panel=panel)(command)


def drain(
    target: Annotated[str, typer.Argument(metavar="SELECTOR", help=_SELECTOR_HELP)],
    hard: Annotated[bool, typer.Option("--hard", help="Move live sessions now instead of letting them end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    deadline: Annotated[str | None, typer.Option("--deadline", help="By when it must be empty, such as 10m.")] = None,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="The targets are dead: move nothing, users resume elsewhere.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
    watch: Annotated[
        bool | None, typer.Option("--watch/--no-watch", help="Follow it to its end; on terminals unless refused.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Drain even where a rule refuses.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Take what SELECTOR matches out of rotation.

    Without --hard live sessions end by themselves. A plan that a rule refuses ends with exit code 1; --force insists.
    """
    body: dict[str, object] = {
        "selector": selector_text({**selector(target)}),
        "mode": "emergency" if emergency else "hard" if hard else "soft",
        "reason": reason,
        "dry_run": dry_run,
        "force": force,
    }
    within_s = duration_s(deadline, "--deadline")
    if within_s is not None:
        body["deadline_s"] = within_s
    with connect(url, key) as client:
        plan = client.drain(body)
    if output is Format.JSON:
        show.as_json(plan)
    else:
        _print_plan(plan, str(body["mode"]), bool(force))
    if plan["refusals"] and not force:
        for refusal in plan["refusals"]:
            typer.echo(f"tendril: {show.refusal(refusal)}", err=True)
        raise typer.Exit(1)
    if plan["drain"] is not None and output is Format.TABLE and (watch or (watch is None and sys.stdout.isatty())):
        with connect(url, key) as client:
            drain_progress.follow(client, plan["drain"]["id"])


def _print_plan(plan: Mapping[str, Any], mode: str, force: bool) -> None:
    left, agents = plan["sessions"], plan["agents"]
    nothing = {"held": 0, "idle": 0, "cut": 0}
    lines = [
        [dc, left.get(dc, 0), found["held"], found["idle"], found["cut"]]
        for dc in plan["targets"]
        for found in [agents.get(dc, nothing)]
    ]
    lines += [
        [f"node {node}", None, found["held"], found["idle"], found["cut"]]
        for node in plan["nodes"]
        for found in [agents.get(node, nothing)]
    ]
    columns = ("target", ">sessions", ">held by agents", ">agents free", ">will lose agent")
    show.console().print(show.table(columns, lines))
    if plan["shifts"]:
        moves = ([shift["from"], shift["to"], shift["sessions"]] for shift in plan["shifts"])
        show.console().print(show.table(("from", "to", ">sessions"), moves, title="where sessions go"))
    show.facts(_outlook(plan))
    typer.echo(f"a {mode} drain would go like this:" if plan["drain"] is None else f"a {mode} drain goes like this:")
    for stage in plan["timeline"]:
        at = "at once" if stage["after_s"] == 0 else f"+{show.age(1000 * stage['after_s'])}"
        typer.echo(f"  {at:>9}  {stage['what']}")
    for note in plan["notes"]:
        typer.echo(f"note: {note}")
    started = plan["drain"]
    if started is not None:
        typer.echo(f"drain {started['id']}: {started['state']}")
        return
    typer.echo(f"dry run: nothing was changed; {_verdict(plan['refusals'], force)}")


def _verdict(refusals: Sequence[Mapping[str, Any]], force: bool) -> str:
    """What the rules say of a plan."""
    rules = ", ".join(dict.fromkeys(refusal["rule"] for refusal in refusals))
    if not rules:
        return "no rule refuses this plan"
    return f"--force would override {rules}" if force else f"without --force it is refused by {rules}"


def _outlook(plan: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    free, growth = plan["headroom"], plan["delay_growth_p95_ms"]
    yield "sessions to move", plan["sessions_to_move"]
    yield "routes that relay over them", plan["routes_through"]
    yield "expected sessions", f"{plan['forecast']['sessions']} ({plan['forecast']['basis']})"
    yield "headroom now", _percent(free["now_pct"])
    yield "headroom after", _percent(free["after_pct"])
    if free["next_loss"] is not None:
        yield f"... and without {free['next_loss']}", _percent(free["after_next_loss_pct"])
    yield "one way longer by", None if growth is None else f"{growth:.1f} ms (95th percentile)"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} %"


def undrain(
    target: Annotated[str, typer.Argument(metavar="ID|SELECTOR", help="Drain to undo, or the selector it was given.")],
    force: Annotated[bool, typer.Option("--force", help="At once, and even if they are not known to be fit.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Undo a drain.

    Its targets get back the intent they had before. Those that were empty take their users back step by step, see
    `tendril ramps`.
    """
    with connect(url, key) as client:
        ids = _matching(client, target) if "=" in target else [target]
        undone = [client.act_on_drain(id, "undo", {"force": True} if force else None) for id in ids]
    show.rows(output, {"items": undone}, _COLUMNS, (_line(drain) for drain in undone))


def _matching(client: Client, target: str) -> list[str]:
    wanted = selector_text({**selector(target)})
    ids = [drain["id"] for drain in client.drains() if drain["selector"] == wanted and drain["state"] != "undone"]
    if not ids:
        raise InputRejected(
            "unknown_drain",
            f"no drain in force was started with the selector {wanted}",
            field="SELECTOR",
            override="`tendril drains` lists them; undo one by its id",
        )
    return ids


def drains(
    watch: Annotated[bool, typer.Option("--watch", help="Follow those under way until they have ended.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print all drains, and what the calendar holds."""
    with connect(url, key) as client:
        if watch:
            drain_progress.follow(client)
            return
        found, practices = client.drains(), client.practices()
    show.rows(output, {"items": found, "practices": practices}, _COLUMNS, (_line(drain) for drain in found))
    if output is Format.TABLE and practices:
        columns = ("practised every", "selector", "next")
        lines = ((one["at"], one["selector"], show.moment(one["next_at"])) for one in practices)
        show.rows(output, {}, columns, lines)


_COLUMNS = (
    "id", "state", "mode", "selector", "targets", ">left", ">of", "since", "deadline", "by", "reason", "waits for",
)  # fmt: skip


def _line(drain: Mapping[str, Any]) -> list[object]:
    return [
        drain["id"], drain["state"], drain["mode"], drain["selector"], [*drain["targets"], *drain["nodes"]],
        drain["sessions_left"], drain["sessions_at_start"], show.moment(drain["created_at"]),
        show.moment(drain["deadline_at"]),
        drain["created_by"], drain["reason"], "; ".join(drain["blocked_by"]),
    ]  # fmt: skip
