"""``tendril sim``: the same core on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Output

sim = typer.Typer(no_args_is_help=True, help="Scenarios on a virtual clock, and replay.")
HIDDEN = ("source",)  # what a table has no room for


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command group of this module."""
    app.add_typer(sim, name="sim", rich_help_panel=panel)


@sim.command()
def run(
    scenario: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Scenario, by the name that `sim list` prints, or a YAML file.")
    ],
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Root of all chance in the run; the scenario's own if not given."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=10_000, help="Run so many seeds, one after the other.")
    ] = 1,
    record: Annotated[
        Path | None, typer.Option("--record", file_okay=False, help="Folder for a recording that `sim replay` reads.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a scenario and print what came of it.

    A run that breaks an invariant or does not meet an expectation ends with exit code 1.
    """
    from router.sim.run import run as play

    outcomes: list[dict[str, Any]] = []
    for number in range(seeds):
        chosen = seed if number == 0 else int(outcomes[0]["seed"]) + number
        outcomes.append(play(scenario, chosen, progress=_progress(number, seeds), record=record))
    if seeds == 1:
        _outcome(output, outcomes[0])
    else:
        _summary(output, outcomes)
    broken = [outcome for outcome in outcomes if outcome["violations"]]
    if broken:
        named = ", ".join(str(outcome["seed"]) for outcome in broken)
        typer.echo(f"tendril: violations with seed {named}; `violations` says what was broken or not met", err=True)
        raise typer.Exit(1)


@sim.command()
def replay(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="FLIGHT_FILE|RUN_FILE",
            exists=True,
            dir_okay=False,
            help="A recording, or a saved `sim run -o json`.",
        ),
    ],
    output: Output = Format.TABLE,
) -> None:
    """Feed recorded inputs to the core again.

    Or play a saved run again. Decisions that differ from the recorded ones end with exit code 1.
    """
    from router.sim.run import replay as play

    outcome = play(str(recording))
    _outcome(output, outcome)
    if not outcome["same"]:
        where = "" if outcome["diverged_at"] == "unknown" else f" from input {outcome['diverged_at']} on"
        typer.echo(f"tendril: decisions differ from the recorded ones{where}", err=True)
        raise typer.Exit(1)


@sim.command("list")
def list_scenarios(output: Output = Format.TABLE) -> None:
    """Print the shipped scenarios."""
    from router.sim.run import scenarios

    found = scenarios()
    columns = tuple(dict.fromkeys(name for scenario in found for name in scenario))
    show.rows(output, {"items": found}, columns, ([scenario.get(name) for name in columns] for scenario in found))


@sim.command()
def incident(
    history: Annotated[
        Path, typer.Argument(metavar="HISTORY.csv", exists=True, dir_okay=False, help="Incident history of a provider.")
    ],
    row: Annotated[int, typer.Option("--row", min=1, help="Which incident: 1 is the first below the header.")],
) -> None:
    """Print the scenario of one incident of a history, as YAML.

    Save it, edit it, and play it with `sim run FILE.yaml`.
    """
    from router.sim.incidents import as_yaml, scenario_of

    typer.echo(as_yaml(scenario_of(history, row)), nl=False)


@sim.command()
def schema() -> None:
    """Print the JSON Schema of scenario files.

    For editors and for programs that write scenarios; `sim run` checks more than a schema can.
    """
    from router.sim.schema import scenario_schema

    show.as_json(scenario_schema())


def _progress(number: int, seeds: int) -> Any:
    """What to call while a run goes on: one line that grows, for people only."""
    stderr = typer.get_text_stream("stderr")
    if not stderr.isatty():
        return None

    def tell(share: float, violations: int) -> None:
        text = f"\rrun {number + 1} of {seeds}: {share:4.0%}, {violations} violations "
        typer.echo(text + ("\n" if share >= 1 else ""), err=True, nl=False)

    return tell


def _outcome(output: Format, outcome: dict[str, Any]) -> None:
    if output is Format.JSON:
        show.as_json(outcome)
        return
    shown = {name: value for name, value in outcome.items() if name not in HIDDEN}
    show.facts((name, value) for name, value in shown.items() if not isinstance(value, list | dict))
    for name, items in shown.items():
        if isinstance(items, dict) and items:
            show.console().print(show.table(("counter", "count"), items.items(), title=name))
        if isinstance(items, list) and items:
            columns = tuple(items[0]) if isinstance(items[0], dict) else (name,)
            lines = ([*item.values()] if isinstance(item, dict) else [item] for item in items)
            show.console().print(show.table(columns, lines, title=name))


def _summary(output: Format, outcomes: list[dict[str, Any]]) -> None:
    columns = ("seed", "digest", "inputs", "generations", "moves", "violations")
    lines = [[outcome[name] for name in columns[:-1]] + [len(outcome["violations"])] for outcome in outcomes]
    show.rows(output, {"scenario": outcomes[0]["scenario"], "runs": outcomes}, columns, lines)
    if output is Format.TABLE:
        for outcome in outcomes:
            for text in outcome["violations"]:
                typer.echo(f"seed {outcome['seed']}: {text}")
