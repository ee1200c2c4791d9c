"""What an agent keeps over a restart, fetches again, and tells about vantage targets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest

from probes.agent import AgentConfig, ProbeAgent
from probes.budget import MonthState
from probes.cli import main
from probes.state import Identity, StateDir
from probes.uplink import Unreachable
from probes.vantage.errand import VantageErrand
from probes.wire import Budget, PlanVantage, ProbePlan, encode

PLAN = ProbePlan("n1", "home", 7, 0, 0, 100_000, 1_000_000, (), budget=Budget(100, 20_000, 5_000_000, 0))


class AtOnce(Random):
    """No phase, no jitter."""

    def random(self) -> float:
        return 0.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def agent(folder: Path, answer: Callable[[httpx.Request], httpx.Response]) -> AsyncIterator[ProbeAgent]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        config = AgentConfig(
            "n1", "http://control.test", folder, "127.0.0.1", probe_port=0, reflector_port=0, local_api=None
        )
        running = ProbeAgent(config, client)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()


def state(folder: Path, plan: ProbePlan | None = PLAN) -> StateDir:
    found = StateDir(folder)
    found.save_identity(Identity("n1", "home", "secret"))
    if plan is not None:
        found.save_plan(plan)
    return found


def silent(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody there")


async def test_the_months_bytes_survive_a_restart(tmp_path: Path) -> None:
    kept = state(tmp_path)
    async with agent(tmp_path, silent) as running:
        month = running.prober.allowance.state().month
        assert running.prober.allowance.take(1 << 62, 1_234)
    assert kept.load_month() == MonthState(month, 1_234)
    async with agent(tmp_path, silent) as running:
        assert running.prober.budget_json()["month_sent_bytes"] == 1_234
        assert not running.prober.allowance.take(1 << 62, 5_000_000)


async def test_a_month_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with agent(tmp_path, silent) as running:
        monkeypatch.setattr(StateDir, "save_month", full)
        running._save_month(running.prober)
        running._save_month(running.prober)
        assert running.counters()["month_unsaved"] == 2
    assert caplog.text.count("cannot be kept on disk") == 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"month": 1}', '{"month": "x", "sent_bytes": 1}', '{"month": 1, "sent_bytes": -1}']
)
def test_a_damaged_month_counts_as_none(tmp_path: Path, text: str) -> None:
    kept = StateDir(tmp_path)
    (tmp_path / "month.json").write_text(text)
    assert kept.load_month() is None


@pytest.mark.parametrize(("own_key", "fetches"), [("", 1), ("ab" * 32, 0)])
async def test_a_saved_plan_without_keys_is_fetched_again_once(tmp_path: Path, own_key: str, fetches: int) -> None:
    state(tmp_path, replace(PLAN, own_key=own_key))
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/v1/reports":
            return httpx.Response(200, json={"plan_version": PLAN.plan_version})
        if request.url.path.endswith("/plan"):
            return httpx.Response(200, json=encode(PLAN))
        return httpx.Response(503, json={})

    async with agent(tmp_path, answer) as running:
        await until(lambda: running.counters()["reports_delivered"] >= 3)
    assert asked.count("/v1/nodes/n1/plan") == fetches


async def test_new_keys_are_fetched_when_the_old_ones_period_ends(tmp_path: Path) -> None:
    """Also those that lay on disk, nobody knows for how long."""
    state(tmp_path, replace(PLAN, own_key="ab" * 32, keys_for_us=3_600_000_000))
    given = [replace(PLAN, own_key=f"{i:064x}", keys_for_us=150_000 if i < 3 else 0) for i in range(1, 4)]
    fetched = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal fetched
        if request.url.path == "/v1/reports":
            return httpx.Response(200, json={"plan_version": PLAN.plan_version})
        if request.url.path.endswith("/plan"):
            fetched += 1
            return httpx.Response(200, json=encode(given[fetched - 1]))
        return httpx.Response(503, json={})

    async with agent(tmp_path, answer) as running:
        await until(lambda: running.plan == given[-1])
        delivered = running.counters()["reports_delivered"]
        await until(lambda: running.counters()["reports_delivered"] >= delivered + 2)
    assert fetched == 3


@pytest.mark.parametrize("reachable", [True, False])
async def test_what_vantage_targets_answer_is_told(reachable: bool) -> None:
    told: list[dict[str, object]] = []

    async def tell(rows: list[dict[str, object]]) -> None:
        if not reachable:
            raise Unreachable("nobody there")
        told.extend(rows)

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    errand = VantageErrand(tell, (Unreachable,), phase=AtOnce(), tell_every_s=0.01)
    target = PlanVantage("isp", "tcp", "127.0.0.1", port, 64_500, "DE", 60_000_000)
    errand.follow(replace(PLAN, vantage=(target,)))
    task = asyncio.create_task(errand.run())
    try:
        name = "rows_delivered" if reachable else "rows_dropped"
        await until(lambda: errand.counters()[name] == 1)
    finally:
        task.cancel()
        await asyncio.wait([task])
        server.close()
    assert [(row["client"], row["data_center"], row["source"]) for row in told] == (
        [({"asn": 64_500, "country": "DE"}, "home", "vantage")] if reachable else []
    )


async def test_the_plans_vantage_targets_are_the_agents(tmp_path: Path) -> None:
    target = PlanVantage("isp", "tcp", "127.0.0.1", 9, 64_500, "DE", 60_000_000)
    state(tmp_path, replace(PLAN, vantage=(target,)))
    async with agent(tmp_path, silent) as running:
        assert list(running.vantage.prober._targets.values()) == [target]


def test_an_opt_out_list_with_a_mistake_keeps_the_agent_from_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text("10.0.0.0/8\nnonsense\n")
    arguments = ["run", "--node", "n1", "--url", "http://control.test", "--bind", "127.0.0.1"]
    assert main([*arguments, "--state-dir", str(tmp_path / "s"), "--opt-out", str(tmp_path / "list")]) == 1
    assert "line 2 of the opt-out list" in capsys.readouterr().err
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == '["list"]'
