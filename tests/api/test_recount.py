"""Counting anew beside the writer: what is committed meanwhile is counted once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from router.runtime import recount
from tests.api.conftest import World


@pytest.mark.parametrize("what", ["run", "agents"])
async def test_what_begins_and_ends_during_a_recount_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await world.measured()
    for number in range(3):
        await world.agent(f"ai-{number}")
    first = await world.session()
    counting, go_on = threading.Event(), threading.Event()
    counted = recount._of

    def slow(pinned: Any, count: Any) -> Any:
        counting.set()
        assert go_on.wait(30)
        return counted(pinned, count)

    monkeypatch.setattr(recount, "_of", slow)
    runtime = world.app.runtime
    work = asyncio.ensure_future(getattr(runtime._recount, what)())
    assert await asyncio.to_thread(counting.wait, 30)
    began = runtime.view.counters
    await world.session()
    await world.session()
    await world.call("DELETE", f"/v1/sessions/{first['id']}")
    assert not work.done(), "no commit waits for the count"
    go_on.set()
    await work
    assert runtime.view.counters == runtime.store.counters()
    assert sum(runtime.view.counters.sessions.values()) == sum(began.sessions.values()) + 1 == 2
