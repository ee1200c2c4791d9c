"""The page about the command line is what the commands say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from router.cli import app, demo_group
from router.cli.reference import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
WRITE = "python -m router.cli.reference > docs/reference/cli.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it again: {WRITE}"


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")


def test_every_command_and_every_option_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = [*commands(get_command(app), "tendril"), *commands(demo_group(), "tendril demo")]
    assert len(found) > 35
    for path, command in found:
        section = text.partition(f" `{path}`\n")[2].partition("\n#")[0]
        assert section, f"{path} is not on the page; {WRITE}"
        for param in command.params:
            for name in (*param.opts, *param.secondary_opts):
                if name.startswith("-") and not getattr(param, "hidden", False):
                    assert name in section, f"{path} {name} is not on the page; {WRITE}"
