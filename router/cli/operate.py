"""Running the control plane and looking after it: ``serve``, ``db``, ``config``, ``events``, ``support-bundle``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Limit, Output, Url, connect

if TYPE_CHECKING:
    from router.client import Client

Config = Annotated[
    Path | None,
    typer.Option("--config", exists=True, dir_okay=False, readable=True, help="Settings file, YAML."),
]

db = typer.Typer(no_args_is_help=True, help="The database.")
config_group = typer.Typer(no_args_is_help=True, help="Settings: check, schema, show.")


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands and command groups of this module."""
    app.command("serve", rich_help_panel=panel)(serve)
    app.command("events", rich_help_panel="Answers")(events)
    app.command("support-bundle", rich_help_panel=panel)(support_bundle)
    app.add_typer(db, name="db", rich_help_panel=panel)
    app.add_typer(config_group, name="config", rich_help_panel=panel)


def events(
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind, such as data_center.down.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only about this id.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only from this time on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only before this time, RFC 3339.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print what happens from now on.")] = False,
    limit: Limit = 50,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print audit and decisions, oldest first."""
    with connect(url, key) as client:
        if follow:
            _follow(client, output, kind, subject)
            return
        found = client.events(kind=kind, subject=subject, since=since, until=until, limit=limit)
    columns = ("at", "kind", "subject", "actor", "reason", "detail")
    show.rows(output, {"items": found}, columns, (_line(event) for event in reversed(found)))


def _follow(client: Client, output: Format, kind: str | None, subject: str | None) -> None:
    for item in client.stream():
        if item.kind == "resync":
            typer.echo("events were lost: this terminal reads too slowly", err=True)
        if item.kind != "event" or kind not in (None, item.data["kind"]) or subject not in (None, item.data["subject"]):
            continue
        if output is Format.JSON:
            show.as_json(item.data)
        else:
            typer.echo("  ".join(map(show.text, _line(item.data))))


def _line(event: Mapping[str, Any]) -> list[object]:
    return [
        show.moment(event["at"]), event["kind"], event["subject"], event["actor"], event["reason"],
        show.short(show.labels(event["detail"])),
    ]  # fmt: skip


def support_bundle(
    file: Annotated[Path | None, typer.Option("--file", dir_okay=False, help="Archive to write.")] = None,
    config: Config = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write an archive for somebody else to look at.

    Versions, redacted settings and the present view; no sessions, no keys. What cannot be had is named and left out.
    """
    from router.cli import bundle

    now_s = int(time.time())
    path = file or Path(time.strftime("tendril-support-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime(now_s)))
    with connect(url, key) as client:
        problems = bundle.write(path, client, lambda: _shown_settings(config), now_s)
    for part, reason in problems.items():
        typer.echo(f"left out {part}: {reason}", err=True)
    typer.echo(path)


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on [env: TENDRIL_HOST].")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on [env: TENDRIL_PORT].")] = None,
    config: Config = None,
) -> None:
    """Run the control plane in the foreground.

    Ctrl-C or SIGTERM stops it: answers under way are finished and the routes in force are kept for the next start.
    """
    from router import bootstrap, settings

    bootstrap.run(settings.load(config, host=host, port=port))


@db.command()
def upgrade(config: Config = None) -> None:
    """Bring the database to the newest schema."""
    from router import settings
    from router.store import Store

    chosen = settings.load(config)
    if not chosen.database_url:
        chosen.state_dir.mkdir(parents=True, exist_ok=True)
    store = Store(chosen.database)
    try:
        store.upgrade()
    finally:
        store.close()
    typer.echo(f"{chosen.shown()['database_url']} has the newest schema")


@config_group.command()
def check(config: Config = None) -> None:
    """Check settings: the file, the environment, and what both make together."""
    from router import settings

    settings.load(config)
    typer.echo("settings are good")


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    from router import settings

    show.as_json(settings.json_schema())


@config_group.command("show")
def show_settings(config: Config = None, output: Output = Format.TABLE) -> None:
    """Print the settings in force, secrets struck out."""
    from router import settings

    values = settings.load(config).shown()
    lines = ([name, f"TENDRIL_{name.upper()}", value] for name, value in values.items())
    show.rows(output, values, ("setting", "environment", "value"), lines)


def _shown_settings(path: Path | None) -> dict[str, Any]:
    from router import settings

    return settings.load(path).shown()
