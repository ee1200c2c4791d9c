"""The models of a cloud's own SDK, as JSON schemas: the description of clouds that publish no other.

Every object is closed, so that an unknown field is a violation; a field that the model always has must be there. What
Azure's models mark as readable only may be told and not be sent. A field with a list of words takes no other word.
"""

from __future__ import annotations

import datetime
import enum
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

_PLAIN: Mapping[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bytes: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime.datetime: {"type": "string"},
    datetime.date: {"type": "string"},
    datetime.timedelta: {"type": "string"},
}
_NOT_KEPT_UP = ("VirtualMachineSizeTypes",)  # by its own description, of old sizes alone
_REFERENCE = "urn:description#/definitions/"


def reference(name: str) -> dict[str, Any]:
    """Return the schema of a model by its name in the document."""
    return {"$ref": _REFERENCE + name}


def array_of(name: str) -> dict[str, Any]:
    """Return the schema of a list of models."""
    return {"type": "array", "items": reference(name)}


# --- Azure: classes with a field for each attribute -----------------------------------------------------------------


def azure(modules: Iterable[Any], sent: Iterable[str], told: Iterable[str]) -> dict[str, Any]:
    """Return the document of the named models: ``MODULE.NAME.sent`` for requests, ``MODULE.NAME.told`` for answers."""
    definitions: dict[str, Any] = {}
    known = {name: model for module in modules for name, model in vars(module).items() if inspect.isclass(model)}
    for names, mark in ((sent, "sent"), (told, "told")):
        for name in names:
            _azure_model(known[name], mark, definitions)
    return {"definitions": definitions}


def _azure_model(model: Any, mark: str, definitions: dict[str, Any]) -> dict[str, Any]:
    name = f"{model.__module__.split('.')[2]}.{model.__name__}.{mark}"
    if name not in definitions:
        definitions[name] = {}
        package = importlib.import_module(model.__module__.rpartition(".")[0])  # what the annotations call _models
        hints = typing.get_type_hints(model, {**vars(inspect.getmodule(model)), "_models": package})
        model()  # the SDK looks its fields up when the first one is made
        properties, required = {}, []
        for attribute, field in model._attr_to_rest_field.items():
            readable_only = field._visibility == ["read"]
            if readable_only and mark == "sent":
                continue
            properties[field._rest_name] = _azure_type(hints[attribute], mark, definitions)
            if type(None) not in typing.get_args(hints[attribute]) and (mark == "sent" or not readable_only):
                required.append(field._rest_name)
        definitions[name] |= {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            definitions[name]["required"] = required
    return reference(name)


def _azure_type(hint: Any, mark: str, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [i for i in inner if i is not type(None)]
        words = [k for k in kinds if inspect.isclass(k) and issubclass(k, enum.Enum)]
        return _azure_type((words or kinds)[0], mark, definitions)
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (list, typing.List):  # noqa: UP006
        return {"type": "array", "items": _azure_type(inner[0], mark, definitions)}
    if origin in (dict, typing.Dict):  # noqa: UP006
        return {"type": "object", "additionalProperties": _azure_type(inner[1], mark, definitions)}
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return {"type": "string"} if hint.__name__ in _NOT_KEPT_UP else {"enum": [word.value for word in hint]}
    if inspect.isclass(hint) and hasattr(hint, "_deserialize"):
        return _azure_model(hint, mark, definitions)
    return {}


# --- Oracle: classes with the names of types, and prose ---------------------------------------------------------------

_OCI_PLAIN = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "datetime": datetime.datetime,
    "date": datetime.date,
}


def oracle(modules: Iterable[Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the document of the named models."""
    known = {name: model for module in modules for name, model in vars(module).items() if inspect.isclass(model)}
    definitions: dict[str, Any] = {}
    for name in names:
        _oci_model(name, known, definitions)
    return {"definitions": definitions}


def _oci_model(name: str, known: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if name not in definitions:
        model, definitions[name] = known[name], {}
        kinds = [k for k in known.values() if k is not model and issubclass(k, model)]
        if hasattr(model, "get_subtype") and kinds:
            definitions[name] |= {"anyOf": [_oci_model(k.__name__, known, definitions) for k in kinds]}
        else:
            definitions[name] |= _oci_object(model, known, definitions)
    return reference(name)


def _oci_object(model: Any, known: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    empty = model()
    properties, required = {}, []
    for attribute, kind in empty.swagger_types.items():
        schema, word = _oci_type(kind, known, definitions), getattr(empty, attribute)
        words = [v for k, v in vars(model).items() if k.startswith(f"{attribute.upper()}_") and isinstance(v, str)]
        if word is not None:  # the one that tells this kind from the others
            schema = {"enum": [word]}
        elif words and schema == {"type": "string"}:
            schema = {"enum": words}
        wanted = "**[Required]**" in (inspect.getdoc(getattr(model, attribute)) or "")
        properties[empty.attribute_map[attribute]] = schema if wanted else {"anyOf": [schema, {"type": "null"}]}
        if wanted:
            required.append(empty.attribute_map[attribute])
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | ({"required": required} if required else {})


def _oci_type(kind: str, known: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    listed = re.fullmatch(r"list\[(.*)\]", kind)
    if listed:
        return {"type": "array", "items": _oci_type(listed[1], known, definitions)}
    mapped = re.fullmatch(r"dict\(str, (.*)\)", kind)
    if mapped:
        return {"type": "object", "additionalProperties": _oci_type(mapped[1], known, definitions)}
    if kind in _OCI_PLAIN:
        return dict(_PLAIN[_OCI_PLAIN[kind]])
    return _oci_model(kind, known, definitions) if kind in known else {}
