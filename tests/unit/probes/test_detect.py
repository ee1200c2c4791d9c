"""The detector on emulated paths in virtual time, and its parts."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.detect.drive import Path
from bench.detect.losses import Chain, Draw, all_lost
from probes.detect import DOWN_NATS, TRANSITIONS, Detector, Event, LossModel, RoundTrip, SelfDoubt, Verdict
from probes.detect.doubt import AT_ONCE_US
from probes.detect.machine import MOST_HELD_US
from probes.detect.roundtrip import MOST_SLACK_US
from probes.wire import Triggers

MS, SECOND = 1_000, 1_000_000
TRIGGERS = Triggers(50 * MS, 1, 5, 10 * MS, 6, 10, SECOND)
RTT = 90 * MS
ODD = {1, 3}


def path(missing, rtt=lambda _: RTT, interval_us=50 * MS, **more) -> Path:  # type: ignore[no-untyped-def]
    return Path(Detector(TRIGGERS), missing, rtt, interval_us, **more)


def verdicts(one: Path) -> list[Verdict]:
    return [verdict for _, verdict in one.changes]


def test_a_quiet_path_stays_up() -> None:
    one = path(lambda *_: False)
    one.run(60 * SECOND)
    assert one.changes == []
    assert one.sent == 1201
    assert one.detector.evidence == 0.0


def test_a_blackhole_is_suspect_at_the_first_overdue_answer_and_down_soon_after() -> None:
    one = path(lambda at, _: at > 10 * SECOND)
    one.run(20 * SECOND)
    assert verdicts(one) == [Verdict.SUSPECT, Verdict.DOWN]
    (suspect, _), (down, _) = one.changes
    first_missing = 10 * SECOND + 50 * MS
    assert suspect == first_missing + one.round_trip.overdue_us
    assert down < first_missing + 500 * MS
    assert "answers in a row missing" in one.detector.cause


def test_one_lost_probe_is_a_moment_of_suspicion() -> None:
    one = path(lambda at, _: at == 10 * SECOND)
    one.run(20 * SECOND)
    assert verdicts(one) == [Verdict.SUSPECT, Verdict.UP]
    assert one.detector.cause == "answered again"


def test_confirm_probes_leave_from_other_ports_and_stop_when_answered() -> None:
    ports: list[tuple[int, int]] = []

    def missing(at: int, port: int) -> bool:
        ports.append((at, port))
        return at == 10 * SECOND

    path(missing).run(20 * SECOND)
    confirm = [port for _, port in ports if port]
    assert 3 <= len(confirm) <= 6
    assert set(confirm) == {1, 2, 3}
    assert sum(port == 0 for _, port in ports) == 401


def test_a_path_comes_back_after_answers_and_hold_down() -> None:
    one = path(lambda at, _: 10 * SECOND < at < 12 * SECOND)
    one.run(30 * SECOND)
    assert verdicts(one) == [Verdict.SUSPECT, Verdict.DOWN, Verdict.UP]
    back = one.changes[-1][0]
    assert back >= 12 * SECOND + 4 * 50 * MS + RTT
    assert one.detector.cause == "10 answers in a row"


def test_hold_down_doubles_with_every_flap() -> None:
    one = path(lambda at, _: at % (8 * SECOND) > 7 * SECOND)
    one.run(84 * SECOND)
    downs = [at for at, verdict in one.changes if verdict is Verdict.DOWN]
    ups = [
        up for down in downs for up in [min((at for at, v in one.changes if v is Verdict.UP and at > down), default=0)]
    ]
    held = [up - down for down, up in zip(downs, ups, strict=True) if up]
    assert held[0] < 2 * SECOND
    assert held[2] >= 4 * SECOND
    assert held[:3] == sorted(held[:3])
    assert max(held) <= MOST_HELD_US + SECOND, "however often it failed, it is back within seconds"


def test_what_is_down_and_answers_again_proves_itself_soon_however_rarely_it_is_probed() -> None:
    """Ten answers to one probe a second took ten seconds, and a first hop that is down condemns every path over it."""
    one = path(lambda at, _: 10 * SECOND < at < 14 * SECOND, interval_us=SECOND)
    one.run(20 * SECOND)
    assert verdicts(one) == [Verdict.SUSPECT, Verdict.DOWN, Verdict.UP]
    assert one.changes[-1][0] <= 16 * SECOND


def test_proof_is_asked_for_on_the_port_that_answered() -> None:
    detector = Detector(TRIGGERS, loss_ppm=10_000)
    for key in range(20):
        detector.sent(key, key * 20 * MS, key * 20 * MS + 105 * MS, key % 4)
        detector.check(key * 20 * MS)
    at = 20 * 20 * MS + 60 * MS
    detector.check(at)
    assert detector.verdict is Verdict.DOWN
    assert detector.burst_due(at) == 0, "what is silent is not asked more often"
    assert not detector.held
    detector.sent(100, at + 10 * MS, at + 115 * MS, 2)
    detector.answered(100, at + 60 * MS)
    asked = []
    for step in range(30):
        now = at + 70 * MS + step * 50 * MS
        if detector.burst_due(now):
            asked.append(detector.confirm_port())
            detector.sent(200 + step, now, now + 105 * MS, asked[-1])
            detector.answered(200 + step, now + 40 * MS)
        detector.check(now + 45 * MS)
    assert asked == [2] * (TRIGGERS.up_answers - 1)
    assert detector.verdict is Verdict.UP


def test_late_answers_end_the_suspicion_and_teach_the_round_trip() -> None:
    one = path(lambda *_: False, lambda at: RTT + (60 * MS if at > 10 * SECOND else 0))
    one.run(20 * SECOND)
    assert Verdict.DOWN not in verdicts(one)
    assert verdicts(one)[:2] == [Verdict.SUSPECT, Verdict.UP]
    assert one.round_trip.overdue_us > RTT + 60 * MS
    assert one.detector.verdict is Verdict.UP


def test_a_stall_of_this_process_is_not_the_paths_fault() -> None:
    detector = Detector(TRIGGERS)
    for key in range(8):
        detector.sent(key, key * 50 * MS, key * 50 * MS + 105 * MS)
    awake = 5 * SECOND
    assert detector.check(awake) is None
    for key in range(8):
        detector.answered(key, awake)
    assert detector.check(awake + 30 * MS) is None
    assert detector.verdict is Verdict.UP
    assert detector.model.loss <= 0.0101


def test_after_the_grace_a_stall_ends_in_what_is_really_missing() -> None:
    detector = Detector(TRIGGERS)
    detector.sent(1, 0, 105 * MS)
    assert detector.check(5 * SECOND) is None
    due = detector.next_at()
    assert due is not None
    assert 5 * SECOND < due < 6 * SECOND
    assert detector.check(due) is Verdict.SUSPECT


def test_unknown_and_repeated_answers_are_ignored() -> None:
    detector = Detector(TRIGGERS)
    detector.sent(1, 0, 105 * MS)
    detector.answered(7, 10)
    detector.answered(1, 20)
    detector.answered(1, 30)
    assert detector.check(200 * MS) is None
    assert detector.next_at() is None


def test_a_path_without_loss_is_learned_and_not_hoarded() -> None:
    detector = Detector(TRIGGERS)
    for key in range(5_000):  # `check` is only due when something is overdue
        detector.sent(key, key * 50 * MS, key * 50 * MS + 105 * MS)
        detector.answered(key, key * 50 * MS + RTT)
        assert detector.next_at() is None
    assert len(detector._order) == 0
    assert detector.model.loss == pytest.approx(0.001, abs=0.0005)


def test_the_table_is_complete_and_bites() -> None:
    assert set(TRANSITIONS.values()) == set(Verdict)
    for verdict, event in TRANSITIONS:
        assert TRANSITIONS[verdict, event] is not verdict
    assert (Verdict.UP, Event.CONDEMNED) not in TRANSITIONS
    assert (Verdict.DOWN, Event.CLEARED) not in TRANSITIONS


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0, 0.6), st.integers(20 * MS, 400 * MS))
def test_any_loss_moves_along_the_table_only(seed: int, loss: float, interval_us: int) -> None:
    rng = Random(seed)
    one = path(lambda *_: rng.random() < loss, lambda _: rng.randrange(20 * MS, 140 * MS), interval_us)
    one.run(10 * SECOND)
    moves = set(TRANSITIONS.items())
    before = Verdict.UP
    for _, verdict in one.changes:
        assert any(start is before and end is verdict for (start, _), end in moves)
        before = verdict


def test_one_dead_port_is_partial_and_probes_move_to_one_that_works() -> None:
    one = path(lambda at, port: at > 10 * SECOND and port == 0)
    one.run(40 * SECOND)
    assert one.detector.partial == (0,)
    assert one.detector.port != 0
    assert one.detector.verdict is Verdict.UP
    assert Verdict.DOWN not in verdicts(one)
    assert one.detector.model.loss < 0.03
    assert one.detector.cause == f"partial: source port 0 loses everything, port {one.detector.port} is answered"


def test_a_port_that_works_again_is_noticed() -> None:
    one = path(lambda at, port: 10 * SECOND < at < 20 * SECOND and port in ODD | {0})
    one.run(15 * SECOND)
    assert one.detector.port == 2
    assert one.detector.verdict is Verdict.UP
    one.run(60 * SECOND)
    assert one.detector.partial == ()


def test_a_full_outage_leaves_no_partial_ports_behind() -> None:
    one = path(lambda at, _: 10 * SECOND < at < 13 * SECOND)
    one.run(30 * SECOND)
    assert one.detector.partial == ()


def test_with_all_other_ports_dead_the_last_one_still_counts() -> None:
    one = path(lambda at, port: at > 10 * SECOND and (port == 0 or at > 20 * SECOND))
    one.run(30 * SECOND)
    assert one.detector.verdict is Verdict.DOWN


def test_a_clean_path_needs_fewer_misses_than_a_lossy_one() -> None:
    clean, lossy = LossModel(1_000), LossModel(50_000)
    run = [at * 50 * MS for at in range(5)]
    assert clean.evidence(run) > lossy.evidence(run) > 0
    assert clean.evidence(run[:1]) == pytest.approx(6.9, abs=0.1)


def test_probes_close_together_prove_little() -> None:
    model = LossModel()
    burst, spread = [at * MS for at in range(8)], [at * 50 * MS for at in range(8)]
    assert model.evidence(burst) < 8 < DOWN_NATS < model.evidence(spread)


def test_bursts_are_learned_and_raise_the_bar() -> None:
    rng, model, at = Random(5), LossModel(), 0
    calm = model.evidence([i * 50 * MS for i in range(8)])
    for _ in range(60):
        at += 5 * SECOND
        for _ in range(100):
            model.observe(at, missed=False)
        end = at + rng.expovariate(1 / (150 * MS))
        while at < end:
            model.observe(at, missed=True)
            at += 50 * MS
        model.observe(at, missed=False)
    assert model.burst_us >= 80 * MS
    assert model.evidence([i * 50 * MS for i in range(8)]) < calm / 2


def test_an_outage_is_not_learned_as_the_paths_own_loss() -> None:
    one = path(lambda at, _: 60 * SECOND < at < 120 * SECOND)
    one.run(60 * SECOND)
    before = one.detector.model.loss
    one.run(180 * SECOND)
    assert one.detector.model.loss <= before
    assert one.detector.model.burst_us == 10 * MS


@settings(deadline=None)
@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=50))
def test_overdue_is_never_before_the_smoothed_round_trip_and_never_after_the_timeout(samples: list[int]) -> None:
    trip = RoundTrip(900_000)
    assert trip.overdue_us == 900_000
    now_us = 0
    for sample in samples:
        trip.sample(sample, now_us := now_us + 50 * MS)
        assert min(900_000, trip.srtt_us) <= trip.overdue_us <= 900_000


def test_a_steady_round_trip_is_overdue_after_fifteen_milliseconds() -> None:
    trip = RoundTrip()
    for _ in range(50):
        trip.sample(RTT, 50 * MS)
    assert trip.overdue_us == RTT + 15 * MS


def test_one_hiccup_does_not_put_off_the_notice_of_the_next_outage() -> None:
    """Four times the variation of one answer 600 ms late made answers overdue a whole second later for a while."""
    trip = RoundTrip()
    for i in range(40):
        trip.sample(RTT, i * 50 * MS)
    for i in range(8):  # what was under way arrives together
        trip.sample(RTT + 600 * MS - i * 50 * MS, 3 * SECOND)
    assert trip.overdue_us <= RTT + 30 * MS


def test_lateness_that_goes_on_is_learned_up_to_what_a_listener_bears() -> None:
    trip = RoundTrip()
    for i in range(40):
        trip.sample(RTT, i * 50 * MS)
    for i in range(12):
        trip.sample(RTT + i % 2 * 60 * MS, 3 * SECOND + i * 200 * MS)
    assert trip.overdue_us > RTT + 60 * MS
    for i in range(12):
        trip.sample(RTT + i % 2 * 900 * MS, 9 * SECOND + i * 2 * SECOND)
    assert trip.overdue_us <= trip.srtt_us + MOST_SLACK_US


def test_a_first_answer_that_came_late_is_soon_corrected() -> None:
    trip = RoundTrip()
    trip.sample(RTT + 400 * MS, SECOND)
    for i in range(8):
        trip.sample(RTT, 2 * SECOND + i * 500 * MS)
    assert trip.overdue_us <= RTT + 60 * MS


def test_most_first_hops_gone_at_once_is_my_own_fault() -> None:
    doubt = SelfDoubt()
    doubt.follow(range(6))
    for link in range(4):
        doubt.saw(link, Verdict.SUSPECT, link * 10 * MS)
    assert doubt.since_us is None
    doubt.saw(4, Verdict.DOWN, 50 * MS)
    assert doubt.since_us == 0
    for link in range(4):
        doubt.saw(link, Verdict.UP, SECOND)
    assert doubt.since_us is None


def test_links_lost_one_after_the_other_are_not_my_fault() -> None:
    doubt = SelfDoubt()
    doubt.follow(range(6))
    for link in range(6):
        doubt.saw(link, Verdict.DOWN, link * (AT_ONCE_US // 3))
    assert doubt.since_us is None


def test_a_node_with_few_links_doubts_others() -> None:
    doubt = SelfDoubt()
    doubt.follow(["a", "b", "c"])
    for link in ("a", "b", "c", "elsewhere"):
        doubt.saw(link, Verdict.DOWN, 0)
    assert doubt.since_us is None


@pytest.mark.parametrize(
    "chain", [Chain("b", 0.2, 60 * MS), Chain("h", 0.2, 300 * MS, 0.6), Chain("m", 0.2, 60 * MS, 1.0, 0.1)]
)
def test_the_benchmarks_weights_agree_with_draws(chain: Chain) -> None:
    sent = [0, 50 * MS, 60 * MS]
    rng, draws = Random(1), 20_000
    hits = 0
    for _ in range(draws):
        draw = Draw(chain, rng)
        hits += all(draw(at, 0) for at in sent)
    assert hits / draws == pytest.approx(all_lost(chain, sent), rel=0.1)
