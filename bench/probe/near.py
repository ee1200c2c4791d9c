"""The near end: probes for some seconds and prints one JSON line with what it cost and what it measured.

``python -m bench.probe.near CASE HOST PEER_HOST SECONDS PARAMETERS``:

``batches SIZE EVERY_US KEYED``   :class:`ProbeSender` alone: so many sessions, probed all at once; a further
                                  parameter ends it after so many answers
``plan PEERS INTERVAL_US``        :class:`Prober` following a plan, as an agent does
``plain PEERS INTERVAL_US``       the same without Follow-Up Telemetry, which only frequent probes have

Reports are closed every second, as an agent closes them; twice as often where single samples are asked for and many.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable

import probes.prober
from bench.probe.ends import FIRST_KEY_ID, REFLECTOR_PORT, cpu_s, descriptors, key, plan, prober, resident_kb
from probes.clock import Clock
from probes.sockets import Alarm, ProbeSender, Target, monotonic_us, new_loop, open_udp, settle
from probes.summary import Row, Summary

WARM_UP_S = 0.5
DENSE_US = 10_000  # probed so often, samples would be in sketches before a second is over


async def _batches(
    host: str, peer: str, seconds: float, size: int, every_us: int, keyed: int, probes: int = 0
) -> dict[str, object]:
    summary = Summary()
    rtts_us: list[int] = []
    sender = ProbeSender(open_udp(host, 0), Clock())
    targets = []
    for i in range(size):
        row = summary.row(f"peer-{i}", "internet")
        if keyed:  # an authenticated session id has room for 16 sessions of each key
            ssid = ((FIRST_KEY_ID + i // 16) << 4) + i % 16
            targets.append(Target(row, (peer, REFLECTOR_PORT), ssid, key=key(FIRST_KEY_ID + i // 16)))
        else:
            targets.append(Target(row, (peer, REFLECTOR_PORT), i + 1))
    sender.replace(targets)
    next_us = monotonic_us()

    def fire() -> None:
        nonlocal next_us
        sender.send_all(targets)
        next_us = max(next_us + every_us, monotonic_us())
        alarm.set(next_us)

    alarm = Alarm(fire)
    alarm.set(next_us)
    try:
        return await _measured(seconds, lambda: summary.close(monotonic_us()).received, rtts_us, probes=probes)
    finally:
        alarm.close()
        sender.close()


async def _plain(host: str, peer: str, seconds: float, peers: int, interval_us: int) -> dict[str, object]:
    probes.prober.FOLLOW_UP_US = 0  # nobody is probed so often
    return await _plan(host, peer, seconds, peers, interval_us)


async def _plan(host: str, peer: str, seconds: float, peers: int, interval_us: int) -> dict[str, object]:
    whole = prober(host, 1)
    rtts_us: list[int] = []
    rows: dict[Row, None] = {}
    told = whole.sender.on_answer

    def hear(target: Target, sequence: int, rtt_us: int, now_us: int) -> None:
        rows[target.row] = None
        if told is not None:
            told(target, sequence, rtt_us, now_us)

    def close() -> tuple[int, ...]:
        waiting = [(row, row.waiting()) for row in rows]
        received = whole.end_interval().received
        for row, values in waiting:  # what is held over counts in the interval that it is reported in
            rtts_us.extend(values[: len(values) - len(row.waiting())])
        return received

    whole.sender.on_answer = hear
    await whole.follow(plan(peer, peers, interval_us))
    settle()
    try:
        return await _measured(seconds, close, rtts_us, close_s=0.5 if interval_us < DENSE_US else 1.0)
    finally:
        whole.close()


async def _measured(
    seconds: float, close: Callable[[], tuple[int, ...]], rtts_us: list[int], *, close_s: float = 1.0, probes: int = 0
) -> dict[str, object]:
    """Run for so long, or until so many probes have been answered."""
    await asyncio.sleep(WARM_UP_S if seconds < 20 else 5.0)  # what is kept for a while has come
    close()
    rtts_us.clear()
    kb, fds, began_s, began_cpu_s, answered = (
        resident_kb(), descriptors(), time.monotonic(), cpu_s(), 0,
    )  # fmt: skip
    while time.monotonic() - began_s < seconds and not 0 < probes <= answered:
        await asyncio.sleep(min(close_s, max(0.01, began_s + seconds - time.monotonic())))
        answered += sum(close())
    took_s, used_s = time.monotonic() - began_s, cpu_s() - began_cpu_s
    found: dict[str, object] = {"answered": answered, "cpu_s": used_s, "wall_s": took_s, "fds_before": fds,
                                "fds": descriptors(), "kb_before": kb, "kb": resident_kb()}  # fmt: skip
    if len(rtts_us) > 1:
        found |= {"p50_us": statistics.median(rtts_us), "sd_us": statistics.pstdev(rtts_us)}
        found |= {"p99_us": sorted(rtts_us)[len(rtts_us) * 99 // 100]}
    return found


if __name__ == "__main__":
    case, host, peer, seconds, *rest = sys.argv[1:]
    run = {"batches": _batches, "plan": _plan, "plain": _plain}[case]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        print(json.dumps(runner.run(run(host, peer, float(seconds), *map(int, rest)))), flush=True)  # type: ignore[operator]
