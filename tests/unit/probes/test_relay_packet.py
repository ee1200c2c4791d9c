"""Sealed packets as bytes: round trip, fuzz, the reference's worked example, copies, keys and memories."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from relay_world import SECRET, keyring, neighbour

from probes.keys import derive, key_id, own_key
from probes.relay import MAX_HOPS, MAX_PAYLOAD, Keyring, Neighbour, RelayError, SealedHeader, neighbours_of, sender_id
from probes.relay import keyring as module
from probes.relay.packet import MAX_PACKET, TAG_SIZE, sealed_end
from probes.relay.window import WIDTH, Window
from probes.wire import PlanPeer, PlanRelay, ProbePlan

PAGE = Path(__file__).parents[3] / "docs/reference/relay.md"
AT = {"a": ("192.0.2.1", 7422), "b": ("198.51.100.2", 7422), "t": ("203.0.113.3", 7422), "s": ("192.0.2.9", 7422)}
NOW_US = 1_700_000_000_000_000
HOP4 = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65_535))
HOP6 = st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65_535))
U32 = st.integers(0, (1 << 32) - 1)


@st.composite
def headers(draw: st.DrawFn) -> SealedHeader:
    hops = tuple(draw(st.lists(draw(st.sampled_from([HOP4, HOP6])), min_size=1, max_size=MAX_HOPS)))
    answer = draw(st.booleans())
    port = 0 if answer else draw(st.integers(1, 65_535))
    index, ttl = draw(st.integers(0, len(hops) - 1)), draw(st.integers(0, 255))
    numbers = [draw(U32) for _ in range(4)]
    return SealedHeader(hops, index, ttl, port, answer, *numbers, draw(st.integers(0, (1 << 64) - 1)))


def sent_by(sender: str, hops: list[str], payload: bytes = b"voice", wall_us: int = NOW_US) -> bytes:
    return keyring(sender, AT).wrap([AT[hop] for hop in hops], 7423, payload, wall_us)


@given(headers(), st.binary(max_size=1_300))
def test_headers_survive_the_round_trip(header: SealedHeader, payload: bytes) -> None:
    assert SealedHeader.decode(header.encode() + payload + bytes(TAG_SIZE)) == (header, payload)


@given(st.binary(max_size=150))
@example(b"")
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for packet in (data, b"TR\x02" + data, b"TR\x02" + data[:1] + b"\x02\x01\x08\x00" + data[1:]):
        try:
            header, payload = SealedHeader.decode(packet)
        except RelayError:
            continue
        assert header.encode() + payload + packet[-TAG_SIZE:] == packet


@given(st.data())
def test_no_changed_packet_is_taken(data: st.DataObject) -> None:
    """Every bit of the packet is under the tag."""
    packet = bytearray(sent_by("s", ["a", "b", "t"]))
    at = data.draw(st.integers(0, len(packet) - 1))
    packet[at] ^= data.draw(st.integers(1, 255))
    receiver = keyring("a", AT)
    changed = bytes(packet)
    assert not sealed_end(changed) or receiver.refusal(changed, 0, NOW_US) == "forged"
    assert receiver.refusal(sent_by("s", ["a", "b", "t"]), 0, NOW_US) == ""


def test_cut_and_stretched_packets_are_refused() -> None:
    packet = sent_by("s", ["a", "t"], b"x" * 40)
    receiver = keyring("a", AT)
    for size in range(len(packet)):
        cut = packet[:size]
        assert not sealed_end(cut) or receiver.refusal(cut, 0, NOW_US) == "forged"
    assert receiver.refusal(packet + b"x", 0, NOW_US) == "forged"
    assert not sealed_end(packet + b"x" * MAX_PAYLOAD)
    assert receiver.refusal(packet, 0, NOW_US) == ""


def test_sizes_fit_an_ordinary_path() -> None:
    longest = keyring("s", AT).wrap([AT["a"], AT["b"], AT["t"]], 1, b"x" * MAX_PAYLOAD, NOW_US)
    assert sealed_end(longest)
    assert len(longest) + 28 <= 1_500
    six = {name: (f"2001:db8::{i}", 7422) for i, name in enumerate(AT)}
    ring = keyring("s", six)
    assert ring.wrap([six["a"], six["b"]], 1, b"x" * 1_300, NOW_US)[3] == 2
    with pytest.raises(RelayError, match="too long for this path"):
        ring.wrap([six["a"], six["b"], six["t"]], 1, b"x" * MAX_PAYLOAD, NOW_US)
    assert MAX_PACKET[True] + 48 == MAX_PACKET[False] + 28 == 1_500


@pytest.mark.parametrize(
    ("hops", "port", "message"),
    [
        ([], 1, "1 to 4 hops"),
        ([AT["a"]] * 2, 1, "all different"),
        ([AT["a"], AT["b"], AT["t"], AT["s"], ("192.0.2.5", 1)], 1, "1 to 4 hops"),
        ([("192.0.2.77", 7422)], 1, "no key for the relay 192.0.2.77"),
        ([AT["a"], ("2001:db8::1", 7422)], 1, "all IPv4 or all IPv6"),
        ([AT["a"]], 0, "destination port"),
    ],
)
def test_paths_that_cannot_be_taken(hops: list[tuple[str, int]], port: int, message: str) -> None:
    with pytest.raises(RelayError, match=message):
        keyring("s", AT).wrap(hops, port, b"", NOW_US)


def test_a_packet_is_taken_once() -> None:
    receiver, packet = keyring("a", AT), sent_by("s", ["a", "t"])
    assert [receiver.refusal(packet, 0, NOW_US) for _ in range(3)] == ["", "replayed", "replayed"]


def test_reordered_packets_are_taken_and_ancient_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY", 4)
    sender, receiver = keyring("s", AT), keyring("a", AT)
    packets = [sender.wrap([AT["a"]], 1, b"", NOW_US + 10 * i) for i in range(8)]
    for i in (1, 0, 3, 2, 4, 5, 6):
        assert receiver.refusal(packets[i], 0, NOW_US) == ""
    assert [receiver.refusal(packets[i], 0, NOW_US) for i in range(8)] == ["replayed"] * 7 + [""]


def test_a_stranger_s_first_packet_must_be_fresh_and_a_known_sender_s_clock_may_jump() -> None:
    for off_us in (-module.FRESH_US - 1, module.FRESH_US + 1):
        assert keyring("a", AT).refusal(sent_by("s", ["a"], wall_us=NOW_US + off_us), 0, NOW_US) == "stale"
    receiver, sender = keyring("a", AT), keyring("s", AT)
    for step_us in (0, 3_600_000_000, -3_600_000_000):  # the sender's clock goes on, and back: its numbers still rise
        assert receiver.refusal(sender.wrap([AT["a"]], 1, b"", NOW_US + step_us), 0, NOW_US) == ""
    restarted = keyring("s", AT)
    assert receiver.refusal(restarted.wrap([AT["a"]], 1, b"", NOW_US + 3_700_000_000), 0, NOW_US) == ""


def test_wrong_keys() -> None:
    """The sender's key towards another node, a node without a key, and a new own key."""
    other = Keyring()
    towards_b = neighbour("s", "b", AT["a"])
    other.install("s", "", [towards_b])
    packet = other.wrap([AT["a"]], 1, b"", NOW_US)
    receiver = keyring("a", AT)
    assert receiver.refusal(packet, 0, NOW_US) == "forged"
    assert Keyring().refusal(packet, 0, NOW_US) == "no_key"
    good = sent_by("s", ["a"])
    receiver.install("a", own_key(b"another secret", "a").hex(), [])
    assert receiver.refusal(good, 0, NOW_US) == "forged"


def test_senders_that_share_a_key_id_do_not_share_a_memory() -> None:
    """With 12 bits two of a thousand nodes often share one; neither may silence the other."""
    names = [f"node-{i}" for i in range(60_000)]
    first = names[0]
    second = next(name for name in names[1:] if key_id(name) == key_id(first))
    receiver = keyring("a", AT)
    for name in (first, second):
        assert receiver.refusal(keyring(name, AT).wrap([AT["a"]], 1, b"", NOW_US), 0, NOW_US) == ""
    assert sender_id(first, key_id(first)) != sender_id(second, key_id(second))


def test_each_sender_has_a_rate_of_its_own() -> None:
    receiver = Keyring(packets_per_s=100)
    receiver.install("a", own_key(SECRET, "a").hex(), [])
    loud, quiet = keyring("s", AT), keyring("b", AT)
    refusals = [receiver.refusal(loud.wrap([AT["a"]], 1, b"", NOW_US), 0, NOW_US) for _ in range(50)]
    assert refusals.count("") == 11  # a tenth of a second's, and the one in hand
    assert refusals[-1] == "sender_rate_limited"
    assert receiver.refusal(quiet.wrap([AT["a"]], 1, b"", NOW_US), 0, NOW_US) == ""
    assert receiver.refusal(loud.wrap([AT["a"]], 1, b"", NOW_US), 1_000_000_000, NOW_US) == ""


def test_memories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SENDERS", 3)
    monkeypatch.setattr(module, "MAX_PATHS", 3)
    receiver = keyring("a", AT)
    for i in range(9):
        sender = keyring(f"node-{i}", AT)
        assert receiver.refusal(sender.wrap([AT["a"]], 1, b"", NOW_US), 0, NOW_US) == ""
        receiver.wrap([AT["b"], (f"192.0.2.{100 + i}", 1)], 1, b"", NOW_US)
    assert len(receiver._senders) == 3
    assert len(receiver._paths) <= 3


def test_only_an_answer_that_has_arrived_is_unwrapped() -> None:
    relay, probe_socket = keyring("a", AT | {"s": ("192.0.2.9", 0)}), keyring("s", AT)
    hop = SealedHeader((("192.0.2.9", 7420),), 0, 8, 0, answer=True).encode()[34:]
    path = relay.way_back(hop, 1)
    assert path is not None
    answer = relay.start(path, 0, b"pong", NOW_US, (0, 0, 0))
    assert probe_socket.unwrap(answer, 0, NOW_US) == b"pong"
    with pytest.raises(RelayError, match="replayed"):
        probe_socket.unwrap(answer, 0, NOW_US)
    for other in (sent_by("a", ["b"]), b"", b"TR\x02"):
        with pytest.raises(RelayError, match="not an answer"):
            probe_socket.unwrap(other, 0, NOW_US)


def test_neighbours_without_a_key_take_no_sealed_packets() -> None:
    ring = Keyring()
    ring.install("s", "", [Neighbour("192.0.2.1", 7422)])
    with pytest.raises(RelayError, match="no key"):
        ring.wrap([AT["a"]], 1, b"", NOW_US)


# --- copies ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3 * WIDTH), max_size=300), st.sampled_from([0, (1 << 32) - WIDTH]))
def test_window_is_a_set_as_far_as_it_reaches(numbers: list[int], base: int) -> None:
    window, taken, highest = Window(), set[int](), -1
    for number in numbers:
        fresh = number not in taken and (highest < 0 or number > highest - WIDTH)
        assert window.take((base + number) & 0xFFFFFFFF) is fresh
        if fresh:
            taken.add(number)
            highest = max(highest, number)


# --- the reference ---------------------------------------------------------------------------------------------------


def test_the_worked_example_of_the_reference() -> None:
    """The page's hex is what the code makes and takes, hop by hop."""
    blocks = re.findall(r"```hex\n(.*?)```", PAGE.read_text(), re.DOTALL)
    first, second = (bytes.fromhex(re.sub(r"#.*", "", block)) for block in blocks)
    s, a = keyring("s", AT), keyring("a", AT)
    assert first == s.wrap([AT["a"], AT["t"]], 7423, b"voice", NOW_US, (0x0A0B0C0D, 1, 7))
    assert a.refusal(first, 0, NOW_US) == ""
    header, payload = SealedHeader.decode(first)
    assert replace(header, sender=0, sequence=0) == SealedHeader(
        (AT["a"], AT["t"]), 0, 8, 7423, origin=0x0A0B0C0D, flow=1, number=7
    )
    onward = SealedHeader((AT["s"], AT["t"]), 1, 7, 7423, origin=0x0A0B0C0D, flow=1, number=7)
    packet = bytearray(onward.encode() + payload + bytes(TAG_SIZE))
    towards_t = a.onward(bytes(packet[40:46]), last_of_answer=False)
    assert towards_t is not None
    a.seal(memoryview(packet), towards_t, NOW_US + 30_000)
    assert second == packet
    assert keyring("t", AT).refusal(second, 0, NOW_US) == ""
    text = PAGE.read_text()
    assert own_key(SECRET, "a").hex() in text
    assert derive(own_key(SECRET, "a"), key_id("s")).hex() in text
    assert SECRET.decode() in text


def test_hosts_may_be_called_as_the_plan_calls_them() -> None:
    """Plans may have names; packets have addresses, which whoever resolved the plan tells."""
    plan = ProbePlan(
        "s", "dc-s", 1, 0, 1, 1_000_000, 1_000_000, own_key=own_key(SECRET, "s").hex(),
        peers=(PlanPeer("a", "dc-a", "internet", "a.example", 862, 7422, 1_000_000,
                        key_id=key_id("s"), key=neighbour("s", "a", AT["a"]).key),),
        relays=(PlanRelay("b", "b.example", 7422, key_id("s"), neighbour("s", "b", AT["b"]).key),
                PlanRelay("t", "gone.example", 7422, key_id("s"), neighbour("s", "t", AT["t"]).key)),
    )  # fmt: skip
    addresses = {"a.example": "192.0.2.1", "b.example": "198.51.100.2", "gone.example": None}
    ring = Keyring()
    ring.install(plan.node, plan.own_key, neighbours_of(plan, addresses))
    for first, second in (("a", "b"), ("b", "a")):
        packet = ring.wrap([(f"{first}.example", 7422), (f"{second}.example", 7422)], 1, b"x", NOW_US)
        assert keyring(first, AT).refusal(packet, 0, NOW_US) == ""
        assert SealedHeader.decode(packet)[0].hops == (AT[first], AT[second])
    with pytest.raises(RelayError, match="numeric address"):
        ring.wrap([("gone.example", 7422)], 1, b"x", NOW_US)
