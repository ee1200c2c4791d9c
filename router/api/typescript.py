"""Writes the dashboard's types from the API's own description, so that neither can drift from the other.

``python -m router.api.typescript [FOLDER]`` writes one TypeScript type per schema of ``/openapi.json`` that ``api.ts``
of the dashboard imports, and, in a second file, per schema those are made of. Only what the schemas of this API use is
understood; anything else fails loudly.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router.api.app import GROUPS, describe

Schema = Mapping[str, Any]
LIB = Path(__file__).parent.parent / "dashboard" / "web" / "src" / "lib"
TARGET, PARTS = "contract.ts", "contract-parts"
IMPORTED = re.compile(r"import type \{([^}]*)\} from './contract'")
HEAD = "// Generated from /openapi.json by `python docs/generate.py`: do not edit.\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
WIDTH = 140  # characters; an object that fits stands on one line
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def pages() -> dict[str, str]:
    """The two files by name: types that ``api.ts`` imports, and the parts those are made of."""
    schemas: Mapping[str, Schema] = describe(GROUPS)["components"]["schemas"]
    imported = IMPORTED.search((LIB / "api.ts").read_text(encoding="utf-8"))
    if imported is None:
        raise ValueError("api.ts imports nothing from ./contract")
    asked = {name.strip() for name in imported[1].split(",") if name.strip()}
    wholes, parts = sorted(asked), sorted(closure(schemas, sorted(asked)) - asked)
    return {
        TARGET: _file(schemas, wholes, parts, PARTS) + f"\nexport type * from './{PARTS}'\n",
        f"{PARTS}.ts": _file(schemas, parts, wholes, TARGET.removesuffix(".ts")),
    }


def _file(schemas: Mapping[str, Schema], names: Sequence[str], others: Sequence[str], elsewhere: str) -> str:
    """Declarations in the order of their names; of ``others`` those that they mention are imported."""
    body = "".join(declaration(name, schemas[name]) for name in names)
    mentioned = set(re.findall(r"\w+", body))
    wanted = [identifier(name) for name in others if identifier(name) in mentioned]
    rows = "".join(f"  {name},\n" for name in wanted)
    return HEAD + (f"import type {{\n{rows}}} from './{elsewhere}'\n" if wanted else "") + body


def closure(schemas: Mapping[str, Schema], names: Sequence[str]) -> set[str]:
    """The named schemas and all that they refer to. Raises ``KeyError`` for a name that the API does not have."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schemas[name]))
    return found


def declaration(name: str, schema: Schema) -> str:
    """One exported type, with the schema's first sentence above it."""
    said = schema.get("description", "").split("\n")[0].replace("*/", "* /").replace("``", "`")
    comment = f"/** {said} */\n" if said else ""
    return f"\n{comment}export type {identifier(name)} = {type_of(schema, '')}\n"


def identifier(name: str) -> str:
    """A schema's name as TypeScript accepts it."""
    return re.sub(r"\W+", "_", name).strip("_")


def type_of(schema: Schema, indent: str) -> str:
    """The TypeScript type of a schema. Raises ``ValueError`` for what it does not understand."""
    if "$ref" in schema:
        return identifier(schema["$ref"].rsplit("/", 1)[1])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " | ".join(dict.fromkeys(type_of(one, indent) for one in schema[choice]))
    if "allOf" in schema:
        return " & ".join(type_of(one, indent) for one in schema["allOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(PLAIN[one] for one in kind)
    if kind == "array":
        return array_of(schema, indent)
    if kind == "object":
        return object_of(schema, indent)
    if kind is None:
        return "unknown"
    if kind not in PLAIN:
        raise ValueError(f"no TypeScript type for {schema!r}")
    return PLAIN[kind]


def array_of(schema: Schema, indent: str) -> str:
    """The type of a list, or of a tuple."""
    if "prefixItems" in schema:
        return f"[{', '.join(type_of(one, indent) for one in schema['prefixItems'])}]"
    item = type_of(schema.get("items", {}), indent)
    return f"({item})[]" if " " in item else f"{item}[]"


def object_of(schema: Schema, indent: str) -> str:
    """The type of an object with named fields, or of a mapping."""
    fields: Mapping[str, Schema] = schema.get("properties", {})
    if not fields:
        values = schema.get("additionalProperties", {})
        return f"Record<string, {type_of(values, indent) if isinstance(values, dict) else 'unknown'}>"
    required = schema.get("required", ())
    inner = indent + "  "
    rows = [
        f"{name if NAME.fullmatch(name) else json.dumps(name)}{'' if name in required else '?'}: {type_of(one, inner)}"
        for name, one in fields.items()
    ]
    flat = "{ " + "; ".join(rows) + " }"
    if len(indent) + len(flat) <= WIDTH and "\n" not in flat:
        return flat
    return "{\n" + "".join(f"{inner}{line}\n" for line in filled(rows, WIDTH - len(inner))) + indent + "}"


def filled(rows: Sequence[str], width: int) -> list[str]:
    """As many fields on a line as fit; one of several lines stands alone."""
    lines: list[str] = []
    for row in rows:
        last = lines[-1] if lines else ""
        if last and "\n" not in last + row and len(last) + len(row) + 2 <= width:
            lines[-1] = f"{last}; {row}"
        else:
            lines.append(row)
    return lines


def main(arguments: Sequence[str]) -> int:
    """Command line: the folder to write to; the dashboard's own by default."""
    if len(arguments) > 1:
        sys.stderr.write("usage: python -m router.api.typescript [FOLDER]\n")
        return 2
    folder = Path(arguments[0]) if arguments else LIB
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
