"""What there is of agents, what will be needed, and what is bought: ``capacity``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands of this module."""
    app.command("capacity", rich_help_panel=panel)(capacity)


def capacity(
    explain: Annotated[bool, typer.Option("--explain", help="Why each purchase, and what was not taken.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print what pools have, will need, and buy.

    One line per pool and region; then the machines that were bought. In a dry run plans are made and nothing is bought.
    """
    with connect(url, key) as client:
        found = client.capacity_report()
    show.rows(output, found, _COLUMNS, _regions(found))
    if output is not Format.TABLE:
        return
    typer.echo(_buying(found["buying"]))
    if found["launches"]:
        show.rows(output, found, _LAUNCHES, (_launch(one) for one in found["launches"]))
    for line in _explained(found) if explain else ():
        typer.echo(line)


_COLUMNS = (
    "pool", "region", ">busy", ">idle", ">coming", ">queued", ">forecast", ">at most", ">buffer", ">desired",
    ">missing", ">spare", "buffer by",
)  # fmt: skip
_LAUNCHES = ("id", "pool", "provider", "data center", "size", ">agents", ">USD/h", "state", "since", "reason")


def _regions(found: Mapping[str, Any]) -> Iterator[list[object]]:
    for pool in found["items"]:
        for one in pool["regions"]:
            yield [
                pool["pool"], one["region"], one["busy"], one["idle"], one["coming"], one["queued"],
                show.number(one["forecast"]), one["forecast_at_most"], one["buffer"], one["desired"], one["missing"],
                one["spare"], one["buffer_rule"] + (" (spike)" if one["spike"] else ""),
            ]  # fmt: skip


def _launch(one: Mapping[str, Any]) -> list[object]:
    return [
        one["id"], one["pool"], one["provider"], one["data_center"], one["size"], one["agents"],
        show.number(one["price_usd_per_hour"], 3), one["state"], show.moment(one["since"]), one["reason"],
    ]  # fmt: skip


def _buying(found: Mapping[str, Any]) -> str:
    if not found["enabled"]:
        return "Nothing is bought: there is no purchasing file (capacity_file)."
    what = "Dry run: plans only." if found["dry_run"] else "Machines are bought."
    spent, cap = found["spent_usd_per_hour"], found["budget_usd_per_hour"]
    return f"{what} {found['machines']} of {found['max_machines']} machines, {spent:.2f} of {cap:.2f} USD an hour."


def _explained(found: Mapping[str, Any]) -> Iterator[str]:
    for offer in found["buying"]["offers"]:
        if offer["blocked"]:
            yield f"{offer['provider']}/{offer['data_center']}/{offer['size']} is not asked: {offer['blocked']}"
    for pool in found["items"]:
        if pool["plan"] is not None:
            yield from _plan(pool["pool"], pool["plan"])
    for one in found["launches"]:
        for why in one["why"]:
            yield f"{one['id']}: {why}"


def _plan(pool: str, plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"{pool}: plan of {show.moment(plan['at'])} by {plan['by']}, {plan['cost_usd_per_hour']:.3f} USD an hour"
    for one in plan["purchases"]:
        place = f"{one['provider']}/{one['data_center']}/{one['size']}"
        price = f"{one['usd_per_agent_hour']:.4f} USD an hour each with egress and {one['delay_ms']:.1f} ms"
        yield f"  {one['agents']} agents for {one['region']}: {place}, {price}"
        for other in one["rejected"]:
            name = f"{other['provider']}/{other['data_center']}/{other['size']}"
            number = f"{other['rule']} ({other['number']}, limit {other['limit']})"
            yield f"    not {name}: {number} {other['detail']}".rstrip()
    for region, count in plan["unmet"].items():
        yield f"  {count} agents for {region} could not be bought"
    for note in plan["notes"]:
        yield f"  {note}"
