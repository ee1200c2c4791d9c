"""``kill -9`` between the commit and the delivery: every acknowledged event is told, by a process that starts later."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import httpx

from tests.api.conftest import ADMIN_KEY
from tests.api.receiver import receiving

ROOT = Path(__file__).parents[2]


async def serve(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start a control plane as operators do; its process and its address."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TENDRIL_STATE_DIR": str(folder), "TENDRIL_PORT": "0",
        "TENDRIL_ADMIN_KEY": ADMIN_KEY, "TENDRIL_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    }  # fmt: skip
    out, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = (sys.executable, "-m", "router", "serve")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=out, stderr=quiet)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    found = re.search(r"http://\S+?(?=/?\s)", line)
    assert found, line
    return process, found[0]


async def test_nothing_acknowledged_stays_untold(tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with receiving() as receiver:
        receiver.answer = lambda _: None  # takes the message, and never says so
        process, url = await serve(tmp_path)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
            body = {"url": receiver.url, "events": ["region"]}
            (await http.put("/v1/webhooks/crm", json=body)).raise_for_status()
            wanted = [f"r-{number}" for number in range(25)]
            for id in wanted:
                (await http.put(f"/v1/regions/{id}", json={"id": id})).raise_for_status()
            await receiver.until(lambda: bool(receiver.got))
            process.kill()
            await process.wait()
        receiver.got.clear()
        receiver.answer = lambda _: 200
        process, url = await serve(tmp_path)
        try:
            await receiver.until(lambda: {one.data["subject"] for one in receiver.got} >= set(wanted))
        finally:
            process.terminate()
            await process.wait()
    assert process.returncode == 0
    assert len({one.headers["webhook-id"] for one in receiver.got}) == len(wanted)
