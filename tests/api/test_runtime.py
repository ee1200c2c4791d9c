"""The shell on a real database: order, restart with the saved table, cancelled callers, flight recorder and replay."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from probes.wire import ProbeReport, ReportRows
from router.core.errors import InputRejected
from router.core.messages import Reported
from router.core.model import (
    DataCenter,
    DataCenterId,
    Node,
    NodeId,
    Policy,
    PolicyId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Role,
)
from router.runtime import Runtime, RuntimeOptions, StreamItem, replay
from router.runtime.packed import PackedReport
from router.runtime.recorder import segments
from router.solver import Solver
from router.store import Store

IDS = ("a-1", "a-2", "b-1")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Runtime]:
    store = Store(f"sqlite:///{folder / 'tendril.db'}")
    store.upgrade()
    runtime = Runtime(store, Solver(), RuntimeOptions(flight_folder=folder / "flight"))
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()
        store.close()


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition never came true"
        await asyncio.sleep(0.01)


async def furnish(runtime: Runtime) -> None:
    centers = [DataCenter(DataCenterId(i), ProviderId("p"), RegionId("r"), (Role.EDGE, Role.HUB)) for i in IDS]
    nodes = [Node(NodeId(f"{i}-n1"), DataCenterId(i), {"internet": "127.0.0.1"}) for i in IDS]
    resources = [Provider(ProviderId("p")), Region(RegionId("r")), *centers, *nodes]
    await runtime.commit(lambda store: store.apply(resources, [], actor="test", now=runtime.now()))


def measure(runtime: Runtime, sequence: int) -> None:
    delay = {("a-1", "b-1"): 100_000, ("b-1", "a-1"): 90_000, ("a-1", "a-2"): 20_000, ("a-2", "a-1"): 20_000,
             ("a-2", "b-1"): 30_000, ("b-1", "a-2"): 60_000}  # fmt: skip
    for a in IDS:
        peers = [b for b in IDS if b != a]
        n = len(peers)
        rows = ReportRows(
            tuple(f"{b}-n1" for b in peers), ("internet",) * n, (1,) * n, (1,) * n, (1,) * n, (0,) * n, (0,) * n,
            tuple(delay[a, b] + delay[b, a] for b in peers), tuple(delay[a, b] for b in peers),
            tuple(delay[b, a] for b in peers), (0,) * n, (0,) * n, (0,) * n, ((),) * n, ((),) * n, ((),) * n,
        )  # fmt: skip
        runtime.post(Reported(ProbeReport(f"{a}-n1", "b", sequence, 1, 0, 1_000_000, rows)))


async def route_up(runtime: Runtime) -> None:
    await furnish(runtime)
    measure(runtime, 1)
    await until(lambda: runtime.view.routes is not None and bool(runtime.view.routes.reachable.any()))


async def test_a_restart_answers_at_once_from_the_saved_table_and_generations_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        before = runtime.view
        generation = before.generation
    async with running(tmp_path) as again:
        view = again.view
        assert view.routes is not None and view.routes.stale
        assert view.generation > generation and view.epoch == before.epoch + 1
        assert (view.routes.relays == before.routes.relays).all() if before.routes else False
        measure(again, 2)
        await until(lambda: again.view.routes is not None and not again.view.routes.stale)
        assert again.view.generation > view.generation


async def test_a_change_before_any_agent_reports_waits_for_no_routes(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
    async with running(tmp_path) as again:
        policy = Policy(PolicyId("near"), max_relays=0)
        await again.commit(lambda store: store.apply([policy], [], actor="test", now=again.now()))
        await asyncio.wait_for(again.routes_settled(3_600), 30)
        assert again.view.routes is not None and again.view.routes.stale, "what is known stays in force"
        measure(again, 2)
        await until(lambda: again.view.routes is not None and not again.view.routes.stale)
        await again.commit(lambda store: store.delete("policies", "near", if_match=None, actor="test", now=again.now()))
        await again.routes_settled(60)
        assert again.view.routes is not None
        assert again.view.routes.snapshot.inventory_count == again.view.inventory_count


async def test_a_recorded_run_replays_to_the_same_digest(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
        for sequence in range(2, 6):
            generation = runtime.view.generation
            measure(runtime, sequence)
            await runtime.next_generation(generation, 30)
    (segment,) = segments(tmp_path / "flight")
    done = replay(segment)
    assert done.inputs > 20 and done.digest and done.generation > 0
    assert done.diverged_at is None and done.digest == done.recorded_digest


async def test_a_segment_that_begins_in_the_middle_and_ends_in_a_crash_replays(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)  # the checkpoint of the next segment holds intents, health states, contexts, …
        assert runtime._recording is not None
        runtime._recording.recorder._limit = 0
        measure(runtime, 2)
        runtime._recording.recorder._limit = 1 << 30
        for sequence in range(3, 6):
            generation = runtime.view.generation
            measure(runtime, sequence)
            await runtime.next_generation(generation, 30)
    newest = segments(tmp_path / "flight")[-1]
    whole = replay(newest)
    assert whole.inputs > 5 and whole.diverged_at is None
    data = newest.read_bytes()
    newest.write_bytes(data[:-60])  # the trailer and the last record
    part = replay(newest)
    assert 0 < part.inputs < whole.inputs and part.diverged_at is None


def _reporter(kept: object) -> str | None:
    if isinstance(kept, PackedReport):
        return kept.head[0]
    return kept.report.node if isinstance(kept, Reported) else None


async def test_a_record_that_was_tampered_with_is_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        await route_up(runtime)
    (segment,) = segments(tmp_path / "flight")
    records = []
    with gzip.open(segment, "rb") as file:
        while True:
            try:
                records.append(pickle.load(file))  # noqa: S301 - written by this very test
            except EOFError:
                break
    kept = [r for r in records if not (isinstance(r, tuple) and _reporter(r[1]) == "a-2-n1")]
    assert len(kept) == len(records) - 1
    segment.write_bytes(gzip.compress(b"".join(pickle.dumps(r, protocol=5) for r in kept)))
    assert replay(segment).diverged_at is not None


async def test_a_flight_file_cannot_bring_code_along(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("owned",))

    path = tmp_path / "flight-00000001.rec"
    path.write_bytes(gzip.compress(pickle.dumps({"format": 1, "plane": Evil()})))
    with pytest.raises(ValueError, match=r"builtins\.print has no place"):
        replay(path)


async def test_what_became_durable_reaches_the_core_although_its_caller_went_away(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        task = asyncio.ensure_future(furnish(runtime))
        await asyncio.sleep(0)
        task.cancel()
        await until(lambda: len(runtime.view.inventory.data_centers) == 3)


async def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        bad = [Provider(ProviderId("p")), Node(NodeId("n"), DataCenterId("nowhere"))]
        with pytest.raises(InputRejected) as refused:
            await runtime.commit(lambda store: store.apply(bad, [], actor="test", now=runtime.now()))
        assert refused.value.code == "unknown_reference"
        assert not runtime.view.inventory.providers
        assert not (await runtime.read(lambda store: store.inventory())).providers


async def test_a_slow_stream_reader_is_told_to_resync(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        with runtime.stream() as stream:
            for number in range(400):
                runtime._hub.publish(StreamItem("event", {"number": number}))
            first = await stream.next(1)
            assert first is not None and first.kind == "resync"


async def test_what_a_commit_writes_into_the_audit_trail_reaches_the_stream_once(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        with runtime.stream() as stream:
            await furnish(runtime)
            kinds: list[str] = []
            while len([k for k in kinds if "data_center" in k]) < 3:
                item = await stream.next(30)
                assert item is not None, kinds
                if item.kind == "event":
                    kinds.append(f"{item.data['kind']} {item.data['subject']}")
            assert len(kinds) == len(set(kinds))
