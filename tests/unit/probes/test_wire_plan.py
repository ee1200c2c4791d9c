"""No plan breaks a node: what is not one is refused with the name of its field, what is one can be read again."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from probes.wire import Budget, PlanPeer, ProbePlan, WireError, decode_plan, encode
from probes.wire.plan import PlanCheck, PlanRelay, PlanVantage

PLAN = ProbePlan(
    "me", "here", 7, 1, 2, 1_000_000, 500_000,
    (PlanPeer("a", "there", "internet", "192.0.2.1", 7_421, 0, 50_000, "hot", 9, 3, "ab" * 32),),
    budget=Budget(100, 10_000, 1 << 40, 100_000),
    vantage=(PlanVantage("t", "icmp", "192.0.2.9", 0, 65_000, "DE", 10_000_000),),
    own_key="cd" * 32,
    relays=(PlanRelay("r", "192.0.2.2", 7_422, 4, "ef" * 32),),
    checks=(PlanCheck("c", ("192.0.2.2", "192.0.2.1"), (7_422, 7_422), 7_421, 1_000_000),),
)  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(("hot", "f" * 64)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = ("node", "plan_version", "report_interval_us", "timeout_us", "peers", "budget", "vantage", "own_key", "relays",
          "checks", "contact", "floor_interval_us", "version", "new",
          *(f"{part}/0/{name}" for part, names in (
              ("peers", ("node", "host", "reflector_port", "interval_us", "tier", "weight", "key_id", "key", "new")),
              ("vantage", ("kind", "host", "port", "interval_us")),
              ("relays", ("host", "relay_port", "key")),
              ("checks", ("hosts", "ports", "interval_us")),
          ) for name in names))  # fmt: skip


def with_odd(place: str, value: object, gone: bool) -> Any:
    """The plan with something else, or nothing, in one place."""
    found: Any = json.loads(json.dumps(encode(PLAN)))
    *way, last = place.split("/")
    holder = found
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    if gone:
        holder.pop(last, None)
    else:
        holder[last] = value
    return found


@given(st.sampled_from(PLACES), ODD, st.booleans())
def test_an_odd_plan_is_refused_or_read_as_it_is_written(place: str, value: object, gone: bool) -> None:
    try:
        plan = decode_plan(with_odd(place, value, gone))
    except WireError as error:
        assert str(error)
        return
    assert decode_plan(json.loads(json.dumps(encode(plan)))) == plan


@given(ODD)
def test_what_is_no_plan_is_refused(value: object) -> None:
    try:
        decode_plan(value)
    except WireError as error:
        assert str(error)
    else:
        raise AssertionError("that was no plan")
