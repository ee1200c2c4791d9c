"""Webhooks: who is told of which events, and how that goes."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect

webhooks = typer.Typer(no_args_is_help=True, help="Tell other systems of events by signed HTTP messages.")
Id = Annotated[str, typer.Argument(metavar="ID", help="The webhook.")]


def attach(app: typer.Typer, panel: str) -> None:
    """Add the command group of this module."""
    app.add_typer(webhooks, name="webhooks", rich_help_panel=panel)


@webhooks.command()
def put(
    id: Id,
    receiver: Annotated[str, typer.Argument(metavar="URL", help="Where messages are posted, by https.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="A kind, such as session.ended, or all below one, such as drain; repeatable."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Keep it, and tell it nothing.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create or replace a webhook. The secret of a new one is printed once, alone on stdout."""
    with connect(url, key) as client:
        made = client.put_webhook(id, {"url": receiver, "events": event or [], "enabled": not off})
    if output is Format.JSON:
        show.as_json(made)
        return
    if "secret" in made:
        typer.echo(made["secret"])
    typer.echo(f"webhook {made['id']}, revision {made['revision']}, tells {made['url']}", err=True)


@webhooks.command("list")
def list_webhooks(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print the webhooks and how deliveries to them go."""
    with connect(url, key) as client:
        found = client.webhooks()
    names = ("id", "state", "pending", "delivered", "given up", "last error", "events", "url")
    show.rows(output, {"items": found}, names, (_line(one) for one in found))


def _line(webhook: dict[str, object]) -> list[object]:
    state = webhook["deliveries"]
    assert isinstance(state, dict)
    kinds = webhook["events"]
    shown = ", ".join(kinds) if isinstance(kinds, list) and kinds else "all"
    how = [state[name] for name in ("state", "pending", "delivered", "given_up", "last_error")]
    return [webhook["id"], *how, shown, webhook["url"]]


@webhooks.command()
def deliveries(id: Id, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print the messages that wait for a webhook, oldest first."""
    with connect(url, key) as client:
        found = client.webhook_deliveries(id)
    lines = (
        [one["id"], one["kind"], one["subject"], one["attempts"], show.moment(one["next_at"]), one["last_error"]]
        for one in found
    )
    show.rows(output, {"items": found}, ("id", "kind", "subject", "attempts", "next try", "last error"), lines)


@webhooks.command()
def test(id: Id, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Post a test message now; exit code 1 if it was not taken."""
    with connect(url, key) as client:
        answer = client.test_webhook(id)
    if output is Format.JSON:
        show.as_json(answer)
    elif answer["delivered"]:
        typer.echo(f"taken: {answer['status']} after {answer['took_ms']} ms")
    else:
        typer.echo(f"not taken: {answer['error']} after {answer['took_ms']} ms", err=True)
    if not answer["delivered"]:
        raise typer.Exit(1)


@webhooks.command()
def secret(id: Id, output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Make another secret. It is printed once, alone on stdout; the old one signs too for a day."""
    with connect(url, key) as client:
        made = client.renew_webhook_secret(id)
    if output is Format.JSON:
        show.as_json(made)
    else:
        typer.echo(made["secret"])
        typer.echo(f"the secret before signs too until {show.moment(made['old_secret_until'])}", err=True)


@webhooks.command()
def delete(id: Id, url: Url = None, key: Key = None) -> None:
    """Delete a webhook and the messages that wait for it."""
    with connect(url, key) as client:
        client.delete("webhooks", id)
    typer.echo(f"deleted {id}")
