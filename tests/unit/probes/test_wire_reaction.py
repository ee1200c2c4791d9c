"""A reaction plan from the wire: every index leads somewhere, or the message is refused with the field's name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from probes.wire import (
    ReactionHops,
    ReactionPlan,
    ReactionRows,
    Triggers,
    WireError,
    decode_reaction_plan,
    encode,
)

PLAN = ReactionPlan(
    node="n",
    data_center="a",
    generation=7,
    plan_version=3,
    computed_at_us=10,
    issued_at_us=20,
    degraded_at_us=30,
    triggers=Triggers(50_000, 1, 5, 10_000, 6, 10, 1_000_000),
    contexts=("voice", "voice/eu"),
    tables=(0, 0),
    data_centers=("a", "b", "c"),
    hops=ReactionHops((1, 2), ("internet", "internet"), ("", "198.51.100.7"), (0, 7422), ("", "c-1"), (0, 7421)),
    paths=((0,), (1, 0)),
    rows=ReactionRows((0,), (1,), ((0, 1),), ("p",), (90_000,)),
)


def sent() -> dict[str, Any]:
    return dict(json.loads(json.dumps(encode(PLAN))))


def test_what_is_sent_is_what_arrives() -> None:
    assert decode_reaction_plan(sent()) == PLAN


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("version",), 2, "version"),
        (("more",), 1, "reaction_plan.more"),
        (("generation",), -1, "generation"),
        (("tables",), [0], "tables"),
        (("tables",), [0, 2], "tables[1]"),
        (("triggers", "burst_probes"), 0, "triggers.burst_probes"),
        (("triggers", "keepalive_us"), 5e4, "triggers.keepalive_us"),
        (("hops", "data_center"), [1, 3], "hops.data_center[1]"),
        (("hops", "host"), ["", 7], "hops.host[1]"),
        (("hops", "port"), [0], "hops.port"),
        (("hops", "port"), [0, 65_536], "hops.port[1]"),
        (("paths",), [[0], []], "paths[1]"),
        (("paths",), [[0], [2]], "paths[1][0]"),
        (("paths",), [[0], [1, 0, 1, 0, 1]], "paths[1]"),
        (("rows", "choices"), [[0, 2]], "rows.choices[0][1]"),
        (("rows", "choices"), [[]], "rows.choices[0]"),
        (("rows", "protects"), ["pp"], "rows.protects[0]"),
        (("rows", "protects"), ["x"], "rows.protects[0]"),
        (("rows", "target"), [True], "rows.target[0]"),
        (("rows", "table"), [1], "rows.table[0]"),
        (("rows", "overdue_us"), [0], "rows.overdue_us[0]"),
        (("rows",), [], "rows"),
    ],
)
def test_what_breaks_the_contract_is_named(place: tuple[str, ...], value: object, field: str) -> None:
    message = sent()
    inner = message
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(WireError) as refused:
        decode_reaction_plan(message)
    assert refused.value.field == field


def test_a_destination_has_one_row_per_table() -> None:
    message = sent()
    message["rows"] = {name: column * 2 for name, column in message["rows"].items()}
    with pytest.raises(WireError) as refused:
        decode_reaction_plan(message)
    assert refused.value.field == "rows.target"
