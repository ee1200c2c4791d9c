"""Resources of the inventory: one class for all kinds, driven by :mod:`tendril_terraform.kinds`.

Killed at any moment, an apply leaves either nothing or exactly what the next apply would make: PUT is idempotent, a
create that finds its own work takes it over, and a delete that finds nothing is done. A create that finds something
else is refused, because it would take away somebody else's resource.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tf.iface import Config, Resource, State
from tf.schema import Schema
from tf.types import Unknown
from tf.utils import Diagnostics

from tendril_terraform import leaving, names
from tendril_terraform.client import Refused, segment
from tendril_terraform.kinds import SCHEMA_VERSION, Kind, same
from tendril_terraform.problems import Failed, told
from tendril_terraform.shape import RENAMED, Path, broken, tf_name
from tendril_terraform.waiting import until_reported

_API_NAME = {ours: theirs for theirs, ours in RENAMED.items()}
ABSENT = 0  # as a revision: what is written must not be there yet
ATTEMPTS = 5  # at a revision that others change at the same moment


def validated(config: Config, schemas: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Everything in a configuration that the API would refuse, by the attribute's name."""
    for name, schema in schemas.items():
        yield from broken(schema, config.get(name), [name])


class InventoryResource(Resource):
    """A resource that the API creates or replaces with PUT; subclasses only name their kind."""

    kind: Kind

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Terraform's name without the provider's."""
        return cls.kind.name

    @classmethod
    def get_schema(cls) -> Schema:
        """From the API's model."""
        return Schema(cls.kind.attributes(), version=SCHEMA_VERSION, description=cls.kind.description)

    @property
    def known(self) -> list[str]:
        """Names of all attributes."""
        return [*(tf_name(name) for name in self.kind.fields), *self.kind.own, "revision"]

    # --- plan ---------------------------------------------------------------------------------------------------------

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        """Say what is wrong before anything is asked of anybody."""
        schemas = {tf_name(name): schema for name, schema in self.kind.fields.items()} | dict(self.kind.own)
        for path, rule in validated(config, schemas):
            diags.add_error(f"Wrong value of {path[0]}", f"{_shown(path)}: {rule}.", path)
        here, there = config.get("latitude"), config.get("longitude")
        if Unknown not in (here, there) and (here is None) != (there is None):
            missing = "latitude" if here is None else "longitude"
            given = "longitude" if here is None else "latitude"
            diags.add_error(
                "Half a position", f"latitude and longitude belong together: {missing} is missing.", [given]
            )
        if self.kind.name == "link" and config.get("from") == config.get("to") not in (None, Unknown):
            diags.add_error("A link needs two ends", "from and to must differ.", ["to"])

    def check_plan(self, diags: Diagnostics, prior: State | None, planned: State) -> None:
        """Refuse at plan time what only the control plane knows: a capacity below what is in use."""
        capacity = planned.get("capacity")
        if self.kind.name != "data_center" or prior is None or not isinstance(capacity, dict):
            return
        sessions = capacity.get("sessions")
        if prior.get("capacity") == capacity or not isinstance(sessions, int | float) or sessions <= 0:
            return
        live = self.provider.live_sessions(planned["id"])
        if live > sessions:
            message = f"{planned['id']} has {live} live sessions; a capacity of {sessions:g} is below what is in use."
            diags.add_error("Capacity below what is in use", message, ["capacity"])

    # --- apply --------------------------------------------------------------------------------------------------------

    def create(self, ctx: Any, planned: State) -> State | None:
        """Write it, unless something else is there already."""
        return told(ctx.diagnostics, self.known, lambda: self._create(planned), None)

    def _create(self, planned: State) -> State:
        answer = self._new(planned) or self._found(planned)
        if self.kind.name == "node" and (planned.get("wait") or {}).get("until") == "reported":
            until_reported(self.provider, planned)
        return self._state(planned, answer)

    def _new(self, planned: State) -> dict[str, Any] | None:
        """Make it, if there is nothing of that name yet: most creates are this one call."""
        try:
            return self._call(planned, self._body(planned), ABSENT)
        except Refused as refusal:
            if refusal.code != "revision_conflict":
                raise
        return None

    def _found(self, planned: State) -> dict[str, Any]:
        """Take over what is there: our own work, what is shared, and a node that has declared itself."""
        there = self._get(planned["id"])
        if there is None or self.kind.kept:
            return self._put(planned, there)
        if planned.get("shared") or self._same(planned, there):
            return there
        address = f"tendril_{self.kind.name}.NAME"
        raise Failed(
            f"{self.kind.name} {planned['id']} is there already, and is not like this",
            f"Somebody else made it. To manage it from here: terraform import {address} {planned['id']}",
            ["id"],
        )

    def read(self, ctx: Any, current: State) -> State | None:
        """What is there now; ``None`` makes Terraform create it again."""

        def work() -> State | None:
            answer = self._get(current["id"])
            return None if answer is None else self._state(current, answer)

        return told(ctx.diagnostics, self.known, work, current)

    def update(self, ctx: Any, current: State, planned: State) -> State | None:
        """Replace it, if it still is what the plan was made for."""

        def work() -> State:
            for _ in range(ATTEMPTS):
                there = self._get(planned["id"])
                if there is not None and not self._managed_same(current, there):
                    raise Failed(
                        f"{self.kind.name} {planned['id']} was changed since the plan was made",
                        "Plan again, and look at what changed.",
                    )
                try:
                    return self._state(planned, self._put(planned, there))
                except Refused as refusal:
                    if refusal.code != "revision_conflict":
                        raise
            raise Failed(f"{self.kind.name} {planned['id']} is being changed by somebody else all the time")

        return told(ctx.diagnostics, self.known, work, current)

    def delete(self, ctx: Any, current: State) -> State | None:
        """Drain, wait, delete; where sessions stay, refuse and keep everything."""

        def work() -> None:
            if current.get("shared"):
                leaving.leave_shared(self.provider.client, self._path(current["id"]), ctx.diagnostics)
            else:
                leaving.leave(self.provider, self.kind, current)

        return told(ctx.diagnostics, self.known, lambda: work(), current)

    def import_(self, ctx: Any, id: str) -> State | None:
        """By id, by ``name:NAME``, and what several share by ``shared:ID``."""

        def work() -> State:
            shared, plain = id.startswith("shared:"), id.removeprefix("shared:")
            answer = self._get(names.find(self.provider.client, self.kind, plain))
            if answer is None:
                raise Failed(f"There is no {self.kind.name} {plain}", "Import takes an id, or name:NAME.")
            own = {name: schema.get("default") for name, schema in self.kind.own.items()}
            state = self._state(own, answer)
            return state | {"shared": True} if shared and "shared" in own else state

        return told(ctx.diagnostics, self.known, work, None)

    def upgrade(self, ctx: Any, version: int, old: State) -> State | None:
        """States of other versions: see ``serve``, which fills in and leaves out by name."""
        return old

    # --- values -------------------------------------------------------------------------------------------------------

    def _path(self, id: str) -> str:
        return f"{self.kind.path}/{segment(id)}"

    def _get(self, id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.provider.client.get(self._path(id))
        return found

    def _put(self, planned: State, there: dict[str, Any] | None) -> dict[str, Any]:
        body = self._body(planned)
        if there is not None:
            body |= {name: there[name] for name in self.kind.kept if name not in body}
        return self._call(planned, body, ABSENT if there is None else there["revision"])

    def _call(self, planned: State, body: dict[str, Any], revision: int) -> dict[str, Any]:
        headers = {"If-Match": f'"{revision}"'}
        answer: dict[str, Any] = self.provider.client.call("PUT", self._path(planned["id"]), body, headers)
        return answer

    def _body(self, state: State) -> dict[str, Any]:
        values = {name: state.get(tf_name(name)) for name in self.kind.fields}
        return {name: _whole(value) for name, value in values.items() if value is not None and value is not Unknown}

    def _same(self, state: State, answer: dict[str, Any]) -> bool:
        """Whether what is there is what a state asks for."""
        for name, schema in self.kind.fields.items():
            value = state.get(tf_name(name))
            if value is Unknown or (value is None and name in self.kind.loose):
                continue
            if not same(schema, value, answer.get(name)):
                return False
        return True

    def _managed_same(self, current: State, answer: dict[str, Any]) -> bool:
        return current.get("revision") == answer["revision"] or self._same(current, answer)

    def _state(self, base: State, answer: dict[str, Any]) -> State:
        """Terraform's state: the API's fields of an answer, and from ``base`` what only Terraform knows."""
        state: State = {name: base.get(name) for name in self.kind.own}
        for name in self.kind.fields:
            ours = tf_name(name)
            loose = name in self.kind.loose and base.get(ours) is None
            state[ours] = None if loose else answer.get(name)
        return state | {"revision": answer["revision"]}


def _whole(value: Any) -> Any:
    """Numbers without a fraction as integers, which the API insists on; members that are null left out."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return value


def _shown(path: Path) -> str:
    return "".join(f"[{part[0]!r}]" if isinstance(part, tuple) else f".{part}" for part in path).lstrip(".")
