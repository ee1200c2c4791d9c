"""From JSON Schema to Terraform: attribute types, both ways of values, and the checks that run at plan time.

PURE besides the type classes of ``tf``. Objects with named members become nested attributes, so that a configuration
may leave members out; objects with free keys become maps; an array marked ``unordered`` becomes a set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tf.gen import tfplugin_pb2 as pb
from tf.schema import Attribute
from tf.types import Bool, List, Map, Number, Set, String, TfType, Unknown

Schema = Mapping[str, Any]
Path = list[Any]  # attribute names, and one-tuples of list positions or map keys, as ``tf`` wants them
# What Terraform keeps for itself as an argument of every resource.
RENAMED = {"provider": "provider_id"}
MISSING = object()


class Num(Number):
    """A number; one that 64 bits cannot hold exactly arrives as text."""

    def decode(self, value: Any) -> Any:
        """Text -> float."""
        return float(value) if isinstance(value, str) else value


class Object(TfType):
    """Named members, each of a type of its own."""

    def __init__(self, members: dict[str, TfType]) -> None:
        self.members = members

    def encode(self, value: Any) -> Any:
        """Every member, null where it is missing."""
        if value is None or value is Unknown:
            return value
        return {name: _or_null(kind.encode, value.get(name)) for name, kind in self.members.items()}

    def decode(self, value: Any) -> Any:
        """Every member that came."""
        if value is None or value is Unknown:
            return value
        return {name: _or_null(kind.decode, value.get(name)) for name, kind in self.members.items()}

    def tf_type(self) -> bytes:
        """As the protocol spells it; used inside lists, where there is no nested attribute."""
        members = ",".join(f'"{name}":{kind.tf_type().decode()}' for name, kind in sorted(self.members.items()))
        return f'["object",{{{members}}}]'.encode()


def _or_null(convert: Any, value: Any) -> Any:
    return value if value is None or value is Unknown else convert(value)


class Nested(Attribute):
    """An attribute that is an object of attributes, of which a configuration may leave some out."""

    def __init__(self, name: str, members: list[Attribute], **more: Any) -> None:
        super().__init__(name, Object({one.name: one.type for one in members}), **more)
        self.members = members

    def to_pb(self) -> pb.Schema.Attribute:
        """The protocol's form."""
        made = super().to_pb()
        made.ClearField("type")
        nested = pb.Schema.Object(attributes=[one.to_pb() for one in self.members], nesting=pb.Schema.Object.SINGLE)
        made.nested_type.CopyFrom(nested)
        return made


def type_of(schema: Schema) -> TfType:
    """Terraform's type of a JSON Schema."""
    match schema.get("type"):
        case "integer" | "number":
            return Num()
        case "boolean":
            return Bool()
        case "array":
            return (Set if schema.get("unordered") else List)(type_of(schema["items"]))
        case "object" if "properties" in schema:
            return Object({name: type_of(part) for name, part in schema["properties"].items()})
        case "object":
            return Map(type_of(_values_of(schema)))
        case _:
            return String()


def _values_of(schema: Schema) -> Schema:
    patterns = schema.get("patternProperties")
    if patterns:
        return next(iter(patterns.values()))  # type: ignore[no-any-return]
    free = schema.get("additionalProperties")
    return free if isinstance(free, Mapping) else {"type": "string"}


def tf_name(name: str) -> str:
    """A field of the API as Terraform names it at the top of a resource."""
    return RENAMED.get(name, name)


def settable(name: str, schema: Schema, required: bool, **more: Any) -> Attribute:
    """An attribute that a configuration may or must give; with a default it is known in every plan."""
    default = schema.get("default", MISSING)
    filled = default is not MISSING and default is not None
    how: dict[str, Any] = {"required": required, "optional": not required, "computed": filled and not required}
    how |= {"description": describe(schema), "default": default if filled else Unknown} | more
    if "properties" in schema:
        members = [settable(n, part, n in schema.get("required", ())) for n, part in schema["properties"].items()]
        return Nested(name, members, **how)
    return Attribute(name, type_of(schema), **how)


def answered(name: str, schema: Schema, **more: Any) -> Attribute:
    """An attribute that only the control plane knows."""
    return Attribute(name, type_of(schema), computed=True, description=describe(schema), **more)


def describe(schema: Schema) -> str:
    """What a person should know of a value: words, allowed values, limits, default."""
    parts = [" ".join(str(schema.get("description", "")).replace("``", "`").split())]
    if "enum" in schema:
        parts.append("One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
    items = schema.get("items", {})
    if "enum" in items:
        parts.append("Each one of " + ", ".join(f"`{value}`" for value in items["enum"]) + ".")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        parts.append(f"{low:g} to {high:,.0f}." if high >= 1e6 else f"{low:g} to {high:g}.")
    if schema.get("default") not in (None, "", {}, []):
        parts.append(f"Default `{_literal(schema['default'])}`.")
    return " ".join(part for part in parts if part)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{n} = {_literal(v)}" for n, v in value.items() if v is not None) + " }"
    return str(value).replace("'", '"')


def broken(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield ``(path, rule)`` of everything in a value that the API would refuse; unknown values pass."""
    if value is None or value is Unknown:
        return
    match schema.get("type"):
        case "integer" | "number":
            yield from _bad_number(schema, value, path)
        case "string":
            yield from _bad_text(schema, value, path)
        case "array":
            yield from _bad_list(schema, value, path)
        case "object" if "properties" in schema:
            for name, part in schema["properties"].items():
                for _, rule in broken(part, value.get(name), []):  # Terraform finds no line inside an object literal
                    yield path, f"{name} {rule}"
        case "object":
            yield from _bad_map(schema, value, path)


def _bad_number(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    number = float(value)
    if schema["type"] == "integer" and number != int(number):
        yield path, f"must be a whole number, not {value}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and number < low:
        yield path, f"must be at least {low:g}, not {value}"
    if high is not None and number > high:
        yield path, f"must be at most {high:g}, not {value}"


def _bad_text(schema: Schema, value: str, path: Path) -> Iterator[tuple[Path, str]]:
    if "enum" in schema and value not in schema["enum"]:
        yield path, f'must be one of {", ".join(schema["enum"])}, not "{value}"'
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        yield path, f"must have at most {longest} characters, not {len(value)}"
    if shortest is not None and len(value) < shortest:
        yield path, f"must have at least {shortest} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield path, f'"{value}" does not match {schema["pattern"]}'


def _bad_list(schema: Schema, value: list[Any], path: Path) -> Iterator[tuple[Path, str]]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield path, f"must have at most {most} entries, not {len(value)}"
    if least is not None and len(value) < least:
        yield path, f"must have at least {least} entries"
    known = [one for one in value if one is not Unknown]
    if len({str(one) for one in known}) < len(known):
        yield path, "must not repeat an entry"
    for i, one in enumerate(value):
        for _, rule in broken(schema["items"], one, []):  # a set has no positions to point at
            yield (path if schema.get("unordered") else [*path, (i,)]), rule


def _bad_map(schema: Schema, value: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    most = schema.get("maxProperties")
    if most is not None and len(value) > most:
        yield path, f"must have at most {most} entries, not {len(value)}"
    patterns = schema.get("patternProperties", {})
    for key, one in value.items():
        if patterns and not any(re.search(pattern, key) for pattern in patterns):
            yield path, f'the key "{key}" does not match {" or ".join(patterns)}'
        yield from broken(_values_of(schema), one, [*path, (key,)])
