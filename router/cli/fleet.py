"""``tendril fleet``: compare a fleet file with what is in force, and apply it whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect

fleet = typer.Typer(no_args_is_help=True, help="Compare or apply a fleet file (YAML).")

File = Annotated[
    Path, typer.Argument(metavar="FILE.yaml", exists=True, dir_okay=False, readable=True, help="Fleet file.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Also delete what an earlier file of this managed_by had.")]

_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command group of this module."""
    app.add_typer(fleet, name="fleet", rich_help_panel=panel)


@fleet.command()
def plan(file: File, prune: Prune = False, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print what applying the file would change; changes nothing."""
    answer = _send(file, prune=prune, dry_run=True, url=url, key=key)
    if output is Format.JSON:
        show.as_json(answer)
        return
    _print_changes(answer)
    typer.echo(f"Plan: {_summary(answer)}. Nothing was changed.")


@fleet.command()
def apply(file: File, prune: Prune = False, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Apply the file in one transaction, whole or not at all, and print what changed."""
    answer = _send(file, prune=prune, dry_run=False, url=url, key=key)
    if output is Format.JSON:
        show.as_json(answer)
        return
    _print_changes(answer)
    typer.echo(f"Applied: {_summary(answer, done=True)}.")


def _send(path: Path, *, prune: bool, dry_run: bool, url: str | None, key: str | None) -> dict[str, Any]:
    from router.cli import fleet_file
    from router.client import ApiProblem
    from router.core.errors import InputRejected

    checked = fleet_file.read(path)
    if prune and "managed_by" not in checked.body:
        raise InputRejected(
            "prune_needs_managed_by",
            f"{path}: --prune needs managed_by, because only what carries that label may be deleted",
            field="managed_by",
            rule="is required to prune",
        )
    try:
        with connect(url, key) as client:
            return client.apply_fleet(checked.body | {"prune": prune, "dry_run": dry_run})
    except ApiProblem as error:
        line = checked.line_of(error.field) if error.field else None
        if line is not None:
            error.message = f"{path}:{line}: {error.message}"
        raise


def _summary(answer: Mapping[str, Any], *, done: bool = False) -> str:
    actions = [change["action"] for change in answer["changes"]]
    if not actions:
        return "no changes"
    words = {action: f"{action}d" if done else f"to {action}" for action in _SIGNS}
    return ", ".join(f"{actions.count(action)} {word}" for action, word in words.items())


def _print_changes(answer: Mapping[str, Any]) -> None:
    for change in answer["changes"]:
        sign, colour = _SIGNS[change["action"]]
        typer.secho(f"{sign} {change['kind']}/{change['id']}", fg=colour)
        if change["action"] != "delete":
            for line in _fields(change["fields"], fresh=change["action"] == "create"):
                typer.echo(f"    {line}")


def _fields(fields: Mapping[str, Mapping[str, Any]], *, fresh: bool) -> Iterator[str]:
    for name, change in fields.items():
        before, after = change["before"], change["after"]
        if fresh:
            if after not in (None, "", [], {}):
                yield f"{name}: {_value(after)}"
        elif isinstance(before, dict) and isinstance(after, dict):
            for part in sorted({*before, *after}):
                if before.get(part) != after.get(part):
                    yield f"{name}.{part}: {_value(before.get(part))} -> {_value(after.get(part))}"
        else:
            yield f"{name}: {_value(before)} -> {_value(after)}"


def _value(value: object) -> str:
    if value is None:
        return show.DASH
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
