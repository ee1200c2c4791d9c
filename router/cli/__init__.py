"""The operator CLI: ``tendril``. Thin commands over the client, one module per group.

Start-up matters to operators' fingers: command modules import only ``typer``; the client, tables, YAML and everything
heavier are imported by the command that needs them. ``demo`` and ``agent`` belong to other rooms of the house: the help
lists them here, their code is loaded when they are called.

Exit codes: 0 done, 1 refused or failed with a reason on stderr, 2 wrong usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from router.cli import (
    answers,
    capacity,
    drains,
    fleet,
    keys,
    launches,
    operate,
    ramps,
    sessions,
    show,
    simulate,
    webhooks,
    whatif,
)
from router.core.errors import TendrilError

_ELSEWHERE = {
    "agent": "The probe agent of one node: run, reflect, once.",
    "demo": "The living demo world: WAN, probe agents, users.",
}
_PANELS = {
    "Answers": (answers,),
    "Operations": (drains, ramps, whatif, capacity, launches),
    "Sessions": (sessions,),
    "Intent": (fleet,),
    "Control plane": (operate, keys, webhooks),
    "Worlds and nodes": (simulate,),
}


class Commands(TyperGroup):
    """The top-level group: lists commands that live elsewhere, and turns expected failures into exit code 1."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all command names, those of other rooms included."""
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; for one that lives elsewhere a signpost that only knows its help."""
        if cmd_name in _ELSEWHERE:
            return TyperCommand(cmd_name, help=_ELSEWHERE[cmd_name], rich_help_panel="Worlds and nodes")
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of the help, by panel."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        width = max(map(len, commands))
        for panel in _PANELS:
            lines = [
                (name.ljust(width), command.get_short_help_str(formatter.width - width - 6))
                for name, command in commands.items()
                if command.rich_help_panel == panel
            ]
            with formatter.section(panel):
                formatter.write_dl(lines)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command to run, loading the code of the room it lives in."""
        if args[:1] == ["demo"]:
            return "demo", demo_group(), args[1:]
        if args[:1] == ["agent"]:
            from probes.cli import main as agent

            raise typer.Exit(agent(args[1:]))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error that says whose fault it is becomes a message, never a traceback."""
        try:
            return super().invoke(ctx)
        except TendrilError as error:
            show.problem(error)
            raise typer.Exit(1) from error


def demo_group() -> Any:
    """Load the commands of the demo world."""
    from typer.main import get_command

    from router.demo.commands import app as demo

    demo.rich_markup_mode = None  # as here
    return get_command(demo)


def _version(wanted: bool) -> None:
    if wanted:
        import router

        typer.echo(f"tendril {router.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="tendril",
    cls=Commands,
    rich_markup_mode=None,  # plain help is on the screen in half the time of the ornamented one
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(help="Tendril: measures every leg, finds the fastest path each way, places and keeps sessions.")
def _tendril(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


for _panel, _modules in _PANELS.items():
    for _module in _modules:
        _module.attach(app, _panel)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        app(args=list(argv), prog_name="tendril")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
