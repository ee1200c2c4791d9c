"""Gaps are counted from sequence numbers."""

from __future__ import annotations

from pathlib import Path

from bench.failover.gaps import Stream
from bench.failover.media import ARRIVED, RECORD, SENT, read
from bench.failover.world import EDGES, PROVIDERS, calls, failover_world

INTERVAL = 20_000


def stream(count: int, missing: set[int], later_us: int = 50_000) -> Stream:
    found = Stream(INTERVAL, [number * INTERVAL for number in range(count)])
    for number in set(range(count)) - missing:
        found.arrived(number, number * INTERVAL + later_us)
    return found


def test_a_gap_is_the_longest_run_of_missing_numbers() -> None:
    whole = stream(100, {10, 40, 41, 42, 60, 61})
    assert whole.gap_us(range(100)) == 3 * INTERVAL
    assert whole.gap_us(range(50, 100)) == 2 * INTERVAL
    assert whole.gap_us(range(42, 60)) == INTERVAL
    assert not whole.healthy(range(100)) and whole.healthy(range(62, 100))


def test_silence_counts_what_the_new_path_takes_longer() -> None:
    found = stream(10, {5})
    for number in range(6, 10):
        found.arrived_us[number] += 30_000
    assert found.silence_us(range(10)) == INTERVAL + 30_000
    assert stream(10, set()).silence_us(range(10)) == 0
    assert stream(10, set(range(10))).silence_us(range(10)) == 0


def test_a_second_copy_does_not_count() -> None:
    found = Stream(INTERVAL, [0])
    found.arrived(0, 70_000)
    found.arrived(0, 90_000)
    assert found.arrived_us == {0: 70_000}


def test_packets_are_found_by_when_they_were_sent() -> None:
    assert stream(10, set()).between(20_000, 60_000) == range(1, 4)
    assert stream(10, set()).between(900_000, 950_000) == range(10, 10)


def test_a_sender_that_paused_is_seen() -> None:
    found = Stream(INTERVAL, [0, 20_000, 65_000, 85_000])
    assert found.sender_late_us(range(4)) == 25_000
    assert found.sender_late_us(range(1)) == 0


def test_records_are_read_back_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "records"
    records = [(SENT, 1, 0, 5), (SENT, 1, 1, 20_005), (ARRIVED, 1, 1, 70_000), (ARRIVED, 1, 1, 99_000)]
    file.write_bytes(b"".join(RECORD.pack(*record) for record in records) + b"\1\1")
    quiet, heard = read(file, 2)
    assert (quiet.sent_us, heard.sent_us, heard.arrived_us) == ([], [5, 20_005], {1: 70_000})


def test_every_call_is_faster_over_each_provider_than_directly() -> None:
    world = failover_world(3)
    for a in range(EDGES):
        source, target = f"edge-{a}", f"edge-{a ^ 1}"
        direct = world.one_way_us(source, target)
        best = []
        for provider in PROVIDERS:
            ways = [
                (world.one_way_us(source, f"{provider}-{i}"), world.one_way_us(f"{provider}-{i}", target))
                for i in (0, 1)
            ]
            best.append(min(there + back for there, back in ways if there is not None and back is not None))
        assert direct is not None and best == sorted(best) and best[-1] < direct
    flows = calls(world)
    assert len(flows) == EDGES and {flow.target for flow in flows} == set(range(EDGES))
