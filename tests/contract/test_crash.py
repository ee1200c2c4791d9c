"""What was acknowledged is there after ``kill -9``, and what was not is whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from router.core.model import SessionState
from router.store import Store

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from dataclasses import replace
from router.core.model import Client, Session, SessionState, TrafficClass
from router.store import Store

store = Store(sys.argv[1])
place = ("linode-fra", None, (), 1, 1, 10**18, "tutors")
base = Session("x", SessionState.ATTACHING, TrafficClass.AGENT, Client(), *place)
turn = 0
while True:
    started = store.start_session(
        replace(base, id=f"s-{turn}"), ("oracle-iad",), idempotency_key=f"k-{turn}", request_hash=b"", now=1
    ).result
    print("started", started.id, started.agent, flush=True)
    if turn % 4:
        store.end_session(started.id, reason="over", now=2)
        print("ended", started.id, started.agent, flush=True)
    turn += 1
"""


def test_nothing_acknowledged_is_lost_by_kill_9(url: str, store: Store, world: Any) -> None:
    world.seed(agents=60)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, env=environment, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().split() for _ in range(25)]
        writer.kill()
        told += [line.split() for line in writer.stdout if line.endswith("\n")]
    for what, id, agent in told:
        found = store.session(id)
        assert found is not None, f"{id} was acknowledged"
        assert found.agent == agent
        if what == "ended":
            assert found.state is SessionState.ENDED
    # The one in flight is whole or absent: every live session has its agent, and every busy agent its session.
    live = {session.id: session.agent for session in store.sessions(limit=1000) if session.state.live}
    bound = {agent.session: agent.id for agent in store.agents("tutors") if agent.session is not None}
    assert live == bound
    counted = store.counters()
    assert sum(counted.sessions.values()) == sum(counted.busy.values()) == len(live)
