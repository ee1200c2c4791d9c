"""Data sources: every resource by id or name, and what is measured: routes, health; and the catalogue of regions."""

from __future__ import annotations

import difflib
import json
from abc import abstractmethod
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

from tf.iface import Config, DataSource, State
from tf.schema import Attribute, Schema
from tf.utils import Diagnostics

from tendril_terraform import names
from tendril_terraform.client import segment
from tendril_terraform.kinds import Kind, api
from tendril_terraform.problems import Failed, told
from tendril_terraform.resource import validated
from tendril_terraform.shape import answered, settable, tf_name, type_of

Fields = dict[str, dict[str, Any]]
_ID: dict[str, Any] = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}


class Looked(DataSource):
    """What all data sources do: check what is asked, ask, and say in the configuration's terms what went wrong."""

    name: str
    asks: ClassVar[Fields]
    required: tuple[str, ...]
    answers: ClassVar[Fields]
    description: str

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Terraform's name without the provider's."""
        return cls.name

    @classmethod
    def get_schema(cls) -> Schema:
        """What is asked, and what is answered."""
        asked = [cls._asked(name, schema) for name, schema in cls.asks.items()]
        told_back = [answered(tf_name(n), s) for n, s in cls.answers.items() if n not in cls.asks]
        return Schema([*asked, *told_back], description=cls.description)

    @classmethod
    def _asked(cls, name: str, schema: dict[str, Any]) -> Attribute:
        attribute = settable(tf_name(name), schema, name in cls.required)
        attribute.computed = name not in cls.required and (name in cls.answers or attribute.computed)
        return attribute

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        """Say what is wrong before anything is asked of anybody."""
        for path, rule in validated(config, {tf_name(name): schema for name, schema in self.asks.items()}):
            diags.add_error(f"Wrong value of {path[0]}", f"{path[0]} {rule}.", path)

    def read(self, ctx: Any, config: Config) -> State | None:
        """Ask."""
        known = [tf_name(name) for name in (*self.asks, *self.answers)]
        return told(ctx.diagnostics, known, lambda: self.encoded(config, self.ask(config)), None)

    @abstractmethod
    def ask(self, config: Config) -> dict[str, Any]:
        """The answer, by the API's names."""

    def encoded(self, config: Config, answer: dict[str, Any]) -> State:
        """Every attribute, as Terraform wants it."""
        values = {tf_name(name): config.get(tf_name(name)) for name in self.asks}
        for name, schema in {**self.asks, **self.answers}.items():
            if name in answer:
                values[tf_name(name)] = type_of(schema).encode(answer[name])
        return values


def of_kind(kind: Kind) -> type[DataSource]:
    """The data source of a kind of the inventory."""
    by_name = {"name": {"type": "string", "description": "Instead of `id`."}} if "name" in kind.fields else {}

    class OfKind(Looked):
        name = kind.name
        asks: ClassVar[Fields] = {"id": _ID | {"description": "Its id."}, **by_name}
        required = () if by_name else ("id",)
        answers: ClassVar[Fields] = {
            **kind.fields,
            "revision": {"type": "integer", "description": "Counts the changes."},
        }
        description = f"A {kind.name.replace('_', ' ')} that is there already."

        def ask(self, config: Config) -> dict[str, Any]:
            id, name = config.get("id"), config.get("name") if by_name else None
            if (id is None) == (name is None):
                raise Failed("Which one?", "Give id, or name." if by_name else "Give id.", ["id"])
            wanted = id if name is None else names.find(self.provider.client, kind, f"name:{name}")
            found = self.provider.client.get(f"{kind.path}/{segment(wanted)}")
            if found is None:
                raise Failed(f"There is no {kind.name} {wanted}", path=["id"])
            return {"name": None, **found} if by_name else found

    return OfKind


def _by_id(name: str, path: str, schema: dict[str, Any], words: str) -> type[DataSource]:
    class ById(Looked):
        asks: ClassVar[Fields] = {"id": {"type": "string", "description": "Its id."}}
        required = ("id",)
        answers: ClassVar[Fields] = schema["properties"]
        description = words

        def ask(self, config: Config) -> dict[str, Any]:
            found = self.provider.client.get(f"{path}/{segment(config['id'])}")
            if found is None:
                raise Failed(f"There is no {name.replace('_', ' ')} {config['id']}", path=["id"])
            return found  # type: ignore[no-any-return]

    ById.name = name
    return ById


class RouteNow(Looked):
    """The route in force, both ways."""

    name = "route"
    required = ("from", "to")
    answers: ClassVar[Fields] = api()["route"]["properties"]
    asks: ClassVar[Fields] = {
        "from": _ID | {"description": "Data center."},
        "to": _ID | {"description": "Data center."},
        "class": answers["class"] | {"description": "Traffic class; `voice` unless given."},
        "policy": _ID | {"description": "Policy."},
    }
    description = "The best route now between two data centers, there and back."

    def ask(self, config: Config) -> dict[str, Any]:
        """The answer, by the API's names."""
        query = {name: config[name] for name in ("class", "policy") if config.get(name) is not None}
        found = self.provider.client.get(f"/v1/routes/{segment(config['from'])}/{segment(config['to'])}", **query)
        if found is None:
            raise Failed(f"There is no data center {config['from']} or {config['to']}", path=["from"])
        return found  # type: ignore[no-any-return]


class HealthNow(Looked):
    """The whole fleet at one look."""

    name = "health"
    asks: ClassVar[Fields] = {}
    required = ()
    answers: ClassVar[Fields] = api()["health"]["properties"]
    description = "Health of every data center, and of regions x providers, as it is now."

    def ask(self, config: Config) -> dict[str, Any]:
        """The answer, by the API's names."""
        return self.provider.client.get("/v1/health")  # type: ignore[no-any-return]


@cache
def catalog() -> list[dict[str, Any]]:
    """Every provider's published regions."""
    rows: list[dict[str, Any]] = json.loads(files(__package__).joinpath("catalog.json").read_text(encoding="utf-8"))
    return rows


class CatalogRegion(Looked):
    """A provider's region, as published; needs no control plane, so a wrong code is an error of ``validate``."""

    name = "catalog_region"
    required = ("provider", "code")
    asks: ClassVar[Fields] = {
        "provider": {"type": "string", "enum": sorted({row["provider"] for row in catalog()}), "description": "Who."},
        "code": {"type": "string", "description": "The provider's name of it, such as `eu-frankfurt-1`."},
    }
    answers: ClassVar[Fields] = {
        "city": {"type": "string", "description": "Where it is."},
        "country": {"type": "string", "description": "ISO 3166-1 alpha-2."},
        "latitude": {"type": "number", "description": "Of the city."},
        "longitude": {"type": "number", "description": "Of the city."},
        "area": {"type": "string", "description": "The market it belongs to: the id of a `tendril_region`."},
    }
    description = "A region of a provider's catalogue, with its position; works offline."

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        """An unknown code is an error before anything is asked of anybody."""
        super().validate(diags, type_name, config)
        provider, code = config.get("provider_id"), config.get("code")
        if not diags.has_errors() and isinstance(provider, str) and isinstance(code, str):
            told(diags, ["code"], lambda: self._find(provider, code), {})

    def _find(self, provider: str, code: str) -> dict[str, Any]:
        for row in catalog():
            if (row["provider"], row["code"]) == (provider, code):
                return row
        elsewhere = [row["provider"] for row in catalog() if row["code"] == code]
        near = difflib.get_close_matches(code, [row["code"] for row in catalog() if row["provider"] == provider], 3)
        hint = f"It is a region of {' and '.join(elsewhere)}." if elsewhere else ""
        hint += f" Near it: {', '.join(near)}." if near else ""
        raise Failed(f"{provider} has no region {code}", hint.strip(), ["code"])

    def ask(self, config: Config) -> dict[str, Any]:
        """The answer, by the API's names."""
        return self._find(config["provider_id"], config["code"])


def every(kinds: list[Kind]) -> list[type[DataSource]]:
    """All data sources."""
    token = _by_id("join_token", "/v1/join-tokens", api()["join_token"]["answer"], "A join token: used yet, by whom?")
    drain = _by_id("drain", "/v1/drains", api()["drain"]["answer"], "A drain, how far it is, and who is left.")
    return [*(of_kind(kind) for kind in kinds), token, drain, RouteNow, HealthNow, CatalogRegion]
