"""``module_readme.py [--check]``: write each module's README tables from its variables and outputs.

What stands before the mark is written by hand and kept; ``--check`` writes nothing and fails where a file would change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MODULES = Path(__file__).resolve().parents[1] / "modules"
MARK = "<!-- Written by deploy/terraform/tools/module_readme.py; edit the .tf files. -->"
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.M | re.S)


def _value(body: str, name: str) -> str | None:
    """An argument's text on one line; arguments stand two spaces in, and so does what closes them."""
    found = re.search(rf"^  {name} +=(.*?)(?=^  \S+ +=|^  \w+ \{{|\Z)", body, re.M | re.S)
    if found is None:
        return None
    lines = [line.strip() for line in found[1].strip().splitlines()]
    text = re.sub(r" +", " ", ", ".join(line for line in lines if line))
    return re.sub(r"([({\[]), ", r"\1 ", text).replace(", }", " }")


def _words(body: str) -> str:
    told = _value(body, "description") or ""
    return told.strip('"').replace("|", "\\|")


def tables(module: Path) -> str:
    """The inputs and outputs of one module."""
    inputs, outputs = [], []
    for file in sorted(module.glob("*.tf")):
        for kind, name, body in BLOCK.findall(file.read_text(encoding="utf-8")):
            if kind == "output":
                secret = " Sensitive." if _value(body, "sensitive") else ""
                outputs.append(f"| `{name}` | {_words(body)}{secret} |")
                continue
            default = _value(body, "default")
            need = "required" if default is None else f"`{default}`"
            inputs.append(f"| `{name}` | `{_value(body, 'type')}` | {need} | {_words(body)} |")
    head = "## Inputs\n\n| name | type | default | |\n|---|---|---|---|\n"
    return (
        f"{MARK}\n\n{head}"
        + "\n".join(inputs)
        + "\n\n## Outputs\n\n| name | |\n|---|---|\n"
        + "\n".join(outputs)
        + "\n"
    )


def main() -> None:
    """The command."""
    stale = []
    for module in sorted(path for path in MODULES.iterdir() if path.is_dir()):
        readme = module / "README.md"
        old = readme.read_text(encoding="utf-8") if readme.exists() else f"# {module.name}\n\n"
        new = old.partition(MARK)[0] + tables(module)
        if new != old:
            stale.append(str(readme.relative_to(MODULES)))
            if "--check" not in sys.argv:
                readme.write_text(new, encoding="utf-8")
    if stale:
        print("\n".join(stale))
    raise SystemExit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
