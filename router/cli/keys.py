"""Keys and join tokens: who may ask, and how a node gets in."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect, duration_s

keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke keys; create join tokens.")


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command group of this module."""
    app.add_typer(keys, name="keys", rich_help_panel=panel)


@keys.command()
def create(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="viewer, media, operator, admin or agent:NODE.")],
    name: Annotated[str, typer.Option("--name", help="Whose key it is.")],
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a key. Its text is printed once, alone on stdout; only a hash of it is kept."""
    with connect(url, key) as client:
        made = client.create_key(scope, name)
    if output is Format.JSON:
        show.as_json(made)
    else:
        typer.echo(made["key"])
        typer.echo(f"key {made['id']}, scope {made['scope']}, for {made['name']}; it cannot be shown again", err=True)


@keys.command("list")
def list_keys(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print the keys, without their secrets."""
    with connect(url, key) as client:
        found = client.keys()
    lines = (
        [k["id"], k["scope"], k["name"], show.moment(k["created_at"]), show.moment(k["revoked_at"])] for k in found
    )
    show.rows(output, {"items": found}, ("id", "scope", "name", "created", "revoked"), lines)


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="Key, by the id that `keys list` prints.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Revoke a key at once."""
    with connect(url, key) as client:
        client.revoke_key(id)
    typer.echo(f"revoked {id}")


@keys.command("join-token")
def join_token(
    data_center: Annotated[str, typer.Argument(metavar="DATA_CENTER", help="Where the node stands.")],
    expires_in: Annotated[str, typer.Option("--expires-in", help="How long it may be used, such as 15m.")] = "1h",
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a single-use token with which one node joins. Its text is printed once, alone on stdout."""
    with connect(url, key) as client:
        made = client.join_token(data_center, duration_s(expires_in, "--expires-in") or 0)
    if output is Format.JSON:
        show.as_json(made)
    else:
        typer.echo(made["token"])
        typer.echo(f"for one node of {made['data_center']}, until {show.moment(made['expires_at'])}", err=True)
