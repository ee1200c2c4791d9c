"""The shell when something goes wrong: full disks, damaged files, races of drains and moves, crowded policies."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from router.core import steering
from router.core.errors import InputRejected
from router.core.messages import FinishDrain, MoveSessions, Tick
from router.core.model import (
    Client,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainState,
    Intent,
    NodeId,
    Policy,
    PolicyId,
    Pool,
    PoolId,
    Selector,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.core.tables import RouteTable
from router.runtime import Runtime, moves, replay, saved
from router.runtime.recorder import FlightRecorder, segments
from router.store.heartbeats import Beat
from tests.api.test_runtime import measure, route_up, running, until

A1, A2, B1 = DataCenterId("a-1"), DataCenterId("a-2"), DataCenterId("b-1")
HOUR = 3_600_000_000


async def seat(runtime: Runtime, id: str, **more: object) -> None:
    """An active session at a-1 whose far end is b-1."""
    now = runtime.now()
    session = Session(
        SessionId(id), SessionState.ACTIVE, TrafficClass.AGENT, Client(), A1, NodeId("a-1-n1"), (A1,), 1, now,
        now + HOUR, agent_data_center=B1,
    )  # fmt: skip
    session = replace(session, **more)  # type: ignore[arg-type]
    await runtime.commit(
        lambda store: store.start_session(session, (), idempotency_key=None, request_hash=b"", now=now)
    )


async def open_drain(runtime: Runtime, **more: object) -> None:
    drain = Drain(
        DrainId("d-1"), Selector(data_center=A1), DrainMode.HARD, DrainState.PAUSED, (A1,), {A1: Intent.SERVING}, "",
        runtime.now(), "me",
    )  # fmt: skip
    drain = replace(drain, **more)  # type: ignore[arg-type]
    await runtime.commit(lambda store: store.put_drain(drain, {A1: Intent.DRAINING}, actor="me", now=runtime.now()))


async def test_a_drain_is_not_over_while_a_user_is_still_at_the_old_edge(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        await seat(runtime, "s-1")
        await open_drain(runtime, state=DrainState.MOVING)
        measure(runtime, 2)
        runtime.post(Tick("health"))
        done = await moves.move_sessions(runtime, MoveSessions(A1, 20, "drain"))
        assert done.moved + done.failed <= 1
        await until(lambda: runtime.view.counters.sessions.get(A1, 0) == 0)
        session = await runtime.read(lambda store: store.session(SessionId("s-1")))
        assert session is not None and session.state is SessionState.MOVING and session.moved_from == A1
        await moves.finish_drain(runtime, FinishDrain(DrainId("d-1")))
        assert runtime.view.drains[DrainId("d-1")].state is DrainState.MOVING
        changed = ((SessionId("s-1"), "attached"),)
        node = session.edge_node
        assert node is not None
        beat = Beat(node, 0, changed, runtime.now() + HOUR, runtime.now() + HOUR)
        await runtime.commit(lambda store: store.heartbeats([beat], runtime.now()))
        await until(lambda: runtime.view.drains[DrainId("d-1")].state is DrainState.DRAINED)


async def test_the_deadline_of_a_soft_drain_makes_it_move(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        await seat(runtime, "s-1")
        await open_drain(runtime, mode=DrainMode.SOFT, state=DrainState.BLEEDING, deadline_at=runtime.now() + 100_000)
        await until(lambda: runtime.view.drains[DrainId("d-1")].state is DrainState.MOVING)


async def test_a_move_keeps_to_the_policy_of_its_pool(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        pinned = Policy(PolicyId("home"), match_pool=PoolId("p"), pin=(A1, B1))
        await runtime.commit(lambda store: store.apply([Pool(PoolId("p")), pinned], [], actor="me", now=runtime.now()))
        await seat(runtime, "s-1")
        session = await runtime.read(lambda store: store.session(SessionId("s-1")))
        assert session is not None
        asked = []
        honest = steering.place

        def listen(view, request, now):  # type: ignore[no-untyped-def]
            asked.append(request.pool)
            return honest(view, request, now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steering, "place", listen)
            await moves._move_one(runtime, replace(session, pool=PoolId("p")), A1, "drain")
        assert asked == [PoolId("p")]
        moved = await runtime.read(lambda store: store.session(SessionId("s-1")))
        assert moved is not None and moved.edge != A2


async def test_sessions_that_cannot_move_do_not_keep_others_from_moving(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        for number in range(3):
            await seat(runtime, f"s-{number}", agent_data_center=A1 if number == 2 else DataCenterId("gone"))
        await open_drain(runtime)
        effect = MoveSessions(A1, 2, "drain")
        assert (await moves.move_sessions(runtime, effect)).failed == 2
        await moves.move_sessions(runtime, effect)
        last = await runtime.read(lambda store: store.session(SessionId("s-2")))
        assert last is not None and last.edge != A1


async def test_moves_that_were_taken_back_do_not_keep_others_from_moving(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        for number in range(3):
            await seat(runtime, f"s-{number}")
        await open_drain(runtime)
        runtime.upkeep._back_off = {SessionId(f"s-{number}"): runtime.now() + HOUR for number in range(2)}
        assert (await moves.move_sessions(runtime, MoveSessions(A1, 2, "drain"))).moved == 1
        last = await runtime.read(lambda store: store.session(SessionId("s-2")))
        assert last is not None and last.state is SessionState.MOVING


async def test_a_drain_waits_for_users_who_do_not_arrive(tmp_path: Path) -> None:
    """The node that carries them does not pass its moves on: they must not all set off when it speaks again."""
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        for number in range(7):
            await seat(runtime, f"s-{number}")
        await open_drain(runtime)
        done = [(await moves.move_sessions(runtime, MoveSessions(A1, 1, "drain"))).moved for _ in range(7)]
        assert done == [1, 1, 1, 1, 1, 0, 0]


async def test_a_full_disk_under_the_flight_recorder_does_not_stop_routing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)

        assert runtime._recording is not None

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(FlightRecorder, "append_all", full)
        for sequence in range(2, 5):
            generation = runtime.view.generation
            measure(runtime, sequence)
            assert (await runtime.next_generation(generation, 30)).generation > generation
        assert runtime.counts.failures == 1


async def test_an_input_that_fails_does_not_stop_those_behind_it(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        before = runtime.counts.failures
        runtime.post(Tick("no such job"))
        assert runtime.counts.failures == before + 1
        await route_up(runtime)


async def test_policies_are_limited_by_what_is_stored_and_not_by_what_was_seen(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        for number in range(7):
            policy = Policy(PolicyId(f"p{number}"))
            await runtime.commit(lambda store, p=policy: store.put(p, if_match=None, actor="me", now=1))  # type: ignore[misc]
        with pytest.raises(InputRejected) as refused:
            await runtime.commit(lambda store: store.put(Policy(PolicyId("p7")), if_match=None, actor="me", now=1))
        assert refused.value.code == "too_many_contexts"
        assert len(runtime.view.inventory.policies) == 7


async def test_a_damaged_table_is_called_unreadable_and_a_whole_one_is_read(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        table = runtime.view.routes
    assert table is not None
    data = saved.dump(table)
    assert saved.load(data).snapshot.transports == table.snapshot.transports
    for damaged in (b"", b"PK", data[:-30], data[: len(data) // 2], data[:200] + bytes(50) + data[250:]):
        with pytest.raises(saved.UnreadableTable):
            saved.load(damaged)
    with pytest.raises(saved.UnreadableTable, match="shape"):
        saved.load(saved.dump(replace(table, cost=table.cost[:, :2])))


async def test_sessions_start_while_a_large_table_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packing, done = threading.Event(), threading.Event()

    def slow(table: RouteTable) -> bytes:
        packing.set()
        assert done.wait(30)
        return b"a table"

    async with running(tmp_path) as runtime:
        await route_up(runtime)
        monkeypatch.setattr(saved, "dump", slow)
        saving = asyncio.ensure_future(runtime._save_table())
        assert await asyncio.to_thread(packing.wait, 30)
        await seat(runtime, "s-1")
        assert not done.is_set()
        done.set()
        await saving
        monkeypatch.undo()


async def test_a_flight_file_cannot_reach_through_what_a_core_module_imports(tmp_path: Path) -> None:
    path = tmp_path / "flight-00000001.rec"
    for module, name in (("router.core.model", "re.enum.bltns.eval"), ("router.core.plane", "assert_never")):
        call = pickle.PROTO + b"\x04" + _text(module) + _text(name) + pickle.STACK_GLOBAL
        path.write_bytes(gzip.compress(call + _text("1 + 1") + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP))
        with pytest.raises(ValueError, match="has no place"):
            replay(path)
    assert segments(tmp_path) == [path]


def _text(value: str) -> bytes:
    raw = value.encode()
    return pickle.SHORT_BINUNICODE + bytes([len(raw)]) + raw
