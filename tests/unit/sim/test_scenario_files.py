"""Scenario files: what is accepted, and every way to be wrong, named by field, rule and limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.core.errors import InputRejected
from router.sim.actions import ACTIONS, Do
from router.sim.faults import KINDS, Direction, Hits, Kind
from router.sim.run import build_world, play
from router.sim.scenario import EXPECTATIONS, USERS_NUMBERS, WAITS_FOR, WORLD_NUMBERS, load, parse

TOP = {"name": "s", "about": "About it.", "duration_s": 60}
OUTAGE = {"kind": "outage", "target": "provider=gcp", "at_s": 1}
DRAIN = {"do": "drain", "target": "data_center=gcp-fra1", "at_s": 1}
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "scenarios.md"


def doc(**more: object) -> dict[str, object]:
    return TOP | more


def test_a_whole_scenario_is_read() -> None:
    found = parse(
        doc(
            seed=7,
            world={"kind": "model", "data_centers": 4, "nodes": 1, "loss_percent": 0},
            faults=[
                OUTAGE | {"id": "dark", "for_s": 5, "direction": "in"},
                {"kind": "step", "link": ["gcp-fra1", "oracle-iad1"], "delay_ms": 40, "at_s": 2.5},
                {"kind": "gray", "what": "flows", "share_percent": 12.5, "target": "busiest-relay", "at_s": 3},
            ],
            expect=[{"left_within_s": 1, "fault": "dark"}, {"digest_stable": True}],
        ),
        None,
    )
    dark, step, gray = found.faults
    assert (found.seed, found.duration_us, found.world.number("nodes")) == (7, 60_000_000, 1)
    assert found.world.number("jitter_ms") == 0.2
    assert (dark.id, dark.at_us, dark.for_us, dark.direction) == ("dark", 1_000_000, 5_000_000, Direction.IN)
    assert dark.target == {"provider": "gcp"}
    assert (step.at_us, step.direction, step.number("delay_ms")) == (2_500_000, Direction.OUT, 40)
    assert (gray.what, gray.target, gray.number("share_percent")) == ("flows", "busiest-relay", 12.5)
    assert [e.text for e in found.expect] == ["left_within_s: 1, fault: dark", "digest_stable: true"]


@pytest.mark.parametrize(
    ("document", "field", "rule", "limit"),
    [
        ([], "scenario", "must be a mapping", None),
        ({"name": "s"}, "duration_s", "is required", None),
        (doc(colour="red"), "scenario.colour", "is not a known field", None),
        (doc(name="Not An Id"), "name", "must match", 63),
        (doc(about=5), "about", "must be a text", 500),
        (doc(duration_s="60"), "duration_s", "must be a number", None),
        (doc(duration_s=float("nan")), "duration_s", "must be a number", None),
        (doc(duration_s=True), "duration_s", "must be a number", None),
        (doc(duration_s=0), "duration_s", "between 1 and 86400", 1),
        (doc(duration_s=1e9), "duration_s", "between 1 and 86400", 86_400),
        (doc(seed=1.5), "seed", "must be a whole number", None),
        (doc(seed=-1), "seed", "must be between", 0),
        (doc(world={"kind": "flat"}), "world.kind", "must be one of model", None),
        (doc(world={"kind": "matrix"}), "world.file", "is required for a matrix", None),
        (doc(world={"file": "m.csv"}), "world.file", "must not be given for the model", None),
        (doc(world={"nodes": 17}), "world.nodes", "between 1 and 16", 16),
        (doc(world={"data_centers": 2.5}), "world.data_centers", "must be a whole number", None),
        (doc(faults={}), "faults", "must be a list", 1_000),
        (doc(faults=["outage"]), "faults[0]", "must be a mapping", None),
        (doc(faults=[{"kind": "flood"}]), "faults[0].kind", "must be one of outage", None),
        (doc(faults=[{"kind": "outage", "at_s": 1}]), "faults[0].target", "exactly one of target and link", None),
        (doc(faults=[OUTAGE | {"link": ["a", "b"]}]), "faults[0].target", "exactly one of target and link", None),
        (doc(faults=[OUTAGE | {"target": "planet=mars"}]), "faults[0].target", "must be KEY=ID", None),
        (doc(faults=[OUTAGE | {"target": "region=a,region=b"}]), "faults[0].target", "names region twice", 1),
        (doc(faults=[OUTAGE | {"target": "node=a-0"}]), "faults[0].target", "node= is for faults of clocks", None),
        (doc(faults=[OUTAGE | {"delay_ms": 5}]), "faults[0].delay_ms", "is not a known field", None),
        (doc(faults=[OUTAGE | {"at_s": 60}]), "faults[0].at_s", "before the end of the run", 60),
        (doc(faults=[OUTAGE | {"at_s": -1}]), "faults[0].at_s", "between 0 and 86400", 0),
        (doc(faults=[OUTAGE | {"for_s": 0}]), "faults[0].for_s", "must be between", 0.001),
        (doc(faults=[OUTAGE | {"direction": "up"}]), "faults[0].direction", "must be one of in, out, both", None),
        (doc(faults=[OUTAGE, OUTAGE]), "faults[1].id", "names another one already", None),
        (doc(faults=[OUTAGE | {"kind": "step"}]), "faults[0].delay_ms", "is required", None),
        (doc(faults=[OUTAGE | {"kind": "step", "delay_ms": 1e9}]), "faults[0].delay_ms", "must be between", 30_000),
        (doc(faults=[OUTAGE | {"kind": "gray", "share_percent": 5, "what": "bits"}]), "faults[0].what", "one of", None),
        (doc(faults=[{"kind": "outage", "link": ["a", "a"], "at_s": 1}]), "faults[0].link", "two different", None),
        (doc(faults=[{"kind": "outage", "link": ["a"], "at_s": 1}]), "faults[0].link", "list [from, to]", 2),
        (doc(faults=[{"kind": "slow-solver", "target": "x", "at_s": 1}]), "faults[0].target", "not a known", None),
        (doc(expect=[{}]), "expect[0]", "exactly one of left_within_s", 1),
        (doc(expect=[{"event": "x", "count": "y"}]), "expect[0]", "exactly one of", 1),
        (doc(expect=[{"left_within_s": 5}]), "expect[0].fault", "is required", None),
        (doc(expect=[{"left_within_s": 5, "fault": "x"}]), "expect[0].fault", "is not the id of a fault", None),
        (doc(expect=[{"digest_stable": False}]), "expect[0].digest_stable", "must be true", None),
        (doc(expect=[{"right_percent": 101}]), "expect[0].right_percent", "between 0 and 100", 100),
        (doc(expect=[{"right_percent": 99, "per": "pair"}]), "expect[0].per", "is not a known field", None),
        (doc(expect=[{"right_percent": 99, "without": "x"}]), "expect[0].without", "must be KEY=ID", None),
        (doc(faults=[OUTAGE | {"peer": "planet=mars"}]), "faults[0].peer", "must be KEY=ID", None),
        (doc(users={}), "users.sessions", "is required", None),
        (doc(users={"sessions": 5, "length_s": 1}), "users.length_s", "between 2 and 86400", 2),
        (doc(actions=[{"do": "dance", "at_s": 1}]), "actions[0].do", "must be one of drain", None),
        (doc(actions=[DRAIN | {"force": "yes"}]), "actions[0].force", "true or false", None),
        (doc(actions=[DRAIN | {"at_s": 60}]), "actions[0].at_s", "before the end of the run", 60),
        (doc(actions=[DRAIN, DRAIN]), "actions[1].id", "names another one already", None),
        (
            doc(actions=[{"do": "undo", "drain": "x", "at_s": 1}]),
            "actions[0].drain",
            "earlier action that drains",
            None,
        ),
        (doc(actions=[DRAIN | {"mode": "gentle"}]), "actions[0].mode", "must be one of", None),
        (doc(expect=[{"action": "x"}]), "expect[0].action", "is not the id of an action", None),
        (doc(expect=[{"vacated_within_s": 5}]), "expect[0].action", "exactly one of action and fault", None),
        (doc(expect=[{"healed_within_s": 5}]), "expect[0].fault", "is required", None),
    ],
)
def test_a_mistake_names_field_rule_and_limit(document: object, field: str, rule: str, limit: float | None) -> None:
    with pytest.raises(InputRejected) as caught:
        parse(document, None)
    assert (caught.value.code, caught.value.field, caught.value.limit) == ("bad_scenario", field, limit)
    assert rule in (caught.value.rule or "")
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        (b"", "file", "is empty"),
        (b"\xff", "file", "must be UTF-8"),
        (b"a: [", "file", "must be YAML"),
        (b"name: a\nname: b\n", "name", "is given twice"),
        (b"world:\n  nodes: 1\n  nodes: 2\n", "world.nodes", "is given twice"),
        (b"a: &x [1]\nb: *x\n", "b", "must not be an alias"),
        (b"a: !!python/object:os.system {}\n", "file", "must be YAML"),
        (b"x" * 1_000_001, "file", "is too long"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: bytes, field: str, rule: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(text)
    with pytest.raises(InputRejected) as caught:
        load(str(path))
    assert (caught.value.code, caught.value.field) == ("bad_scenario", field)
    assert rule in (caught.value.rule or "")


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(InputRejected, match="there is no scenario nothing-like-it") as caught:
        load("nothing-like-it")
    assert caught.value.code == "unknown_scenario" and "blackhole" in (caught.value.rule or "")
    with pytest.raises(InputRejected, match="cannot be read"):
        load("nothing-like-it.yaml")


def test_a_fault_that_names_what_the_world_does_not_have() -> None:
    for fault, field in (
        ({"kind": "outage", "target": "provider=azure", "at_s": 1}, "faults.outage.target"),
        ({"kind": "clock-step", "target": "node=gcp-fra1-9", "step_ms": 1, "at_s": 1}, "faults.clock-step.target"),
        ({"kind": "outage", "link": ["gcp-fra1", "mars"], "at_s": 1}, "faults.outage.link[1]"),
    ):
        scenario = parse(doc(duration_s=2, faults=[fault]), None)
        with pytest.raises(InputRejected) as caught:
            play(scenario, 1)
        assert (caught.value.code, caught.value.field) == ("bad_scenario", field)


def test_a_file_of_the_world_is_relative_to_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("src,a,b,c\na,0,10,20\nb,10,0,30\nc,20,30,0\n", encoding="utf-8")
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nabout: x\nduration_s: 5\nworld: {kind: matrix, file: m.csv, nodes: 1}\n", encoding="utf-8"
    )
    world = build_world(load(str(path)).world, 1)
    assert sorted(world.delay_us.values()) == [5_000, 5_000, 10_000, 10_000, 15_000, 15_000]


def test_the_reference_page_names_everything_that_the_tables_have() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    words = [k.value for k in Kind] + [n for rule in KINDS.values() for n in (*rule.numbers, *rule.what)]
    words += [d.value for d in Do] + [n for rule in ACTIONS.values() for n in (*rule.numbers, *rule.words, *rule.flags)]
    words += [*EXPECTATIONS, *WORLD_NUMBERS, *USERS_NUMBERS, WAITS_FOR] + [
        n for r in EXPECTATIONS.values() for n in (*r.numbers, *r.words, *r.texts)
    ]
    assert [word for word in words if f"`{word}`" not in text] == []
    assert {rule.hits for rule in KINDS.values()} == set(Hits)


def test_a_mistake_in_a_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    lines = ["name: s", "about: About it.", "duration_s: 60", "faults:", "  - kind: outage", "    at_s: 1"]
    for more, message in (
        (["    target: provider=gcp", "    colour: red"], "line 8: faults[0].colour"),
        ([], "line 5: faults[0].target"),  # what is missing has no line: that of the fault
        (["    target: provider=gcp", "world: {nodes: 99}"], "line 8: world.nodes"),
    ):
        path.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
        with pytest.raises(InputRejected) as caught:
            load(str(path))
        assert caught.value.message.startswith(message)
