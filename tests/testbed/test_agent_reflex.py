"""Whole agents that fail over by themselves: real packets through real relays, with the controller frozen or insane."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from probes.agent import ProbeAgent
from probes.detect import Verdict
from probes.keys import derive
from probes.wire import PlanPeer, ReactionHops, ReactionPlan, ReactionRows, Triggers, encode
from tests.testbed.test_agent_loopback import HOSTS, ControlPlane, config, running, until

CENTERS = ("dc-a", "dc-b", "dc-c")
TRIGGERS = Triggers(20_000, 1, 5, 5_000, 6, 5, 200_000)


def plan_of_a(agents: list[ProbeAgent], generation: int = 1, **changes: Any) -> ReactionPlan:
    """From a to c: through b, or straight."""
    relays = [agent.prober.relay for agent in agents[1:]]
    ports = tuple(relay.address[1] for relay in relays if relay is not None)
    reflectors = tuple(agent.prober.reflector.address[1] for agent in agents[1:])
    values: dict[str, Any] = {
        "node": "a", "data_center": "dc-a", "generation": generation, "plan_version": 1, "computed_at_us": 1_000_000,
        "issued_at_us": 1_000_000, "degraded_at_us": 16_000_000, "triggers": TRIGGERS, "contexts": ("voice",),
        "tables": (0,), "data_centers": CENTERS,
        "hops": ReactionHops((1, 2), ("internet",) * 2, (HOSTS["b"], HOSTS["c"]), ports, ("b", "c"), reflectors),
        "paths": ((0, 1), (1,)), "rows": ReactionRows((0,), (2,), ((0, 1),), ("p",), (300_000,)),
    }  # fmt: skip
    return ReactionPlan(**{**values, **changes})


@asynccontextmanager
async def world(path: Path) -> AsyncIterator[tuple[ControlPlane, list[ProbeAgent]]]:
    """Nodes a, b and c that know each other; a has the way to c through b."""
    control = ControlPlane()
    async with control.client() as client:
        agents = [ProbeAgent(config(name, path), client, Random(name)) for name in "abc"]
        async with running(*agents):
            await until(lambda: all(agent.plan is not None and len(agent.plan.peers) == 2 for agent in agents))
            control.routes["a"] = plan_of_a(agents)
            await until(lambda: agents[0].reflex.plan is not None)
            yield control, agents


def path_of(agent: ProbeAgent) -> tuple[str, ...]:
    way = agent.way("voice", "dc-c")
    return () if way.primary is None else way.primary.path


async def until_probed(agent: ProbeAgent) -> None:
    """Until the path in force to c has answered probes end to end."""

    def answered() -> bool:
        way = agent.way("voice", "dc-c")
        watch = agent.prober.evidence.path(way.paths()[0])
        return watch is not None and watch.answers >= 10 and way.state is Verdict.UP

    await until(answered)


async def test_routes_are_fetched_acknowledged_kept_and_probed_end_to_end(tmp_path: Path) -> None:
    async with world(tmp_path) as (control, agents):
        a, b, c = agents
        assert path_of(a) == CENTERS
        await until_probed(a)
        assert b.prober.relay is not None and b.prober.relay.counters["forwarded"] >= 20
        assert c.prober.relay is not None and c.prober.relay.counters["delivered"] >= 10
        await until(lambda: any(ack.get("generation") == 1 for node, ack in control.acks if node == "a"))
        ack = next(ack for node, ack in control.acks if node == "a" and ack.get("generation"))
        assert ack["reaction_etag"] == '"1-1"'
        await until(lambda: (tmp_path / "a" / "reaction-plan.json").exists())
        assert control.acks[0][1]["plan_version"] >= 1


async def test_a_dead_relay_is_left_while_the_controller_is_frozen_and_told_of_later(tmp_path: Path) -> None:
    async with world(tmp_path) as (control, agents):
        a, b, _ = agents
        path_of(a)
        await until_probed(a)
        control.down = True
        await b.stop()
        await until(lambda: path_of(a) == ("dc-a", "dc-c"))
        assert a.way("voice", "dc-c").place == 1
        await until_probed(a)
        control.reports.clear()
        control.down = False
        await until(lambda: any(report.reflexes for report in control.reports if report.node == "a"))
        told = next(report.reflexes for report in control.reports if report.reflexes)
        assert (told[0].from_path, told[0].to_path) == (CENTERS, ("dc-a", "dc-c"))
        assert told[0].context == "voice" and told[0].cause
        await until(lambda: any(2 in report.rows.state for report in control.reports if report.node == "a"))
        reports = len(control.reports)
        await until(lambda: len([r for r in control.reports[reports:] if r.node == "a"]) >= 3)
        assert not control.reports[-1].reflexes  # told once


async def test_a_restart_with_every_controller_dead_routes_by_the_plan_on_disk(tmp_path: Path) -> None:
    async with world(tmp_path) as (control, agents):
        a, b, _ = agents
        await until(lambda: (tmp_path / "a" / "reaction-plan.json").exists())
        await a.stop()
        control.down = True
        async with control.client() as client:
            again = ProbeAgent(replace(config("a", tmp_path), join_token=None), client, Random(1))
            async with running(again):
                assert again.reactions.source == "disk"
                assert path_of(again) == CENTERS
                await until_probed(again)
                await b.stop()
                await until(lambda: path_of(again) == ("dc-a", "dc-c"))


async def test_plans_that_are_garbage_older_or_anothers_change_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as (control, agents):
        a = agents[0]
        good = encode(plan_of_a(agents, generation=9))
        answers = [
            httpx.Response(200, text="<html>"),
            httpx.Response(200, json=[]),
            httpx.Response(200, json={"version": 1}),
            httpx.Response(200, json=good | {"paths": [[0, 77]]}),
            httpx.Response(200, json=good | {"node": "b"}),
            httpx.Response(200, json=good | {"generation": 0}),
            httpx.Response(500, json={}),
        ]
        served = 0
        ordinary = control.reaction_plan

        def insane(request: httpx.Request, node: str) -> httpx.Response:
            nonlocal served
            if node != "a":
                return ordinary(request, node)
            served += 1
            return answers[(served - 1) % len(answers)]

        control.reaction_plan = insane  # type: ignore[method-assign]
        a.reactions._backoff._first_s = a.reactions._backoff._last_s = 0.01
        await until(lambda: served > len(answers))
        assert a.reflex.plan is not None and a.reflex.plan.generation == 1 and path_of(a) == CENTERS
        control.reaction_plan = ordinary  # type: ignore[method-assign]
        control.routes["a"] = plan_of_a(agents, generation=10)
        await until(lambda: a.reflex.plan is not None and a.reflex.plan.generation == 10)


async def test_a_full_disk_costs_the_copies_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path) as (control, agents):
        a = agents[0]
        await until(lambda: (tmp_path / "a" / "reaction-plan.json").exists())
        for name in ("plan.json", "reaction-plan.json"):
            (tmp_path / "a" / f".{name}.new").symlink_to("/dev/full")
        newer = plan_of_a(agents, generation=2, rows=ReactionRows((0,), (2,), ((1, 0),), ("p",), (300_000,)))
        control.routes["a"] = newer
        control.version += 1
        await until(lambda: a.reactions.counters["disk_errors"] and path_of(a) == ("dc-a", "dc-c"))
        await until(lambda: a.plan is not None and a.plan.plan_version == control.version)
        await until(lambda: "the plan cannot be kept on disk" in caplog.text)
        kept = json.loads((tmp_path / "a" / "reaction-plan.json").read_text())
        assert kept["plan"]["generation"] == 1  # the old copy is whole
        control.reports.clear()
        await until(lambda: control.total("a", "c", "received") >= 5)


async def test_two_thousand_peers_are_probed_judged_and_reported(tmp_path: Path) -> None:
    control = ControlPlane()
    async with control.client() as client:
        agents = [ProbeAgent(config(name, tmp_path), client, Random(name)) for name in "ab"]
        async with running(*agents):
            await until(lambda: all(agent.plan is not None and agent.plan.peers for agent in agents))
            a, b = agents
            reflector = b.prober.reflector.address
            many = [PlanPeer(f"p{i}", f"dc-{i}", "internet", *reflector, 0, 2_000_000) for i in range(2_000)]
            assert a.plan is not None
            plan = replace(a.plan, peers=tuple(many), timeout_us=5_000_000)
            await a.prober.follow(plan)
            watches = a.prober.evidence.peers()
            assert len(watches) == 2_000
            await until(lambda: all(watch.answers for watch in watches.values()), 60.0)
            sent = [report.rows for report in control.reports if report.node == "a"]
            assert all(len(rows.state) == len(rows) for rows in sent)
            await until(lambda: len({p for r in control.reports if r.node == "a" for p in r.rows.peer}) >= 2_000)


async def test_probes_between_nodes_with_keys_are_authenticated_and_paths_are_sealed(tmp_path: Path) -> None:
    own = {name: name.encode().hex() * 32 for name in "abc"}

    class WithKeys(ControlPlane):
        def plan(self, node: str) -> Any:
            plan = super().plan(node)
            key_id = "abc".index(node) + 1
            peers = tuple(
                replace(peer, key_id=key_id, key=derive(bytes.fromhex(own[peer.node]), key_id).hex())
                for peer in plan.peers
            )
            return replace(plan, peers=peers, own_key=own[node])

    control = WithKeys()
    async with control.client() as client:
        agents = [ProbeAgent(replace(config(name, tmp_path), relay_open=False), client, Random(name)) for name in "abc"]
        async with running(*agents):
            await until(lambda: all(agent.plan is not None and len(agent.plan.peers) == 2 for agent in agents))
            control.routes["a"] = plan_of_a(agents)
            await until(lambda: control.total("a", "b", "received") >= 5 and control.total("b", "a", "reflected") >= 5)
            assert all(target.key is not None for target in agents[0].prober._targets.values())
            await until(lambda: agents[0].reflex.plan is not None)
            path_of(agents[0])
            await until_probed(agents[0])
