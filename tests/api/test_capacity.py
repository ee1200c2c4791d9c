"""Capacity over HTTP: plans in a dry run, and machines bought from a power service that is asked over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.fake.own import OwnCloud
from providers.fake.server import FakeCloud, Fault, Script, never
from tests.api.conftest import Json, World, fleet, node_body, running

TOKEN = "a-token-for-the-power-service"
POOL = {"id": "tutors", "class": "agent"}


def purchasing(*fakes: FakeCloud, agents: int = 2, terms: Json | None = None) -> Json:
    """Two racks of the same kind in two data centers of one region; the first is cheaper."""
    return {
        "deployment": "tests",
        "providers": {
            provider: {"adapter": "own", "settings": {"base_url": fake.url, "timeout_s": 5.0}}
            for provider, fake in zip(("gcp", "linode"), fakes, strict=False)
        },
        "offers": [
            {
                "provider": provider, "data_center": place, "cloud_region": "cellar", "size": "r1", "agents": agents,
                "max_machines": 4, "price_usd_per_hour": price,
            }
            for provider, place, price, _ in zip(
                ("gcp", "linode"), ("gcp-ams", "linode-fra"), (0.1, 0.3), fakes, strict=False
            )
        ],
        "terms": {"warm_at_least": 2, "max_share_of_provider_pct": 100, **(terms or {})},
        "bootstrap": {"control_url": "https://tendril.example"},
    }  # fmt: skip


@asynccontextmanager
async def buying(folder: Path, file: Json, also: Sequence[str] = (), **more: Any) -> AsyncIterator[World]:
    """The test world under a control plane with a purchasing file; nothing is measured.

    ``also``: providers with a data center in Amsterdam. They are there before anybody can be missing an agent, or the
    first purchase would depend on whether a count comes in between.
    """
    path = folder / "purchasing.yaml"
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    async with running(folder, capacity_file=path, **({"capacity_dry_run": False} | more)) as world:
        made = fleet()
        providers = sorted({one["id"] for one in made["providers"]} | set(also))
        there = [{"id": f"{name}-ams", "provider": name, "region": "amsterdam"} for name in also]
        await world.furnish(
            providers=[{"id": name} for name in providers], data_centers=[*made["data_centers"], *there]
        )
        yield world


async def counted(world: World, done: Callable[[Json], bool]) -> Json:
    """Let the control plane count until what it shows is so."""
    found: Json = {}
    for _ in range(200):
        await world.app.runtime.machines.count()
        found = await world.get("/v1/capacity")
        if done(found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come: {json.dumps(found)[:3000]}")


def states(found: Json) -> list[str]:
    return sorted(one["state"] for one in found["launches"])


def answer_lost(found: Json) -> bool:
    return any(one["state"] == "requested" and one["reason"].startswith("own: launch") for one in found["launches"])


async def planned(world: World, said: str) -> None:
    """Wait for the event that tells a plan; events are written beside the answers."""
    found: list[Json] = []
    for _ in range(200):
        found = (await world.get("/v1/events", params={"kind": "capacity.planned"}))["items"]
        if any(said in event["reason"] for event in found):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(found)


def env_of(cloud: OwnCloud, machine: str) -> dict[str, str]:
    """The environment that a machine's start-up script writes."""
    script = cloud.script(machine)
    assert script.startswith("#cloud-config\n")
    (file,) = [f for f in json.loads(script.split("\n", 1)[1])["write_files"] if f["path"].endswith("agent.env")]
    lines = base64.b64decode(file["content"]).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


async def join(world: World, env: dict[str, str]) -> None:
    """Do what a machine does that has started: join, and register its agents."""
    body = {"token": env["TENDRIL_JOIN_TOKEN"], "node": node_body(env["TENDRIL_NODE"])}
    await world.call("POST", "/v1/join", json=body, headers={"Authorization": ""})
    for k in range(int(env["TENDRIL_AGENTS"])):
        agent = {
            "id": f"{env['TENDRIL_NODE']}-{k}", "data_center": env["TENDRIL_DATA_CENTER"], "node": env["TENDRIL_NODE"],
            "address": "127.0.0.1:7424",
        }  # fmt: skip
        await world.post(f"/v1/pools/{env['TENDRIL_POOL']}/agents", agent)


async def test_a_dry_run_says_what_it_would_buy_and_why_and_buys_nothing(tmp_path: Path) -> None:
    near, far = OwnCloud(4, TOKEN), OwnCloud(4, TOKEN)
    with FakeCloud(near) as a, FakeCloud(far) as b:
        async with buying(tmp_path, purchasing(a, b), capacity_dry_run=True) as world:
            found = await counted(world, lambda one: len((one["items"][0]["plan"] or {}).get("machines", ())) == 2)
            assert near.machines() == far.machines() == ()
            assert found["launches"] == []
            assert found["buying"]["dry_run"] and found["buying"]["enabled"]
            pool = found["items"][0]
            assert {one["region"]: one["missing"] for one in pool["regions"]} == {"amsterdam": 2, "frankfurt": 2}
            assert pool["plan"]["machines"] == {"gcp/gcp-ams/r1": 1, "linode/linode-fra/r1": 1}
            assert pool["plan"]["by"] == "programme"
            (first, _) = pool["plan"]["purchases"]
            assert (first["agents"], first["usd_per_agent_hour"]) == (2, 0.05)
            assert first["rejected"][0]["rule"] == "unknown_delay"
            await planned(world, "would buy 1 x gcp/gcp-ams/r1, 1 x linode/linode-fra/r1 for 0.40 USD an hour")


async def test_without_a_purchasing_file_capacity_is_counted_and_nothing_else(world: World) -> None:
    await world.agent()
    found = await counted(world, lambda one: bool(one["items"][0]["regions"]))
    assert not found["buying"]["enabled"] and found["launches"] == []
    (region,) = found["items"][0]["regions"]
    assert (region["region"], region["idle"], region["buffer"], region["missing"]) == ("ashburn", 1, 2, 1)
    assert found["items"][0]["providers"][0]["provider"] == "oracle"


async def test_what_is_missing_is_bought_joins_serves_and_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(3, TOKEN)
    with FakeCloud(rack) as fake:
        async with buying(tmp_path, purchasing(fake)) as world:
            found = await counted(world, lambda one: states(one) == ["running"])
            (launch,) = found["launches"]
            assert launch["price_usd_per_hour"] == 0.1 and "0.0500 each" in launch["why"][0]
            (machine,) = rack.machines()
            assert launch["machine"] == machine
            env = env_of(rack, machine)
            assert env["TENDRIL_NODE"] == launch["node"] and env["TENDRIL_URL"] == "https://tendril.example"
            await join(world, env)
            # Its agents came cordoned; one of them is opened, and the other is on its way.
            found = await counted(world, is_open)
            (region,) = found["items"][0]["regions"]
            assert (region["coming"], region["missing"]) == (1, 0)
            await world.measured()
            taken = await world.session(client={"latitude": 52.4, "longitude": 4.9})
            assert taken["agent"]["id"].startswith(launch["node"])
            await world.call("POST", f"/v1/launches/{launch['id']}/vouch", headers=await world.key("operator"))
            found = await counted(world, lambda one: states(one) == ["serving"])
            assert found["buying"]["spent_usd_per_hour"] == 0.1
            (provider,) = found["items"][0]["providers"]
            assert (provider["provider"], provider["idle"], provider["busy"], provider["machines"]) == ("gcp", 1, 1, 1)
            # An operator gives it back: nobody new, and it goes with its last session.
            viewer = await world.key("viewer")
            await world.call("POST", f"/v1/launches/{launch['id']}/return", status=403, headers=viewer)
            await world.call("POST", f"/v1/launches/{launch['id']}/return")
            found = await counted(world, lambda one: "returning" in states(one))
            assert found["items"][0]["data_centers"][0]["cordoned"] == 2 and machine in rack.machines()
            await world.call("DELETE", f"/v1/sessions/{taken['id']}")
            found = await counted(world, lambda one: "gone" in states(one))
            assert machine not in rack.machines()
            await world.call("POST", "/v1/launches/l-none/return", status=404)
            assert (await world.get(f"/v1/launches/{launch['id']}"))["state"] == "gone"
            seen = (await world.get("/v1/events"))["items"]
            kinds = [event["kind"] for event in reversed(seen) if event["subject"] == launch["id"]]
            states_seen = "announced requested pending running joined canary serving returning terminating gone"
            assert kinds == [f"launch.{state}" for state in states_seen.split()]


def is_open(found: Json) -> bool:
    """Whether there is a canary, and one of its agents may take sessions."""
    canary = next((one["canary"] for one in found["launches"] if one["state"] == "canary"), None)
    places = found["items"][0]["regions"]
    return canary is not None and canary["open"] == 1 and [one["idle"] for one in places] == [1]


async def test_a_bought_machine_whose_users_are_lost_goes_back_and_its_offer_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(3, TOKEN)
    with FakeCloud(rack) as fake:
        async with buying(tmp_path, purchasing(fake)) as world:
            found = await counted(world, lambda one: states(one) == ["running"])
            (launch,), (machine,) = found["launches"], rack.machines()
            await join(world, env_of(rack, machine))
            await counted(world, is_open)
            await world.measured()
            for _ in range(3):
                await counted(world, is_open)
                taken = await world.session(client={"latitude": 52.4, "longitude": 4.9})
                for event in ("attached", "detached"):
                    beat = {"node": "gcp-ams-1", "epoch": 1, "changed": [{"id": taken["id"], "event": event}]}
                    headers = world.node_headers("gcp-ams-1")
                    await world.call("POST", "/v1/sessions/heartbeat", json=beat, headers=headers)
                await world.call("DELETE", f"/v1/sessions/{taken['id']}")
            found = await counted(world, lambda one: "gone" in states(one) and one["buying"]["offers"][0]["blocked"])
            assert machine not in rack.machines()
            ended = next(one for one in found["launches"] if one["id"] == launch["id"])
            assert ended["refusal"] == "bad_canary"
            seen = (await world.get("/v1/events", params={"kind": "launch.returning"}))["items"]
            assert "3 of 3 sessions dropped" in seen[0]["reason"]
            assert found["buying"]["offers"][0]["blocked"].startswith("bad_canary: refused 1 times")


async def test_without_a_canary_all_agents_take_sessions_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(3, TOKEN)
    with FakeCloud(rack) as fake:
        async with buying(tmp_path, purchasing(fake, terms={"canary": False})) as world:
            await counted(world, lambda one: states(one) == ["running"])
            await join(world, env_of(rack, rack.machines()[0]))
            found = await counted(world, lambda one: states(one) == ["serving"])
            assert found["items"][0]["idle"] == 2


async def test_a_provider_without_machines_is_answered_by_another_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    empty, rack = OwnCloud(0, TOKEN), OwnCloud(3, TOKEN)
    with FakeCloud(empty) as a, FakeCloud(rack) as b:
        file = purchasing(a, b)
        file["offers"][1]["data_center"] = "linode-ams"
        async with buying(tmp_path, file, also=["linode"]) as world:
            found = await counted(world, lambda one: states(one) == ["failed", "running"])
            running_one, failed = sorted(found["launches"], key=lambda one: one["state"], reverse=True)
            assert (failed["provider"], failed["refusal"]) == ("gcp", "out_of_capacity")
            assert running_one["provider"] == "linode"
            assert running_one["why"][-1].startswith(f"instead of {failed['id']} at gcp/gcp-ams/r1: out_of_capacity")
            (blocked, free) = found["buying"]["offers"]
            assert blocked["blocked"].startswith("out_of_capacity: refused 1 times") and free["blocked"] == ""
            metrics = (await world.http.get("/metrics")).text
            assert 'tendril_launch_refusals_total{kind="out_of_capacity",provider="gcp"} 1.0' in metrics


async def test_after_two_refusals_two_are_asked_at_once_and_one_machine_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    racks = [OwnCloud(machines, TOKEN) for machines in (0, 0, 3, 3)]
    with FakeCloud(racks[0]) as a, FakeCloud(racks[1]) as b, FakeCloud(racks[2]) as c, FakeCloud(racks[3]) as d:
        file = purchasing(a, b)
        names = ("gcp", "linode", "third", "last")
        for k, (name, fake) in enumerate(zip(names, (a, b, c, d), strict=True)):
            file["providers"][name] = file["providers"]["gcp"] | {"settings": {"base_url": fake.url, "timeout_s": 5.0}}
            more = {"provider": name, "data_center": f"{name}-ams", "price_usd_per_hour": 0.1 * (k + 1)}
            file["offers"][k:] = [file["offers"][0] | more]
        async with buying(tmp_path, file, also=names[1:]) as world:
            found = await counted(world, lambda one: states(one) == ["failed", "failed", "gone", "running"])
            of = {one["provider"]: one for one in found["launches"]}
            assert {of[name]["refusal"] for name in ("gcp", "linode")} == {"out_of_capacity"}
            assert "2 refusals in a row, so two are asked at once" in of["last"]["why"][-1]
            assert sum(len(rack.machines()) for rack in racks) == 1
            events = (await world.get("/v1/events", params={"kind": "launch.terminating"}))["items"]
            assert [event["reason"] for event in events] == ["it was asked beside another, which was faster"]


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.ERROR_AFTER_EFFECT])
async def test_a_lost_answer_makes_one_machine_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(3, TOKEN)
    with FakeCloud(rack, Script(fault)) as fake:
        async with buying(tmp_path, purchasing(fake)) as world:
            found = await counted(world, answer_lost)
            assert len(rack.machines()) == 1
            await world.app.runtime.machines.reap()
            found = await counted(world, lambda one: states(one) in (["pending"], ["running"]))
            assert found["launches"][0]["machine"] == rack.machines()[0]


async def test_a_restart_goes_on_from_the_row_and_buys_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(3, TOKEN)
    with FakeCloud(rack, Script(Fault.LOST_ANSWER)) as fake:
        file = purchasing(fake)
        async with buying(tmp_path, file) as world:
            first = await counted(world, answer_lost)
        async with running(tmp_path, capacity_file=tmp_path / "purchasing.yaml", capacity_dry_run=False) as world:
            found = await counted(world, lambda one: states(one) == ["running"])
            assert [one["id"] for one in found["launches"]] == [one["id"] for one in first["launches"]]
            assert found["launches"][0]["tries"] == 2
            assert len(rack.machines()) == 1


async def test_budgets_and_caps_are_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENDRIL_OWN_TOKEN", TOKEN)
    rack = OwnCloud(9, TOKEN)
    with FakeCloud(rack, never) as fake:
        file = purchasing(fake, terms={"warm_at_least": 7})
        async with buying(tmp_path, file, capacity_budget_usd_per_hour=0.25) as world:
            found = await counted(world, lambda one: states(one) == ["running"] * 2)
            assert len(rack.machines()) == 2
            plan = found["items"][0]["plan"]
            assert sum(plan["unmet"].values()) > 0
            await planned(world, "still missing")
