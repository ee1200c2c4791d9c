"""``tendril sim``: the same core on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Output

sim = typer.Typer(no_args_is_help=True, help="Scenarios on a virtual clock, and replay.")


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command group of this module."""
    app.add_typer(sim, name="sim", rich_help_panel=panel)


@sim.command()
def run(
    scenario: Annotated[str, typer.Argument(metavar="NAME", help="Scenario, by the name that `sim list` prints.")],
    seed: Annotated[int, typer.Option("--seed", help="Root of all chance in the run.")] = 1,
    output: Output = Format.TABLE,
) -> None:
    """Run a scenario and print what came of it.

    A run that breaks an invariant ends with exit code 1.
    """
    from router.sim.run import run as play

    outcome = play(scenario, seed)
    _outcome(output, outcome)
    if outcome["violations"]:
        typer.echo("tendril: the run broke an invariant; `violations` names it", err=True)
        raise typer.Exit(1)


@sim.command()
def replay(
    recording: Annotated[
        Path, typer.Argument(metavar="FLIGHT_FILE", exists=True, dir_okay=False, help="A flight recorder's file.")
    ],
    output: Output = Format.TABLE,
) -> None:
    """Feed recorded inputs to the core again.

    Decisions that differ from the recorded ones end with exit code 1.
    """
    from router.sim.run import replay as play

    outcome = play(str(recording))
    _outcome(output, outcome)
    if not outcome["same"]:
        typer.echo(f"tendril: decisions differ from the recorded ones from input {outcome['diverged_at']} on", err=True)
        raise typer.Exit(1)


@sim.command("list")
def list_scenarios(output: Output = Format.TABLE) -> None:
    """Print the shipped scenarios."""
    from router.sim.run import scenarios

    found = scenarios()
    columns = tuple(dict.fromkeys(name for scenario in found for name in scenario))
    show.rows(output, {"items": found}, columns, ([scenario.get(name) for name in columns] for scenario in found))


def _outcome(output: Format, outcome: dict[str, Any]) -> None:
    if output is Format.JSON:
        show.as_json(outcome)
        return
    show.facts((name, value) for name, value in outcome.items() if not isinstance(value, list))
    for name, items in outcome.items():
        if isinstance(items, list) and items:
            columns = tuple(items[0]) if isinstance(items[0], dict) else (name,)
            lines = ([*item.values()] if isinstance(item, dict) else [item] for item in items)
            show.console().print(show.table(columns, lines, title=name))
