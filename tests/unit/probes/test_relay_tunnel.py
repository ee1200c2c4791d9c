"""The tunnel: local ingress, two ways while suspect, one copy at the far end, answers, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_world import HOSTS, receive, socket_on, until, world

from probes.relay import Relay, Tunnel, TunnelError, pack_send, unpack_answer
from probes.relay.tunnel import PathKey


class Ways:
    """What the reflex would say; tests change it."""

    def __init__(self) -> None:
        self.paths: Sequence[PathKey] = ()
        self.asked: list[tuple[str, str]] = []

    def __call__(self, context: str, data_center: str) -> Sequence[PathKey]:
        self.asked.append((context, data_center))
        return self.paths


@asynccontextmanager
async def tunnelled(port: int, unix_path: Path | None = None) -> AsyncIterator[tuple[dict[str, Relay], Tunnel, Ways]]:
    ways = Ways()
    async with world(deliver=[port]) as made:
        tunnel = Tunnel(made["s"], ways, bind=("127.0.0.1", 0), unix_path=unix_path)
        try:
            yield made, tunnel, ways
        finally:
            tunnel.close()


def way(made: dict[str, Relay], names: str) -> PathKey:
    return tuple(made[name].address for name in names)


async def test_media_goes_by_three_relays_on_two_ways_while_suspect_and_arrives_once() -> None:
    with socket_on("127.0.0.1") as media, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with tunnelled(port) as (made, tunnel, ways):
            assert tunnel.address is not None
            t = made["t"]
            arrived, peers = [], set()
            for number in range(30):
                suspect, cut = 10 <= number < 20, number >= 15
                if number == 20:  # down: only the backup is left
                    ways.paths = (way(made, "bt"),)
                elif not suspect:
                    ways.paths = (way(made, "abt"),) if number < 20 else ways.paths
                else:
                    ways.paths = (way(made, "abt"), way(made, "bt"))
                if cut:
                    made["a"].follow("a", "", [])  # the first relay forgets everybody: a black hole
                media.sendto(pack_send("voice", "t-dc", port, 9, bytes([number])), tunnel.address)
                payload, peer = await receive(service)
                arrived.append(payload[0])
                peers.add(peer)
            assert arrived == list(range(30))
            assert len(peers) == 1
            assert tunnel.counters == {"sent": 30, "copies": 10}
            await until(lambda: t.counters["duplicates"] == 5)
            assert t.counters["delivered"] == 30
            assert ways.asked == [("voice", "t-dc")] * 30


@pytest.mark.parametrize("kind", ["udp", "unix"])
async def test_answers_come_back_to_the_client_that_asked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tunnel.sock"
    with socket_on("127.0.0.1") as over_udp, socket_on(HOSTS[3]) as service:
        over_unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        over_unix.bind(str(tmp_path / "media.sock"))
        over_unix.setblocking(False)
        port = service.getsockname()[1]
        async with tunnelled(port, path) as (made, tunnel, ways):
            ways.paths = (way(made, "abt"),)
            media = over_udp if kind == "udp" else over_unix
            to = tunnel.address if kind == "udp" else str(path)
            for flow in (9, 10):  # two flows of one client
                media.sendto(pack_send("voice", "t-dc", port, flow, b"ping"), to)  # type: ignore[arg-type]
                payload, peer = await receive(service)
                assert payload == b"ping"
                service.sendto(b"pong", peer)
                assert unpack_answer((await receive(media))[0]) == (flow, port, b"pong")
            assert tunnel.flows == 2
            assert tunnel.counters == {"sent": 2, "copies": 0, "answered": 2}
            assert made["s"].counters["answers"] == 2
        over_unix.close()
        assert not path.exists()


async def test_a_unix_client_without_an_address_sends_but_hears_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.sock"
    with socket_on(HOSTS[3]) as service, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as media:
        port = service.getsockname()[1]
        async with tunnelled(port, path) as (made, tunnel, ways):
            assert path.stat().st_mode & 0o777 == 0o660
            ways.paths = (way(made, "t"),)
            media.sendto(pack_send("voice", "t-dc", port, 0, b"ping"), str(path))
            _, peer = await receive(service)
            service.sendto(b"pong", peer)
            await until(lambda: tunnel.counters["unanswered"] == 1)


async def test_what_cannot_be_sent_is_counted() -> None:
    with socket_on("127.0.0.1") as media:
        async with tunnelled(9) as (made, tunnel, ways):
            assert tunnel.address is not None
            good = pack_send("voice", "t-dc", 9, 1, b"x")
            media.sendto(good, tunnel.address)
            await until(lambda: tunnel.counters == {"no_route": 1})
            ways.paths = ((("192.0.2.1", 7422),),)
            media.sendto(good, tunnel.address)
            await until(lambda: tunnel.counters["no_key"] == 1 and tunnel.counters["unsent"] == 1)
            for bad in (b"", b"TT", good[:-2], b"XX" + good[2:], good[:2] + b"\x09" + good[3:]):
                media.sendto(bad, tunnel.address)
            media.sendto(pack_send("voice", "t", 9, 1, b"").replace(b"voice", b"voi\xff\xff"), tunnel.address)
            await until(lambda: tunnel.counters["malformed"] == 6)
            media.sendto(good + b"x" * 1_400, tunnel.address)
            await until(lambda: tunnel.counters["too_long"] == 1)
            assert sum(made["s"].counters.values()) == 0


async def test_flows_are_bounded_and_answers_to_forgotten_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.relay.tunnel.MAX_FLOWS", 2)
    with socket_on("127.0.0.1") as media, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with tunnelled(port) as (made, tunnel, ways):
            assert tunnel.address is not None
            ways.paths = (way(made, "at"),)
            peers = []
            for flow in range(4):
                media.sendto(pack_send("voice", "t-dc", port, flow, b"x"), tunnel.address)
                peers.append((await receive(service))[1])
            assert tunnel.flows == 2
            service.sendto(b"late", peers[0])
            await until(lambda: made["s"].counters["not_allowed"] == 1)
            service.sendto(b"good", peers[3])
            assert unpack_answer((await receive(media))[0]) == (3, port, b"good")


async def test_it_serves_its_own_node_only_and_replaces_a_dead_socket(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.sock"
    async with world() as made:
        with pytest.raises(TunnelError, match="loopback"):
            Tunnel(made["s"], Ways(), bind=("0.0.0.0", 0))
        with pytest.raises(OSError, match="No such file"):
            Tunnel(made["s"], Ways(), bind=("127.0.0.1", 0), unix_path=tmp_path / "nowhere" / "t.sock")
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(path))
        dead.close()
        tunnel = Tunnel(made["s"], Ways(), bind=None, unix_path=path)
        assert tunnel.address is None
        tunnel.close()
        assert not path.exists()
        await asyncio.sleep(0)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    try:
        flow, port, payload = unpack_answer(data)
    except TunnelError:
        return
    assert data[12:] == payload
    assert flow < 1 << 32 > port


@pytest.mark.parametrize(
    ("context", "target", "port", "flow", "payload"),
    [
        ("", "t", 1, 0, b""),
        ("voice", "", 1, 0, b""),
        ("v" * 256, "t", 1, 0, b""),
        ("voice", "t", 0, 0, b""),
        ("voice", "t", 1, 1 << 32, b""),
        ("voice", "t", 1, 0, b"x" * 1_401),
    ],
)
def test_what_does_not_fit_an_ingress_datagram(context: str, target: str, port: int, flow: int, payload: bytes) -> None:
    with pytest.raises(TunnelError):
        pack_send(context, target, port, flow, payload)
