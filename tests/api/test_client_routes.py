"""The routes that a media server holds: filled by watch, right after a kill and restart, honest about age."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from router.client import AsyncRoutes, Routes, RouteTable, ServerEvent
from router.client.table import SILENT_S
from tests.api.conftest import ADMIN_KEY, PLACES, World, fleet, listening, node_body, report_of

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "use-routes-from-a-media-server.md"


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    for _ in range(3_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


async def test_a_table_is_held_and_follows_changes(world: World) -> None:
    async with listening(world.app) as url, AsyncRoutes(url, "linode-fra", key=ADMIN_KEY) as routes:
        route = routes.route("oracle-iad")
        assert route is not None and route.forward is not None
        assert route.forward.path == ("linode-fra", "gcp-ams", "oracle-iad")
        assert route.backups_forward and route.backups_forward[0].protects
        assert routes.find(("oracle-iad", "voice")) is route and routes.route("nowhere") is None
        assert not routes.stale(route) and routes.age_ms(route) >= 0 and routes.troubles == {}
        assert [row.target for row in routes.table.routes()] == [name for name in PLACES if name != "linode-fra"]
        await world.call("DELETE", "/v1/nodes/oracle-sin-1")
        await world.call("DELETE", "/v1/data-centers/oracle-sin")
        await until(lambda: routes.route("oracle-sin") is None, "a data center that is gone stays in the table")


async def test_a_dead_address_is_passed_over_and_a_refusal_is_told(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with listening(world.app) as url:
        async with AsyncRoutes([dead, url], "linode-fra", key=ADMIN_KEY, classes=("voice", "agent")) as routes:
            await until(lambda: len(routes.table) == 2 * (len(PLACES) - 1), "no table by the second address")
        nobody = AsyncRoutes(url, "linode-fra")
        assert await nobody.start(wait_s=0.0) is False
        await until(lambda: "key" in nobody.troubles["voice"], "a refusal is not told")
        assert nobody.route("oracle-iad") is None
        await nobody.close()


def test_ages_count_from_the_last_word_and_silence_is_stale() -> None:
    table = RouteTable("a")
    way = {"path": ["a", "b"], "transports": ["internet"], "delay_ms": 1.5, "loss_pct": None}
    row = {"from": "a", "to": "b", "class": "voice", "generation": 7, "stale": False, "age_ms": 40.0}
    table.take(
        "voice", ServerEvent("table", {"generation": 7, "routes": [row | {"forward": way, "return": None}]}), 100.0
    )
    route = table.route("b")
    assert route is not None and route.back is None and route.forward is not None
    assert table.age_ms(route, 100.5) == pytest.approx(540.0)
    assert not table.stale(route, 100.0 + SILENT_S) and table.stale(route, 100.1 + SILENT_S)
    table.heard("voice", 110.0)
    assert not table.stale(route, 100.1 + SILENT_S)
    told = row | {"stale": True, "forward": None, "return": None}
    table.take("voice", ServerEvent("delta", {"generation": 8, "routes": [told], "gone": ["c"]}), 111.0)
    newer = table.route("b")
    assert newer is not None and table.stale(newer, 111.0) and table.generations == {"voice": 8}
    table.take("voice", ServerEvent("table", {"routes": []}), 112.0)  # as a probe agent tells it
    assert table.route("b") is None and len(table) == 0


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A control plane in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TENDRIL_")}
    env |= {"TENDRIL_STATE_DIR": str(folder), "TENDRIL_PORT": str(port), "TENDRIL_ADMIN_KEY": ADMIN_KEY}
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "router", "serve"]
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


async def answering(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a control plane is ready."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(3_000):
            assert process.poll() is None, "the control plane ended"
            try:
                if (await http.get(f"{url}/readyz")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)
    raise AssertionError("not ready")


async def measure(url: str) -> None:
    """Furnish a control plane and report until it knows a relayed route."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
        (await http.post("/v1/fleet", json=fleet())).raise_for_status()
        keys = {}
        for name in PLACES:
            token = (await http.post(f"/v1/data-centers/{name}/join-tokens", json={"expires_in_s": 60})).json()["token"]
            joined = await http.post("/v1/join", json={"token": token, "node": node_body(f"{name}-1")})
            keys[name] = joined.raise_for_status().json()["key"]
        for sequence in range(1, 400):
            for name in PLACES:
                bearer = {"Authorization": f"Bearer {keys[name]}"}
                body = report_of(name, sequence, 1_700_000_000_000_000 + sequence)
                (await http.post("/v1/reports", json=body, headers=bearer)).raise_for_status()
            route = (await http.get("/v1/routes/linode-fra/oracle-iad")).json()
            if route["forward"] and len(route["forward"]["path"]) == 3 and route["return"]:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("never measured")


async def test_it_survives_a_killed_control_plane_and_the_example_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    process = serve(tmp_path, port)
    try:
        await answering(url, process)
        await measure(url)
        routes = Routes(url, "linode-fra", key=ADMIN_KEY)
        assert await asyncio.to_thread(routes.start, 30.0)
        await until(lambda: (r := routes.route("oracle-iad")) is not None and r.forward is not None, "no route")
        assert "send along ('linode-fra'" in await asyncio.to_thread(example, url)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await until(lambda: bool(routes.troubles), "the broken stream is not told")
        kept = routes.route("oracle-iad")
        assert kept is not None and kept.forward is not None
        process = serve(tmp_path, port)
        await answering(url, process)
        await until(lambda: not routes.troubles, "the stream is not taken up again")
        assert routes.route("oracle-iad") is not None
        routes.close()
    finally:
        process.kill()
        process.wait()


def example(url: str) -> str:
    """Run the example of the documentation against a control plane; what it prints."""
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    code = found[1].replace("http://10.0.0.1:7400", url).replace("http://10.0.0.2:7400", url)
    assert url in code
    run = subprocess.run(
        [sys.executable, "-c", f"KEY = {ADMIN_KEY!r}\n{code}"], capture_output=True, text=True, check=True
    )
    return run.stdout
