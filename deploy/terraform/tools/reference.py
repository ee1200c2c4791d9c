"""``python deploy/terraform/tools/reference.py``: write docs/reference/terraform.md from what Terraform sees."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
ADDRESS = "tendril.example/tendril/tendril"
PAGE = ROOT / "docs/reference/terraform.md"
HEAD = """# Terraform provider

Generated from the provider's schema by `python deploy/terraform/tools/reference.py`. The schema itself is derived from
the API's models; see [ADR 0015](../adr/0015-terraform-provider-in-python.md), and
[add a region](../how-to/add-a-region.md) for the whole way.

- **Import** takes an id or `name:NAME`; a link also `FROM:TO[:TRANSPORT]`, a drain its selector, a join token
  `ID/NAME/ROTATION` (its secret cannot be imported), and what several configurations share `shared:ID`.
- **`provider_id`** is the API's `provider`, a word that Terraform keeps for itself.
- **`intent`** is left alone unless it is configured, so that a drain is no drift. What a node says about itself when it
  joins (`addresses`, ports, `media_url`, `labels`) is left alone unless it is configured.
- **Destroy** of a data center, node or pool with live sessions drains it, waits `drain.timeout_s`, and is then refused:
  nothing is cut, the state keeps the resource, and the drain stays open.
- **A join token** that was used or has expired, and a drain that has ended, make no difference to a plan.
- **Create** takes over what is there only if it is exactly what the configuration says (an apply that was killed);
  anything else has to be imported.

"""


def kind_of(attribute: dict[str, Any]) -> str:
    """An attribute's type in words."""
    if "nested_type" in attribute:
        return "object"
    kind = attribute["type"]
    if isinstance(kind, str):
        return kind
    return (
        f"{kind[0]} of {kind[1]}"
        if isinstance(kind[1], str)
        else f"{kind[0]} of objects"
        if kind[0] != "object"
        else "object"
    )


def rows(attributes: dict[str, Any], prefix: str = "") -> list[str]:
    """Table rows, members of objects below their object."""
    found = []
    ordered = sorted(attributes.items(), key=lambda one: (not one[1].get("required"), "optional" not in one[1], one[0]))
    for name, one in ordered:
        need = "required" if one.get("required") else "optional" if one.get("optional") else "read-only"
        words = one.get("description", "").replace("|", "\\|").replace("\n", " ")
        secret = " Sensitive." if one.get("sensitive") else ""
        found.append(f"| `{prefix}{name}` | {kind_of(one)} | {need} | {words}{secret} |")
        if "nested_type" in one:
            found += rows(one["nested_type"]["attributes"], f"{prefix}{name}.")
    return found


def table(title: str, block: dict[str, Any]) -> str:
    """One section."""
    head = f"### `{title}`\n\n{block.get('description', '')}\n\n" if block.get("description") else f"### `{title}`\n\n"
    return (
        head + "| attribute | type | | |\n|---|---|---|---|\n" + "\n".join(rows(block.get("attributes", {}))) + "\n\n"
    )


def page(shown: dict[str, Any]) -> str:
    """The whole page."""
    text = HEAD + "## Provider\n\n" + table('provider "tendril"', shown["provider"]["block"])
    for title, key, word in (
        ("Resources", "resource_schemas", "resource"),
        ("Data sources", "data_source_schemas", "data"),
    ):
        text += f"## {title}\n\n"
        text += "".join(table(f"{word} {name}", shown[key][name]["block"]) for name in sorted(shown[key]))
    return text.rstrip() + "\n"


def main() -> None:
    """Ask Terraform, write the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = ROOT / "deploy/terraform/provider/.venv/bin"
        rc = Path(folder) / "rc"
        rc.write_text(f'provider_installation {{\n  dev_overrides {{ "{ADDRESS}" = "{path}" }}\n}}\n')
        (Path(folder) / "main.tf").write_text(
            f'terraform {{\n  required_providers {{\n    tendril = {{ source = "{ADDRESS}" }}\n  }}\n}}\n'
        )
        env = {**os.environ, "TF_CLI_CONFIG_FILE": str(rc), "CHECKPOINT_DISABLE": "1"}
        command = ["terraform", "providers", "schema", "-json"]
        out = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    PAGE.write_text(page(json.loads(out)["provider_schemas"][ADDRESS]), encoding="utf-8")


if __name__ == "__main__":
    main()
