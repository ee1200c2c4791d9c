"""All of it on one machine: keys from plans, paths probed through relays, a silent relay, and media that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from relay_world import HOSTS, NODES, SECRET, socket_on, until

from probes.agent import AgentConfig, AgentError, ProbeAgent
from probes.clock import Clock
from probes.keys import derive, key_id, own_key
from probes.prober import Prober
from probes.reflex import Reflex
from probes.relay import Tunnel, pack_send
from probes.sockets import monotonic_us
from probes.wire import PlanPeer, ProbePlan, ReactionHops, ReactionPlan, ReactionRows, Triggers

TRIGGERS = Triggers(50_000, 1, 5, 10_000, 6, 10, 1_000_000)


def plan_of(node: str, probers: dict[str, Prober]) -> ProbePlan:
    """What the control plane would hand this node."""
    peers = []
    for name, host in zip(NODES, HOSTS, strict=True):
        relay = probers[name].relay
        assert relay is not None
        key = derive(own_key(SECRET, name), key_id(node)).hex()
        ports = (probers[name].reflector.address[1], relay.address[1], 200_000)
        peers.append(PlanPeer(name, f"dc-{name}", "internet", host, *ports, key_id=key_id(node), key=key))
    others = tuple(peer for peer in peers if peer.node != node)
    own = own_key(SECRET, node).hex()
    return ProbePlan(node, f"dc-{node}", 1, 0, 1, 1_000_000, 1_000_000, others, own_key=own)


def reaction_plan(peers: tuple[PlanPeer, ...]) -> ReactionPlan:
    """From s to t over a, and if that fails over b."""
    hops = ReactionHops(
        data_center=(1, 2, 3),
        transport=("internet",) * 3,
        host=tuple(peer.host for peer in peers),
        port=tuple(peer.relay_port for peer in peers),
        node=tuple(peer.node for peer in peers),
        reflector_port=tuple(peer.reflector_port for peer in peers),
    )
    rows = ReactionRows((0,), (3,), ((0, 1),), ("d",), (100_000,))
    centers = tuple(f"dc-{node}" for node in NODES)
    return ReactionPlan(
        "s", "dc-s", 1, 1, 0, 0, 15_000_000, TRIGGERS, ("voice",), (0,), centers, hops, ((0, 2), (1, 2)), rows
    )


@asynccontextmanager
async def probers_of(deliver: int) -> AsyncIterator[dict[str, Prober]]:
    made = {
        node: Prober(host, (0, 0, 0), Clock(), Random(node), frozenset({deliver}), reflex=Reflex(node))
        for node, host in zip(NODES, HOSTS, strict=True)
    }
    try:
        for node, prober in made.items():
            await prober.follow(plan_of(node, made))
        yield made
    finally:
        for prober in made.values():
            prober.close()


@pytest.mark.slow
async def test_a_relay_falls_silent_and_media_goes_on_over_the_other_each_packet_once() -> None:
    with socket_on("127.0.0.1") as media, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with probers_of(port) as probers:
            s, a = probers["s"], probers["a"]
            assert s.relay is not None and a.relay is not None
            assert s.reflex.install(reaction_plan(plan_of("s", probers).peers), monotonic_us()).accepted
            tunnel = Tunnel(
                s.relay,
                lambda context, target: s.reflex.way(context, target, monotonic_us()).paths(),
                bind=("127.0.0.1", 0),
            )
            arrived: list[int] = []
            asyncio.get_running_loop().add_reader(service, lambda: arrived.append(int(service.recv(2_048))))
            sent = 0

            def goes_on(condition: bool) -> bool:
                """Say something more, as people do while one waits."""
                nonlocal sent
                media.sendto(pack_send("voice", "dc-t", port, 1, str(sent).encode()), tunnel.address or ("", 0))
                sent += 1
                return condition

            try:
                forwarded = a.relay.counters
                await until(lambda: goes_on(len(arrived) >= 10 and forwarded["forwarded"] >= 20))
                a.relay.follow("a", "", [])  # it drops everything from now on, and says nothing
                cut = sent
                await until(lambda: goes_on(forwarded["no_key"] > 0 and len(arrived) > 0 and arrived[-1] > cut + 20))
                await until(lambda: goes_on(s.reflex.way("voice", "dc-t", monotonic_us()).place == 1))
                assert tunnel.counters["copies"] > 0  # both ways at once, before it was sure
                assert len(arrived) == len(set(arrived))
            finally:
                asyncio.get_running_loop().remove_reader(service)
                tunnel.close()


async def test_an_agent_that_relays_opens_the_tunnel_and_says_why_it_cannot(tmp_path: Path) -> None:
    def agent(name: str, tunnel: tuple[str, int]) -> ProbeAgent:
        free = {"probe_port": 0, "reflector_port": 0, "relay_port": 0, "join_token": "tj_dc_x", "tunnel": tunnel}
        return ProbeAgent(AgentConfig(name, "http://127.0.0.1:9", tmp_path / name, "127.0.0.1", **free))  # type: ignore[arg-type]

    first = agent("a", ("127.0.0.1", 0))
    await first.start()
    try:
        assert first.tunnel is not None and first.tunnel.address is not None
        with socket_on("127.0.0.1") as media:
            media.sendto(pack_send("voice", "nowhere", 1, 1, b"x"), first.tunnel.address)
            media.sendto(b"garbage", first.tunnel.address)
            await until(lambda: first.counters()["tunnel.malformed"] == 1)
            assert first.counters()["tunnel.no_route"] == 1
        second = agent("b", first.tunnel.address)
        with pytest.raises(AgentError, match="cannot open the tunnel"):
            await second.start()
        await second.stop()
    finally:
        await first.stop()
    assert not (tmp_path / "a" / "tunnel.sock").exists()
