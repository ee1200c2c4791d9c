"""Whole agents on loopback with real UDP, against a small control plane in the same process."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from probes.agent import AgentConfig, AgentError, ProbeAgent
from probes.once import Place, measure
from probes.wire import PlanPeer, ProbePlan, ProbeReport, ReactionPlan, decode_report, encode

INTERVAL_US = 20_000
TIMEOUT_US = 150_000


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


class ControlPlane:
    """Join, plan and reports of the contract, kept in memory; everybody probes everybody who has joined."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.reports: list[ProbeReport] = []
        self.calls: list[str] = []
        self.version = 0
        self.down = False
        self.answer_with: httpx.Response | None = None
        self.used_tokens: set[str] = set()
        self.absent: list[PlanPeer] = []
        self.routes: dict[str, ReactionPlan] = {}
        self.acks: list[tuple[str, dict[str, Any]]] = []

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        if self.down:
            raise httpx.ConnectError("connection refused", request=request)
        if self.answer_with is not None:
            return self.answer_with
        if request.url.path == "/v1/join":
            return self.join(json.loads(request.content))
        node = request.headers["authorization"].removeprefix("Bearer key-of-")
        if request.url.path == "/v1/reports":
            report = decode_report(json.loads(request.content))
            assert report.node == node
            self.reports.append(report)
            return httpx.Response(200, json={"plan_version": self.version})
        if request.url.path == f"/v1/nodes/{node}/reaction-plan":
            return self.reaction_plan(request, node)
        if request.url.path == f"/v1/nodes/{node}/ack":
            self.acks.append((node, json.loads(request.content)))
            return httpx.Response(200, json={"plan_version": self.version})
        assert request.url.path == f"/v1/nodes/{node}/plan"
        return httpx.Response(200, json=encode(self.plan(node)))

    def join(self, body: dict[str, Any]) -> httpx.Response:
        if body["token"] in self.used_tokens:
            return httpx.Response(409, json={"code": "token_used", "detail": "a join token works once"})
        self.used_tokens.add(body["token"])
        node = body["node"]["id"]
        self.nodes[node] = body["node"]
        self.version += 1
        plan = encode(self.plan(node))
        return httpx.Response(
            200, json={"node": node, "data_center": f"dc-{node}", "key": f"key-of-{node}", "plan": plan}
        )

    def reaction_plan(self, request: httpx.Request, node: str) -> httpx.Response:
        plan = self.routes.get(node)
        if plan is None:
            return httpx.Response(404, json={"code": "unknown_node", "detail": "no routes yet"})
        etag = f'"{plan.generation}-{plan.plan_version}"'
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers={"etag": etag})
        return httpx.Response(200, json=encode(plan), headers={"etag": etag})

    def plan(self, node: str) -> ProbePlan:
        peers = [
            PlanPeer(name, f"dc-{name}", "internet", record["addresses"]["internet"], record["reflector_port"],
                     record["relay_port"], INTERVAL_US)
            for name, record in self.nodes.items() if name != node
        ]  # fmt: skip
        everybody = (*peers, *self.absent)
        return ProbePlan(node, f"dc-{node}", self.version, 0, 3_600_000_000, 100_000, TIMEOUT_US, everybody)

    def rows(self, node: str, peer: str) -> list[dict[str, Any]]:
        """Everything reported about one pair, as one mapping per row."""
        found = []
        for report in self.reports:
            if report.node == node and peer in report.rows.peer:
                i = report.rows.peer.index(peer)
                found.append({name: getattr(report.rows, name)[i] for name in report.rows.__slots__})
        return found

    def total(self, node: str, peer: str, column: str) -> int:
        return sum(row[column] for row in self.rows(node, peer))


OFFSETS = {"a": 500_000, "b": -500_000, "c": 0}
HOSTS = {"a": "127.0.21.1", "b": "127.0.21.2", "c": "127.0.21.3"}


def config(name: str, path: Path, **changes: Any) -> AgentConfig:
    values: dict[str, Any] = {
        "node": name, "control_url": "http://control", "state_dir": path / name, "bind_host": HOSTS[name],
        "probe_port": 0, "reflector_port": 0, "relay_port": 0, "join_token": f"token-{name}",
        "clock_offset_us": OFFSETS[name], "clock_skew_ppm": 20, "relay_open": True,
    }  # fmt: skip
    return AgentConfig(**{**values, **changes})


@asynccontextmanager
async def running(*agents: ProbeAgent) -> AsyncIterator[None]:
    try:
        for agent in agents:
            await agent.start()
        yield
    finally:
        for agent in agents:
            await agent.stop()


@asynccontextmanager
async def world(path: Path, names: str = "abc") -> AsyncIterator[tuple[ControlPlane, list[ProbeAgent]]]:
    control = ControlPlane()
    async with control.client() as client:
        agents = [ProbeAgent(config(name, path), client, Random(name)) for name in names]
        async with running(*agents):
            yield control, agents


async def test_round_trips_are_small_and_offsets_show_one_way(tmp_path: Path) -> None:
    async with world(tmp_path) as (control, _):
        pairs = [(x, y) for x in "abc" for y in "abc" if x != y]
        await until(lambda: all(control.total(x, y, "received") >= 20 for x, y in pairs))
        for x, y in pairs:
            answered = [row for row in control.rows(x, y) if row["received"]]
            rtt = min(row["rtt_min_us"] for row in answered)
            forward = min(row["forward_min_us"] for row in answered)
            backward = min(row["backward_min_us"] for row in answered)
            assert 0 <= rtt < 50_000
            assert 0 <= rtt - forward - backward < 50_000  # minima of different probes: their sum is at most the RTT
            assert forward == pytest.approx(OFFSETS[y] - OFFSETS[x], abs=50_000)
            assert backward == pytest.approx(OFFSETS[x] - OFFSETS[y], abs=50_000)
            assert {row["forward_base_us"] for row in answered} == {answered[0]["forward_base_us"]}
            assert control.total(x, y, "reflected") > 0


async def test_a_peer_without_reflector_is_lost_within_the_timeout(tmp_path: Path) -> None:
    control = ControlPlane()
    control.absent.append(PlanPeer("ghost", "dc-ghost", "internet", "127.0.21.9", 9, 0, INTERVAL_US))
    async with control.client() as client:
        agent = ProbeAgent(config("a", tmp_path), client)
        async with running(agent):
            await until(lambda: control.total("a", "ghost", "sent") >= 10)
            assert control.total("a", "ghost", "received") == 0
            at_most_open = (TIMEOUT_US + 30_000_000) // INTERVAL_US  # generous: a machine that stalls
            assert agent.prober.open <= at_most_open
            assert all(row["rtt_min_us"] == -1 and row["rtt_sketch"] == () for row in control.rows("a", "ghost"))


async def test_identity_and_plan_survive_a_restart_without_a_control_plane(tmp_path: Path) -> None:
    control = ControlPlane()
    async with control.client() as client:
        a, b = (ProbeAgent(config(name, tmp_path), client) for name in "ab")
        async with running(a, b):
            await until(lambda: a.plan is not None and b.plan is not None and len(a.plan.peers) == len(b.plan.peers))
            reflector_port = b.prober.reflector.address[1]
            assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
            for name in ("identity.json", "plan.json"):
                assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o600
        control.down = True
        reports, control.calls = len(control.reports), []
        a2 = ProbeAgent(config("a", tmp_path), client)
        b2 = ProbeAgent(config("b", tmp_path, reflector_port=reflector_port), client)
        async with running(b2, a2):
            assert a2.plan == a.plan
            await until(lambda: b2.counters()["reflector.reflected"] >= 10)  # probing goes on
            assert "POST /v1/join" not in control.calls  # the token is known to be used
            control.down = False
            await until(lambda: len(control.reports) > reports)
            assert control.reports[-1].boot not in {report.boot for report in control.reports[:reports]}
            sequences = [report.sequence for report in control.reports[reports:] if report.node == "a"]
            assert sequences == sorted(set(sequences))


async def test_the_control_plane_may_go_and_come_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "probes.agent")
    async with world(tmp_path, "ab") as (control, (a, b)):
        await until(lambda: control.total("a", "b", "received") > 5)
        control.down = True
        await until(lambda: a.counters()["reports_failed"] >= 2 and a.counters()["reports_dropped"] >= 1)
        reflected = b.counters()["reflector.reflected"]
        await until(lambda: b.counters()["reflector.reflected"] > reflected + 10)
        control.down = False
        reports = len(control.reports)
        await until(lambda: {report.node for report in control.reports[reports:]} == {"a", "b"})
        await until(lambda: "a: the control plane is back" in caplog.text)
        assert caplog.text.count("a: report failed") == 1  # once, not once per try
        # what is reported after the gap is about the last moments, not about the whole gap
        first = next(report for report in control.reports[reports:] if report.node == "a")
        assert first.interval_us < 5_000_000


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"code": "key_revoked", "detail": "this key was revoked"}),
        httpx.Response(404, json={"code": "unknown_node"}),
        httpx.Response(500, text="oops"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["nonsense"]),
        httpx.Response(200, json={"plan_version": "seven"}),
    ],
    ids=["401", "404", "500", "html", "list", "text"],
)
async def test_no_answer_of_the_control_plane_stops_the_probing(tmp_path: Path, answer: httpx.Response) -> None:
    async with world(tmp_path, "ab") as (control, (a, b)):
        await until(lambda: control.total("a", "b", "received") > 0 and control.total("b", "a", "received") > 0)
        control.answer_with = answer
        await until(lambda: a.counters()["reports_failed"] >= 1)
        reflected = b.counters()["reflector.reflected"]
        await until(lambda: b.counters()["reflector.reflected"] > reflected + 5)
        control.answer_with = None
        reports = len(control.reports)
        await until(lambda: any(report.node == "a" for report in control.reports[reports:]))


async def test_a_new_plan_is_fetched_when_a_report_names_one(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as (control, (a, _)):
        await until(lambda: a.plan is not None and len(a.plan.peers) == 1)
        control.absent.append(PlanPeer("ghost", "dc-ghost", "internet", "localhost", 9, 0, INTERVAL_US))
        control.version += 1
        await until(lambda: control.total("a", "ghost", "sent") > 0)
        assert a.plan is not None
        assert a.plan.plan_version == control.version
        assert json.loads((tmp_path / "a" / "plan.json").read_text())["plan_version"] == control.version
        assert control.total("a", "b", "sent") > 0


async def test_a_name_that_does_not_resolve_leaves_the_others_probed(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as (control, (a, _)):
        control.absent.append(PlanPeer("ghost", "dc-ghost", "internet", "no-such-host.invalid", 9, 0, INTERVAL_US))
        control.version += 1
        await until(lambda: a.prober.unresolved == ("no-such-host.invalid",))
        received = control.total("a", "b", "received")
        await until(lambda: control.total("a", "b", "received") > received)


async def test_an_excessive_plan_is_slowed_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = ControlPlane()
    control.absent = [PlanPeer(f"ghost-{i}", "dc", "internet", "127.0.21.9", 9, 0, 1_000) for i in range(40)]
    async with control.client() as client, running(ProbeAgent(config("a", tmp_path), client)):
        await until(lambda: "the plan asks for 40000 probes/s" in caplog.text)
        await until(lambda: control.reports)
        sent = sum(sum(report.rows.sent) for report in control.reports)
        span_us = sum(report.interval_us for report in control.reports)
        assert sent <= 2_000 * (span_us / 1e6 + 1)


async def test_a_used_token_ends_an_agent_that_has_no_identity(tmp_path: Path) -> None:
    control = ControlPlane()
    control.used_tokens.add("token-a")
    async with control.client() as client:
        agent = ProbeAgent(config("a", tmp_path), client)
        async with running(agent):
            with pytest.raises(AgentError, match="token_used"):
                await asyncio.wait_for(agent.wait(), 30)


async def test_joining_waits_for_a_control_plane_that_is_not_there_yet(tmp_path: Path) -> None:
    control = ControlPlane()
    control.down = True
    async with control.client() as client:
        agent = ProbeAgent(config("a", tmp_path), client)
        async with running(agent):
            await until(lambda: control.calls.count("POST /v1/join") >= 2)
            control.down = False
            await until(lambda: agent.identity is not None)


async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    control = ControlPlane()
    async with control.client() as client:
        with pytest.raises(AgentError, match="no join token"):
            await ProbeAgent(config("a", tmp_path, join_token=None), client).start()
        with pytest.raises(AgentError, match=r"cannot listen on 203\.0\.113\.1"):
            await ProbeAgent(config("a", tmp_path, bind_host="203.0.113.1"), client).start()
        (tmp_path / "a" / "identity.json").write_text("{}")
        with pytest.raises(AgentError, match="remove it and join"):
            await ProbeAgent(config("a", tmp_path), client).start()
        (tmp_path / "a" / "identity.json").write_text(
            json.dumps({"node": "b", "data_center": "d", "key": "k", "token_digest": ""})
        )
        with pytest.raises(AgentError, match="belongs to node b"):
            await ProbeAgent(config("a", tmp_path), client).start()


async def test_a_damaged_plan_on_disk_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "plan.json").write_text('{"version": 1')
    async with world(tmp_path, "a") as (_, (a,)):
        await until(lambda: a.plan is not None)
        assert json.loads((tmp_path / "a" / "plan.json").read_text())["node"] == "a"


async def test_relay_path_is_measured_end_to_end(tmp_path: Path) -> None:
    """From A over B to C and back, with plain STAMP at C; and every relay on the way has forwarded both directions."""
    async with world(tmp_path) as (_, agents):
        await until(lambda: all(agent.plan is not None and len(agent.plan.peers) == 2 for agent in agents))
        places = {}
        for agent in agents:
            relay = agent.prober.relay
            assert relay is not None
            name = agent.config.node
            reflector_port = agent.prober.reflector.address[1]
            places[name] = Place(name, f"dc-{name}", HOSTS[name], reflector_port, relay.address[1])
        a, b, c = (places[name] for name in "abc")
        results = await measure((HOSTS["a"], 0), [(c, ()), (c, (b,)), (c, (a, b))], count=10, interval_s=0.03)
        for result, via in zip(results, ((), ("b",), ("a", "b")), strict=True):
            assert result.via == via
            assert (result.sent, result.received, result.loss_pct) == (10, 10, 0.0)
            assert result.rtt_min_us is not None
            assert 0 <= result.rtt_min_us < 100_000
        counts = {agent.config.node: agent.counters() for agent in agents}
        assert counts["c"]["relay.delivered"] == 20
        assert counts["b"]["relay.forwarded"] == 40  # two paths, there and back
        assert counts["a"]["relay.forwarded"] == 20


async def test_a_relay_forwards_for_nobody_outside_its_plan(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, agents):
        await until(lambda: all(agent.plan is not None and len(agent.plan.peers) == 2 for agent in agents))
        relay = agents[1].prober.relay
        assert relay is not None
        b = Place("b", "dc-b", HOSTS["b"], agents[1].prober.reflector.address[1], relay.address[1])
        results = await measure(("127.0.21.77", 0), [(b, ()), (b, (b,))], count=3, interval_s=0.03, timeout_s=0.3)
        assert [result.received for result in results] == [3, 0]
        assert agents[1].counters()["relay.not_allowed"] == 3


class StandIns(asyncio.DatagramProtocol):
    """A WAN without delay: what a node sends to another's stand-in address arrives from its own stand-in address."""

    ports: dict[tuple[str, int], asyncio.DatagramTransport]

    def __init__(self, ports: dict[tuple[str, int], asyncio.DatagramTransport], node: str, port: int) -> None:
        self.ports, self.node, self.port = ports, node, port

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        sender = next(name for name, host in HOSTS.items() if host == addr[0])
        self.ports[sender, addr[1]].sendto(data, (HOSTS[self.node], self.port))


async def test_relays_work_where_nodes_know_each_other_by_addresses_they_do_not_have(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    once_port = 1
    async with world(tmp_path) as (control, agents):
        stand_in = {name: HOSTS[name].replace("127.0.21", "127.0.22") for name in HOSTS}
        ports: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        for agent in agents:
            name, prober = agent.config.node, agent.prober
            relay = prober.relay
            assert relay is not None
            free = 0 if name == "a" else None
            for port in (prober.sender.address[1], prober.reflector.address[1], relay.address[1], free):
                if port is not None:
                    transport, _ = await loop.create_datagram_endpoint(
                        lambda n=name, p=port: StandIns(ports, n, p),  # type: ignore[misc]
                        local_addr=(stand_in[name], port),
                    )
                    bound = transport.get_extra_info("sockname")[1]
                    transport.get_protocol().port = bound
                    ports[name, bound] = transport
                    once_port = bound
            if name == "a":
                measured_from = (HOSTS["a"], once_port)
        try:
            await until(lambda: len(control.nodes) == 3)
            for name, host in stand_in.items():
                control.nodes[name]["addresses"] = {"internet": host}
            control.version += 1
            await until(
                lambda: all(agent.plan is not None and agent.plan.plan_version == control.version for agent in agents)
            )
            control.reports.clear()
            await until(lambda: control.total("a", "b", "received") > 5 and control.total("b", "a", "reflected") > 5)
            places = {
                name: Place(name, f"dc-{name}", stand_in[name], node["reflector_port"], node["relay_port"])
                for name, node in control.nodes.items()
            }
            paths = [(places["c"], ()), (places["c"], (places["b"],))]
            direct, relayed = await measure(measured_from, paths, count=5, interval_s=0.03)
            assert (direct.received, relayed.received) == (5, 5)
            assert agents[1].counters()["relay.forwarded"] == 10
        finally:
            for transport in ports.values():
                transport.close()
