"""The data path of one node: caps, session ids, who is credited with a reflected probe."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from probes.budget import MAX_PACKETS_PER_S
from probes.clock import Clock
from probes.detect import Verdict
from probes.once import Place, _result
from probes.prober import LAZY_FROM_US, SOON_US, Prober
from probes.sockets import Reflector, monotonic_us, open_udp
from probes.stamp import pack_request
from probes.wire import PlanPeer, ProbePlan


def peer(name: str, host: str, interval_us: int = 3_600_000_000, transport: str = "internet") -> PlanPeer:
    return PlanPeer(name, f"dc-{name}", transport, host, 9, 0, interval_us)


def plan(*peers: PlanPeer) -> ProbePlan:
    return ProbePlan("me", "dc-me", 1, 0, 0, 1_000_000, 1_000_000, peers)


def prober() -> Prober:
    return Prober("127.0.0.1", (0, 0, None), Clock(), Random(1), frozenset())


async def test_a_plan_beyond_the_cap_is_slowed_down(caplog: pytest.LogCaptureFixture) -> None:
    node = prober()
    try:
        await node.follow(plan(*(peer(f"n{i}", "127.0.0.31", 1_000) for i in range(5))))
        intervals = [node._schedule.interval_us((f"n{i}", "internet")) for i in range(5)]
        assert sum(1_000_000 / interval for interval in intervals if interval) <= MAX_PACKETS_PER_S
        assert "the plan asks for 5000 probes/s" in caplog.text
    finally:
        node.close()


async def test_the_schedule_hears_how_uncertain_round_trips_are() -> None:
    node = prober()
    try:
        await node.follow(plan(peer("a", "127.0.0.31"), peer("b", "127.0.0.32")))
        watch = node.evidence.peers()["a", "internet"]
        watch.round_trip.sample(10_000, monotonic_us())
        watch.heard_us = 5
        node.end_interval()
        assert node._schedule._noted == {("a", "internet"): (5, 0.125)}
    finally:
        node.close()


async def test_reflected_probes_are_credited_by_address_unless_peers_share_it() -> None:
    node = prober()
    loop = asyncio.get_running_loop()
    try:
        await node.follow(plan(peer("a", "127.0.0.31"), peer("b", "127.0.0.32"), peer("c", "127.0.0.32")))
        for host in ("127.0.0.31", "127.0.0.32", "127.0.0.33"):
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(host, 0))
            transport.sendto(pack_request(0, 1, 1, 1), node.reflector.address)
            async with asyncio.timeout(20):
                while node.reflector.counters["reflected"] < int(host[-1]):
                    await asyncio.sleep(0.005)
            transport.close()
        rows = node.end_interval()
        assert (rows.peer, rows.reflected) == (("a",), (1,))
    finally:
        node.close()


async def test_session_ids_stay_with_their_rows_and_are_never_zero_or_shared() -> None:
    node = prober()
    try:
        node._next_ssid = 65_534
        await node.follow(plan(*(peer(name, "127.0.0.31") for name in "abc"), peer("me", "127.0.0.1")))
        first = {key[0]: target.ssid for key, target in node._targets.items()}
        assert first == {"a": 65_534, "b": 65_535, "c": 1}
        await node.follow(
            plan(peer("c", "127.0.0.31"), peer("d", "127.0.0.31"), peer("c", "127.0.0.31", 1_000_000, "x"))
        )
        second = {key: target.ssid for key, target in node._targets.items()}
        assert second == {("c", "internet"): 1, ("d", "internet"): 2, ("c", "x"): 3}
    finally:
        node.close()


async def test_a_port_that_is_taken_leaves_nothing_open() -> None:
    holder = prober()
    taken = holder.reflector.address[1]
    try:
        with pytest.raises(OSError, match="in use"):
            Prober("127.0.0.1", (0, taken, None), Clock(), Random(1), frozenset())
    finally:
        holder.close()


def test_the_round_trip_of_a_result_is_the_median() -> None:
    place = Place("a", "dc", "192.0.2.1", 1)
    result = _result(place, (), 4, [30, 10, 20], 5)
    assert (result.rtt_us, result.rtt_min_us, result.jitter_us, result.loss_pct) == (20, 10, 5, 25.0)
    assert _result(place, (), 0, [], -1).loss_pct == 0.0


@pytest.mark.slow
async def test_two_thousand_peers_stay_within_the_budget_and_are_all_probed() -> None:
    node = prober()
    try:
        peers = (peer(f"n{i}", f"127.1.{i >> 8}.{i & 255}", 100_000) for i in range(1, 2_001))
        began_us = monotonic_us()
        await node.follow(plan(*peers))  # asks for 20,000 a second
        async with asyncio.timeout(60):
            while len({row for row in node._summary._rows.values() if row.next_sequence}) < 2_000:
                await asyncio.sleep(0.05)
        sent = sum(row.next_sequence for row in node._summary._rows.values())
        assert sent <= MAX_PACKETS_PER_S * (1 + (monotonic_us() - began_us) / 1e6)  # a second's worth at once, no more
        assert len(node.end_interval()) <= 2_000
    finally:
        node.close()


async def measured(node: Prober, until_s: float, enough: int) -> tuple[int, int]:
    """Sent and received of whatever was closed, once enough was."""
    sent = received = 0
    async with asyncio.timeout(until_s):
        while sent < enough:
            await asyncio.sleep(0.05)
            rows = node.end_interval()
            sent, received = sent + sum(rows.sent), received + sum(rows.received)
    return sent, received


@pytest.mark.parametrize("interval_us", [LAZY_FROM_US, LAZY_FROM_US - 1])
async def test_answers_of_seldom_probed_peers_wait_in_the_socket_and_count_all_the_same(interval_us: int) -> None:
    node, other = prober(), prober()
    woken = 0
    port = node.sender._ports[0]
    drain = port._drain

    def drained() -> bool:
        nonlocal woken
        woken += 1
        return drain()

    try:
        port.attend(False)
        port._drain = drained  # type: ignore[method-assign]
        port.attend(True)
        host, where = other.reflector.address
        peers = [PlanPeer(f"n{i}", "dc", "internet", host, where, 0, interval_us) for i in range(40)]
        await node.follow(plan(*peers))
        sent, received = await measured(node, 20, 40)
        assert received == sent
        assert node._lazy is (interval_us >= LAZY_FROM_US)
        fires = woken  # lazy: for each time the timer fires and each report; else for nearly each answer
        assert (fires < 40) if node._lazy else (fires >= 10), fires
        assert all(watch.round_trip.srtt_us < 50_000 for watch in node.evidence.peers().values())
        assert node.evidence.calm
    finally:
        node.close()
        other.close()


async def test_who_has_just_answered_a_probe_sends_what_is_nearly_due_and_tells_the_loop_only_what_it_must() -> None:
    node = prober()
    early: list[bool] = []
    due = node._schedule.due

    def served(now_us: int, *, awake: bool = False) -> list[PlanPeer]:
        early.append(awake)
        return due(now_us, awake=awake)

    try:
        node._schedule.due = served  # type: ignore[method-assign]
        await node.follow(plan(peer("a", "127.0.0.31", 1_000_000)))
        node._fire()
        node._alarm.cancel()
        node._rings_us = monotonic_us() + SOON_US + 10_000_000
        assert node._lazy
        assert node._awake(), "the timer fires much later"
        assert not any(early)
        node._rings_us = monotonic_us() + SOON_US
        assert node._awake(), "nobody had to be told anything"
        assert early[-1]
        node.evidence.due = lambda now_us: node._alarmed() or []  # type: ignore[method-assign]
        node._rings_us = monotonic_us()
        assert not node._awake(), "somebody was told something"
    finally:
        node.close()


async def test_a_probe_that_is_answered_wakes_its_prober_once() -> None:
    node = prober()
    woken: list[bool] = []
    awake = node._awake
    loop = asyncio.get_running_loop()
    node.reflector._port._served = lambda: woken.append(True) or awake()
    try:
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        transport.sendto(pack_request(0, 1, 1, 1), node.reflector.address)
        async with asyncio.timeout(20):
            while not woken:
                await asyncio.sleep(0.001)
        assert node.reflector.counters["reflected"] == 1, "the answer has left before anything else is done"
        transport.close()
    finally:
        node.close()


@pytest.mark.slow
async def test_a_seldom_probed_peer_that_falls_silent_is_still_found_and_found_again() -> None:
    node, other = prober(), prober()
    host, where = other.reflector.address
    try:
        await node.follow(plan(PlanPeer("n", "dc", "internet", host, where, 0, LAZY_FROM_US)))
        watch = node.evidence.peers()["n", "internet"]
        async with asyncio.timeout(30):
            while watch.answers < 2:
                await asyncio.sleep(0.01)
            other.reflector.close()
            while watch.detector.verdict is not Verdict.DOWN:
                await asyncio.sleep(0.01)
            assert node._lazy and not node.evidence.calm
            reflector = Reflector(open_udp(host, where), Clock())
            while watch.detector.verdict is not Verdict.UP:
                await asyncio.sleep(0.01)
            reflector.close()
        assert node.evidence.calm
    finally:
        node.close()
        other.close()
