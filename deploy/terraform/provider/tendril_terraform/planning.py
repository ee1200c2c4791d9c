"""The protocol's servicer, with planning that looks at the configuration.

``tf`` plans from the proposed state alone. Here every attribute is planned from what is configured: a value that is
taken out of the configuration goes back to its default, a value that only the control plane knows is unknown only
while something changes, and what is left to others stays what it is.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from msgpack.ext import ExtType
from tf import utils
from tf.gen import tfplugin_pb2 as pb
from tf.provider import ProviderServicer, _decode_state, _encode_state
from tf.schema import Attribute
from tf.types import Unknown
from tf.utils import Diagnostics, _to_attribute_path, to_dynamic_value

from tendril_terraform.shape import Nested

Values = dict[str, Any]
REFINED = 12  # unknown, but something is known of it, such as that it is not null; ``tf`` knows only the plain form


def _unknown(code: int, data: bytes) -> Any:
    return Unknown if code in (0, REFINED) else ExtType(code, data)


utils._msgpack_ext_hook = _unknown
OWN_PACE = ("revision",)  # changes with every change, and by itself


def planned_value(attribute: Attribute, given: Any, prior: Any, exists: bool) -> Any:
    """What an attribute will be, from what is configured and what it was."""
    if isinstance(attribute, Nested) and isinstance(given, dict):
        before = prior if isinstance(prior, dict) else {}
        return {one.name: planned_value(one, given.get(one.name), before.get(one.name), exists)
                for one in attribute.members}  # fmt: skip
    if given is not None:
        return given
    if not attribute.computed:
        return None
    if attribute.default is not Unknown:
        return attribute.default
    return prior if exists else Unknown


def plan(attributes: dict[str, Attribute], config: Values, prior: Values | None) -> tuple[Values, list[str], bool]:
    """The planned state, which attributes force another resource, and whether anything changes at all."""
    before = prior or {}
    planned = {
        name: planned_value(attribute, config.get(name), before.get(name), prior is not None)
        for name, attribute in attributes.items()
    }
    if config.get("shared") is True:  # what is not configured is somebody else's to say
        loose = [n for n, one in attributes.items() if one.computed and config.get(n) is None]
        planned |= {name: before.get(name) if prior is not None else Unknown for name in loose}
    changed = [
        name for name, attribute in attributes.items()
        if prior is not None and not _equal(attribute, before.get(name), planned[name])
    ]  # fmt: skip
    if changed:
        planned |= {name: Unknown for name in OWN_PACE if name in attributes}
    return planned, [name for name in changed if attributes[name].requires_replace], prior is None or bool(changed)


def _equal(attribute: Attribute, a: Any, b: Any) -> bool:
    if a is Unknown or b is Unknown:
        return a is b
    return bool(attribute.type.semantically_equal(a, b))


class Servicer(ProviderServicer):
    """Answers Terraform."""

    stop: Callable[[], None] = staticmethod(lambda: None)

    def PlanResourceChange(self, request: pb.PlanResourceChange.Request, context: Any) -> Any:
        """Plan one resource."""
        diags = Diagnostics()
        name = request.type_name
        attributes, blocks = self._get_res_attrs(name), self._get_res_blocks(name)
        _, prior = _decode_state(diags, attributes, blocks, request.prior_state)
        _, config = _decode_state(diags, attributes, blocks, request.config)
        proposed, wanted = _decode_state(diags, attributes, blocks, request.proposed_new_state)
        if wanted is None or config is None or diags.has_errors():  # a destroy needs no plan of ours
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state, diagnostics=diags.to_pb())
        planned, replaced, changes = plan(attributes, config, prior)
        resource = self.app.new_resource(self._get_res_cls(name))
        if changes and hasattr(resource, "check_plan"):
            _guarded(diags, lambda: resource.check_plan(diags, prior, planned))
        return pb.PlanResourceChange.Response(
            planned_state=_encode_state(attributes, blocks, planned, proposed),
            requires_replace=[_to_attribute_path([one]) for one in replaced],
            diagnostics=diags.to_pb(),
        )

    def UpgradeResourceState(self, request: pb.UpgradeResourceState.Request, context: Any) -> Any:
        """Bring a state of any version to this one: what is gone is left out, what is new starts at its default."""
        diags = Diagnostics()
        old: Values = json.loads(request.raw_state.json)
        state = {
            name: _upgraded(attribute, old.get(name))
            for name, attribute in self._get_res_attrs(request.type_name).items()
        }
        return pb.UpgradeResourceState.Response(upgraded_state=to_dynamic_value(state), diagnostics=diags.to_pb())

    def StopProvider(self, request: pb.StopProvider.Request, context: Any) -> Any:
        """Terraform was interrupted: end what waits, finish what runs."""
        self.stop()
        return pb.StopProvider.Response()


def _upgraded(attribute: Attribute, value: Any) -> Any:
    if value is None:
        return None if attribute.default is Unknown else attribute.default
    if isinstance(attribute, Nested):
        return {one.name: _upgraded(one, value.get(one.name)) for one in attribute.members}
    return value


def _guarded(diags: Diagnostics, check: Callable[[], None]) -> None:
    """A check at plan time needs the control plane; without one the plan goes on, and apply will say so."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the plan itself is good
        traceback.print_exc(file=sys.stderr)
        diags.add_warning("Not checked against the control plane", f"{type(error).__name__}: {error}")
