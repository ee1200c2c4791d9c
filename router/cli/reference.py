"""Writes ``docs/reference/cli.md`` from the commands: ``python -m router.cli.reference > docs/reference/cli.md``.

A test holds page and commands together, so the page cannot rot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from router.cli import app

_INTRO = """# The command line

Generated from the commands by `python -m router.cli.reference`; do not edit.

Every command that asks a control plane takes `--url` (else `TENDRIL_URL`, else `http://127.0.0.1:7400`) and `--key`
(else `TENDRIL_KEY`, else, for a loopback address, the file `var/admin.key`). Reading commands take `-o table|json`; the
JSON is the API's. Unknown is printed as —, never as 0.

Exit codes: 0 done, 1 refused or failed with a reason on stderr, 2 wrong usage. A reason names the code, the field, the
rule, the limit, and how to insist where that is possible.

`tendril agent run|reflect|once` is the probe agent; it needs only the base install. `tendril agent --help` prints its
options.
"""


def page() -> str:
    """Return the whole page."""
    command: Any = get_command(app)
    context = command.make_context("tendril", [], resilient_parsing=True)
    parts = [_INTRO, *_group(command, context, "tendril")]
    return "\n".join(parts).rstrip("\n") + "\n"


def _group(group: Any, context: Any, path: str) -> Iterator[str]:
    for name in group.list_commands(context):
        if path == "tendril" and name == "agent":
            continue
        # What lives in another room is only a signpost in the help; resolving it loads the real thing.
        command = group.resolve_command(context, [name])[1]
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        yield from _command(command, inner, f"{path} {name}")
        if hasattr(command, "list_commands"):
            yield from _group(command, inner, f"{path} {name}")


def _command(command: Any, context: Any, path: str) -> Iterator[str]:
    yield f"{'#' * (len(path.split()))} `{path}`\n"
    if command.help:
        yield f"{' '.join(command.help.split())}\n"
    yield f"```console\n$ {path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    records = [param.get_help_record(context) for param in command.get_params(context)]
    shown = [record for record in records if record is not None and not record[0].startswith("-h,")]
    if shown:
        yield "| argument or option | meaning |\n|---|---|"
        yield "\n".join(f"| `{_cell(names)}` | {_cell(help)} |" for names, help in shown) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
