"""The reflex: which path is in force, given a plan and what the node sees. No loop, no drained relay, no older plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from probes.choice import Book, PathKey
from probes.detect import Verdict
from probes.reflex import CALM_US, IN_USE_US, MEMORY_US, WARM_FACTOR, Reflex
from probes.wire import ReactionHops, ReactionPlan, ReactionRows, Triggers, decode_reaction_plan, encode

UP, SUSPECT, DOWN = Verdict.UP, Verdict.SUSPECT, Verdict.DOWN
HOLD_US = 1_000_000
TRIGGERS = Triggers(50_000, 1, 5, 10_000, 6, 10, HOLD_US)
CENTERS = ("home", "b", "c", "d", "z")  # z is the destination
RELAY_PORT, REFLECTOR_PORT = 7422, 7421
Relays = tuple[str, ...]


def address(center: str) -> tuple[str, int]:
    return f"192.0.2.{CENTERS.index(center)}", RELAY_PORT


def key(*centers: str) -> PathKey:
    return tuple(address(center) for center in centers)


def plan(
    *ways: Relays, generation: int = 1, version: int = 1, drained: Relays = (), computed_us: int = 0, **changes: Any
) -> ReactionPlan:
    """One context, one destination; each way is its relays, in order."""
    hops = [center for center in CENTERS if center != "home"]
    paths = tuple(tuple(hops.index(center) for center in (*way, "z")) for way in ways)
    values: dict[str, Any] = {
        "node": "n", "data_center": "home", "generation": generation, "plan_version": version,
        "computed_at_us": computed_us, "issued_at_us": computed_us + 200_000,
        "degraded_at_us": computed_us + 15_000_000, "triggers": TRIGGERS, "contexts": ("voice",), "tables": (0,),
        "data_centers": CENTERS,
        "hops": ReactionHops(
            tuple(CENTERS.index(center) for center in hops), ("internet",) * 4,
            tuple(address(center)[0] for center in hops), (RELAY_PORT,) * 4,
            tuple(f"{center}-1" for center in hops), (REFLECTOR_PORT,) * 4,
        ),
        "paths": paths,
        "rows": ReactionRows((0,), (4,), (tuple(range(len(ways))),), ("p" * (len(ways) - 1),), (90_000,))
        if ways else ReactionRows(),
        "drained": tuple(CENTERS.index(center) for center in drained),
    }  # fmt: skip
    return ReactionPlan(**{**values, **changes})


def reflex(*ways: Relays, **changes: Any) -> Reflex:
    found = Reflex("n")
    assert found.install(plan(*ways, **changes), 0).accepted
    return found


def taken(found: Reflex, now_us: int = 0) -> tuple[str, ...] | None:
    way = found.way("voice", "z", now_us)
    return None if way.primary is None else way.primary.path[1:-1]


def test_the_plans_own_way_is_taken_until_something_fails() -> None:
    found = reflex(("b",), ("c",), ())
    way = found.way("voice", "z", 0)
    assert (way.place, way.state, way.duplicate) == (0, UP, None)
    assert way.paths() == (key("b", "z"),)
    assert way.primary is not None and way.primary.path == ("home", "b", "z")
    assert way.primary.overdue_us == 90_000
    assert way.choices[1].protects == "provider"


def test_a_suspect_path_is_kept_and_doubled_on_the_best_other_one() -> None:
    found = reflex(("b",), ("c",), ())
    found.way("voice", "z", 0)
    assert found.verdict(key("b", "z"), SUSPECT, 10) == []
    assert found.way("voice", "z", 10).paths() == (key("b", "z"), key("c", "z"))
    found.verdict(key("c", "z"), SUSPECT, 20)
    assert found.way("voice", "z", 20).paths() == (key("b", "z"), key("z"))
    found.verdict(key("b", "z"), UP, 30)
    assert found.way("voice", "z", 30).paths() == (key("b", "z"),)


def test_down_takes_the_next_that_is_not_and_tells() -> None:
    found = reflex(("b",), ("c",), ())
    found.way("voice", "z", 0)
    found.verdict(key("c", "z"), DOWN, 5)
    (flip,) = found.verdict(key("b", "z"), DOWN, 10, "6 answers missing")
    assert taken(found, 10) == ()
    event = flip.event(77)
    assert (event.at_us, event.context, event.target, event.cause) == (77, "voice", "z", "6 answers missing")
    assert (event.from_path, event.to_path) == (("home", "b", "z"), ("home", "z"))
    assert not flip.by_plan


def test_what_is_only_suspect_is_better_than_what_is_down() -> None:
    found = reflex(("b",), ("c",), ())
    found.way("voice", "z", 0)
    found.verdict(key("c", "z"), SUSPECT, 1)
    found.verdict(key("z"), DOWN, 2)
    found.verdict(key("b", "z"), DOWN, 3)
    assert taken(found, 3) == ("c",)
    assert found.verdict(key("c", "z"), DOWN, 4) == []  # nothing is left: stay
    way = found.way("voice", "z", 4)
    assert way.state is DOWN and way.primary is not None and "every path is down" in way.why
    found.verdict(key("z"), UP, 5)
    assert taken(found, 5) == ()


def test_a_dead_first_hop_condemns_every_path_over_it() -> None:
    found = reflex(("b",), ("b", "c"), ("c",))
    found.way("voice", "z", 0)
    (flip,) = found.peer_verdict("b-1", "b", "internet", DOWN, 10, "no answers")
    assert flip.after is not None and flip.after.path == ("home", "c", "z")
    assert found.peer_verdict("c-1", "c", "fibre", DOWN, 11) == []  # another transport is another link


def test_another_node_of_the_data_center_says_nothing_about_the_one_in_the_path() -> None:
    found = reflex(("b",), ("c",))
    found.way("voice", "z", 0)
    found.peer_verdict("b-1", "b", "internet", UP, 1)
    assert found.peer_verdict("b-2", "b", "internet", DOWN, 2) == []
    found.forget_peers(set())
    (flip,) = found.peer_verdict("b-2", "b", "internet", DOWN, 3)  # all that is known of that link
    assert flip.after is not None and flip.after.path == ("home", "c", "z")


def test_it_goes_back_after_the_hold_down_and_later_each_time() -> None:
    found = reflex(("b",), ("c",))
    found.way("voice", "z", 0)
    now, waits = 0, []
    for _ in range(3):
        found.verdict(key("b", "z"), DOWN, now)
        found.way("voice", "z", now)
        found.verdict(key("b", "z"), UP, now + 10)
        start = now
        while taken(found, now) == ("c",):
            now += 100_000
            found.tick(now)
            assert now - start < CALM_US
        waits.append(now - start)
    assert waits == sorted(waits) and waits[0] >= HOLD_US and waits[2] >= 4 * waits[0] - 400_000
    assert found.counters["flips"] == 3 and found.counters["returns"] == 3


def test_an_older_plan_or_another_nodes_is_refused() -> None:
    epoch = 1 << 32
    found = reflex(("b",), generation=2 * epoch + 1, version=5)
    for other in (
        plan(("c",), generation=epoch + 999, version=9),  # an older leader's
        plan(("c",), generation=2 * epoch + 1, version=4),
        replace(plan(("c",), generation=3 * epoch), node="m"),
    ):
        installed = found.install(other, 1)
        assert not installed.accepted and installed.refusal
    assert taken(found) == ("b",)
    assert found.counters["plans_refused"] == 3
    assert found.install(plan(("c",), generation=3 * epoch, version=1), 2).accepted
    assert taken(found) == ("c",)


def test_a_control_plane_that_counts_anew_is_followed_once_the_old_one_is_silent() -> None:
    """Its database came from a backup: its plans were refused until every node had joined again."""
    found = reflex(("b",), generation=7 << 32)
    anew = plan(("c",), generation=3 << 32, computed_us=20_000_000)
    assert "older" in found.install(anew, 5_000_000).refusal, "somebody may still issue the newer ones"
    replayed = plan(("d",), generation=3 << 32, computed_us=100_000)
    assert "older" in found.install(replayed, 20_000_000).refusal, "it was computed before ours was issued"
    assert found.install(anew, 20_000_000).accepted and taken(found, 20_000_000) == ("c",)
    assert found.install(plan(("b",), generation=7 << 32), 21_000_000).accepted, "the numbers still rule"


def test_a_new_plan_with_the_same_first_path_does_not_end_the_hold_down() -> None:
    found = reflex(("b",), ("c",), generation=1)
    found.way("voice", "z", 0)
    found.verdict(key("b", "z"), DOWN, 10)
    found.verdict(key("b", "z"), UP, 20)
    assert found.install(plan(("b",), ("c",), ("d",), generation=2), 30).flips == ()
    assert taken(found, 30) == ("c",)
    (flip,) = found.install(plan(("d",), ("c",), generation=3), 40).flips
    assert flip.by_plan and taken(found, 40) == ("d",)


def test_a_new_plan_does_not_lead_onto_what_is_known_to_be_down() -> None:
    found = reflex(("b",), ("c",), generation=1)
    found.way("voice", "z", 0)
    found.verdict(key("d", "z"), DOWN, 5)
    found.install(plan(("d",), ("c",), generation=2), 10)
    assert taken(found, 10) == ("c",)


def test_drained_relays_and_loops_are_not_offered() -> None:
    found = reflex(("b",), ("c",), ("d",), drained=("b", "z"))
    assert [choice.path[1:-1] for choice in found.way("voice", "z", 0).choices] == [("c",), ("d",)]
    book = Book(
        replace(plan(("b",)), paths=((0, 1, 0, 3), (0, 1)), rows=ReactionRows((0,), (4,), ((0, 1),), ("p",), (9,)))
    )
    assert book.choices("voice", "z") == () and book.refused == 2  # twice through b; does not end at z


def test_no_plan_no_row_no_context() -> None:
    found = Reflex("n")
    assert found.way("voice", "z", 0).paths() == () and found.degraded(0) and found.age_us(0) is None
    assert found.hot(0) == {}
    found.install(plan(("b",)), 0)
    for context, target in (("voice", "c"), ("video", "z"), ("voice", "nowhere")):
        way = found.way(context, target, 0)
        assert way.primary is None and way.paths() == () and "no path" in way.why


def test_ages_count_from_the_computation_by_two_clocks() -> None:
    found = Reflex("n")
    found.install(plan(("b",), computed_us=9_000_000_000), 1_000_000, lying_us=3_000_000)
    assert found.age_us(1_500_000) == 200_000 + 3_000_000 + 500_000
    assert not found.degraded(1_000_000 + 11_799_999)
    assert found.degraded(1_000_000 + 11_800_000)
    assert taken(found, 99_000_000) == ("b",)  # old, and followed


def test_in_doubt_it_neither_doubles_nor_moves_onto_silence() -> None:
    found = reflex(("b",), ("c",), ("d",))
    found.way("voice", "z", 0)
    found.doubt(1, 1)
    found.verdict(key("b", "z"), SUSPECT, 2)
    assert found.way("voice", "z", 2).duplicate is None
    assert found.verdict(key("b", "z"), DOWN, 3) == [] and taken(found, 3) == ("b",)
    found.answered = lambda choice: 4 if choice.path[1] == "d" else -1
    found.verdict(key("c", "z"), SUSPECT, 4)
    assert taken(found, 4) == ("d",)  # the only one that answers
    found.verdict(key("d", "z"), DOWN, 5)
    found.doubt(None, 6)
    assert taken(found, 6) == ("c",)


def test_in_doubt_a_copy_goes_where_answers_still_come_from_while_the_first_path_is_silent() -> None:
    """A busy moment of the whole node and a cut at once: nothing was copied until the path was down."""
    found = reflex(("b",), ("c",), ("d",))
    found.way("voice", "z", 0)
    found.verdict(key("b", "z"), SUSPECT, 10)
    found.doubt(5, 11)
    assert found.way("voice", "z", 11).duplicate is None
    found.answered = lambda choice: 9 if choice.path[1] == "d" else -1
    found.tick(12)
    assert found.way("voice", "z", 12).duplicate is None, "asked before the silence"
    found.answered = lambda choice: 12 if choice.path[1] == "d" else -1
    found.tick(13)
    way = found.way("voice", "z", 13)
    assert way.duplicate is not None and way.duplicate.path[1] == "d" and "may be the node itself" in way.why


def test_what_is_down_but_answers_again_gets_copies_while_nothing_else_is_left() -> None:
    """In hold-down, or not yet proved: a path that answers is better than one that does not."""
    found = reflex(("b",), ("c",), ("d",))
    found.way("voice", "z", 0)
    for n, center in enumerate("dcb"):
        found.verdict(key(center, "z"), DOWN, n)
    way = found.way("voice", "z", 5)
    assert way.state is DOWN and way.duplicate is None and "every path is down" in way.why
    found.answered = lambda choice: 6 if choice.path[1] == "d" else -1
    found.tick(7)
    way = found.way("voice", "z", 7)
    assert way.duplicate is not None and way.duplicate.path[1] == "d"
    assert found.hot(8)[key("d", "z")] == TRIGGERS.keepalive_us, "all are asked at full pace"
    assert found.counters["nothing_left"] == 1


def test_among_suspects_the_one_that_answers_is_taken() -> None:
    found = reflex(("b",), ("c",), ("d",))
    found.way("voice", "z", 0)
    found.verdict(key("c", "z"), SUSPECT, 1)
    found.verdict(key("d", "z"), SUSPECT, 1)  # held down, say
    found.answered = lambda choice: 2 if choice.path[1] == "d" else -1
    found.verdict(key("b", "z"), SUSPECT, 3)
    duplicate = found.way("voice", "z", 3).duplicate
    assert duplicate is not None and duplicate.path[1] == "d"
    found.verdict(key("b", "z"), DOWN, 4)
    assert taken(found, 4) == ("d",)


def test_what_carries_something_is_probed_fast_and_what_may_be_next_more_slowly() -> None:
    found = reflex(("b",), ("c",), ("d",))
    assert found.hot(0) == {}
    found.way("voice", "z", 0)
    warm = TRIGGERS.keepalive_us * WARM_FACTOR
    assert found.hot(0) == {key("b", "z"): TRIGGERS.keepalive_us, key("c", "z"): warm}
    found.verdict(key("b", "z"), SUSPECT, 1)
    assert found.hot(1)[key("c", "z")] == TRIGGERS.keepalive_us
    found.verdict(key("b", "z"), DOWN, 2)
    assert found.hot(2) == {key("b", "z"): warm, key("c", "z"): TRIGGERS.keepalive_us, key("d", "z"): warm}
    choice = found.choice(key("c", "z"))
    assert choice is not None and choice.reflector_port == REFLECTOR_PORT
    assert found.hot(IN_USE_US + 10) == {}


def test_a_backup_that_is_down_is_asked_until_it_is_up_again() -> None:
    """Unasked, it stayed down in memory; after some outages in a minute every backup was, and nothing was left."""
    found = reflex(("b",), ("c",), ("d",))
    found.way("voice", "z", 0)
    found.hot(0)
    found.verdict(key("c", "z"), DOWN, 1)
    warm = WARM_FACTOR * TRIGGERS.keepalive_us
    assert found.hot(2) == {key("b", "z"): TRIGGERS.keepalive_us, key("c", "z"): warm, key("d", "z"): warm}
    found.verdict(key("c", "z"), UP, 3)
    assert found.hot(4) == {key("b", "z"): TRIGGERS.keepalive_us, key("c", "z"): warm}


def test_looking_does_not_count_as_using() -> None:
    found = reflex(("b",), ("c",))
    assert found.look("voice", "z", 0).place == 0
    assert found.hot(0) == {} and found.in_use(0) == {}


def test_what_was_down_is_remembered_for_a_while_and_the_rest_is_not() -> None:
    found = reflex(("b",), ("c",))
    found.way("voice", "z", 0)
    found.hot(0)
    found.verdict(key("b", "z"), DOWN, 0)
    found.verdict(key("c", "z"), SUSPECT, 0)
    later = IN_USE_US + 1
    found.hot(later)
    way = found.way("voice", "z", later)
    assert (way.place, way.state) == (1, UP)
    found.hot(later + IN_USE_US + 1)  # unused again
    assert taken(found, later + MEMORY_US + 1) == ("b",)


def test_paths_that_nobody_relays_are_offered_but_not_probed() -> None:
    bare = replace(plan(("b",), ()), hops=replace(plan().hops, host=("", "", "", ""), port=(0, 0, 0, 0)))
    found = Reflex("n")
    found.install(decode_reaction_plan(encode(bare)), 0)
    way = found.way("voice", "z", 0)
    assert way.primary is not None and way.primary.key == (("b/internet", 0), ("z/internet", 0))
    assert found.hot(0) == {}
    found.peer_verdict("b-1", "b", "internet", DOWN, 1)
    assert taken(found, 1) == ()


@pytest.mark.parametrize("generation", [0, 7])
def test_a_plan_without_routes_has_no_way(generation: int) -> None:
    found = reflex(generation=generation)
    assert "no reaction plan yet" in found.way("voice", "z", 0).why or generation


WAYS = st.lists(
    st.sampled_from([("b",), ("c",), ("d",), ("b", "c"), ("c", "d"), ()]), min_size=1, max_size=4, unique=True
)


class World(RuleBasedStateMachine):
    """Any order of plans, verdicts and time; what must hold holds after every step."""

    @initialize(ways=WAYS)
    def begin(self, ways: list[Relays]) -> None:
        self.now, self.best = 0, (1, 1)
        self.reflex = Reflex("n")
        self.paths: dict[PathKey, Verdict] = {}
        self.peers: dict[str, Verdict] = {}
        self.doubting = False
        self.followed = plan(*ways)
        assert self.reflex.install(self.followed, 0).accepted

    @rule(
        ways=WAYS, generation=st.integers(0, 6), version=st.integers(0, 3), node=st.sampled_from("nnnm"),
        drained=st.lists(st.sampled_from(CENTERS[1:]), max_size=2, unique=True),
    )  # fmt: skip
    def plan_comes(self, ways: list[Relays], generation: int, version: int, node: str, drained: list[str]) -> None:
        offered = plan(*ways, generation=generation, version=version, drained=tuple(drained), node=node)
        accepted = self.reflex.install(offered, self.now).accepted
        assert accepted == (node == "n" and (generation, version) >= self.best)
        if accepted:
            self.followed, self.best = offered, (generation, version)

    @rule(way=st.sampled_from([("b",), ("c",), ("d",), ("b", "c"), ("c", "d"), ()]), verdict=st.sampled_from(Verdict))
    def path_verdict(self, way: Relays, verdict: Verdict) -> None:
        self.paths[key(*way, "z")] = verdict
        self.reflex.verdict(key(*way, "z"), verdict, self.now)

    @rule(center=st.sampled_from(CENTERS[1:]), verdict=st.sampled_from(Verdict))
    def peer_verdict(self, center: str, verdict: Verdict) -> None:
        self.peers[center] = verdict
        self.reflex.peer_verdict(f"{center}-1", center, "internet", verdict, self.now)

    @rule(doubting=st.booleans())
    def doubt(self, doubting: bool) -> None:
        self.doubting = doubting
        self.reflex.doubt(self.now if doubting else None, self.now)

    @rule(by_us=st.integers(1, 3_000_000))
    def time_passes(self, by_us: int) -> None:
        self.now += by_us
        self.reflex.hot(self.now)
        self.reflex.tick(self.now)

    def state(self, path: tuple[str, ...], path_key: PathKey) -> Verdict:
        return max(self.paths.get(path_key, UP), self.peers.get(path[1], UP))

    @precondition(lambda self: hasattr(self, "reflex"))
    @invariant()
    def what_must_hold(self) -> None:
        way = self.reflex.way("voice", "z", self.now)
        drained = {CENTERS[i] for i in self.followed.drained}
        for choice in (way.primary, way.duplicate):
            if choice is not None:
                assert choice.path[0] == "home" and choice.path[-1] == "z"
                assert len(set(choice.path)) == len(choice.path)
                assert not drained & set(choice.path[1:-1])
                assert choice in way.choices
        assert way.duplicate is None or (way.duplicate is not way.primary and way.state is not UP)
        assert self.reflex.plan is self.followed
        if way.primary is not None and not self.doubting and self.now < MEMORY_US:
            states = [self.state(choice.path, choice.key) for choice in way.choices]
            assert self.state(way.primary.path, way.primary.key) is not DOWN or set(states) == {DOWN}


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
