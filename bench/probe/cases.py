"""The cases. Ours and the peers take turns, so that a busy moment of the machine meets all of them.

Costs are the best of the turns: other work on the machine only ever adds. Noise is the median of the turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import median
from subprocess import Popen
from typing import Any

from bench._case import NO_BOUND, line, progress
from bench.probe.peers import fping, irtt, irtt_server
from bench.probe.space import FAR, NEAR, Space, ask, python, space
from probes.sockets import BATCHED
from router.core.errors import Unavailable

GOAL = "P6"
TURNS = 3
SECONDS = 3.0
BATCH, BATCH_EVERY_US = 256, 16_000  # 16,000 probes/s: as many as irtt gets out at its shortest interval, or more
IRTT_FASTEST = "10us"
SOAK_PROBES = 1_000_000
SOAK_S = 65.0  # at the longest: a machine that is busy with other things gets through fewer
Result = dict[str, Any]
Case = Callable[[Space], bool]


def _near(where: Space, case: str, seconds: float, *parameters: int) -> Result:
    done = where.run(python("near", case, NEAR, FAR, seconds, *parameters), seconds + 60)
    found: Result = json.loads(done.stdout)
    return found | {"per_cpu_s": found["answered"] / found["cpu_s"]}


def _both(where: Space, far: Popen[str], keyed: int) -> Result:
    """Our sender and our reflector under many sessions."""
    before = ask(far)
    found = _near(where, "batches", SECONDS, BATCH, BATCH_EVERY_US, keyed)
    after = ask(far)
    found["far_per_cpu_s"] = (after["reflected"] - before["reflected"]) / (after["cpu_s"] - before["cpu_s"])
    return found


def _turns(*works: Callable[[], Result]) -> list[list[Result]]:
    rounds = [[work() for work in works] for _ in range(TURNS)]
    return [[one[i] for one in rounds] for i in range(len(works))]


def _best(results: list[Result], name: str) -> float:
    return max(float(one[name]) for one in results)


def _middle(results: list[Result], name: str) -> float:
    return median(float(one[name]) for one in results)


def _cost(where: Space, far: Popen[str], server: Popen[str]) -> bool:
    progress("probes per CPU-second")
    plain, keyed, peer = _turns(
        lambda: _both(where, far, 0), lambda: _both(where, far, 1), lambda: irtt(where, server, IRTT_FASTEST, SECONDS)
    )
    met = True
    for case, ours, bound in (("unauthenticated", plain, 5.0), ("authenticated", keyed, 3.0)):
        turns = [one["per_cpu_s"] / his["per_cpu_s"] for one, his in zip(ours, peer, strict=True)]
        met &= line("probe-sender", case, _best(ours, "per_cpu_s"), _best(peer, "per_cpu_s"), "irtt client", "probes/s",
                    GOAL, bound, of="CPU time", sessions=BATCH, compiled=BATCHED, median_ratio=round(median(turns), 2),
                    probe_us=round(1e6 / _best(ours, "per_cpu_s"), 2))  # fmt: skip
        line("probe-reflector", case, _best(ours, "far_per_cpu_s"), _best(peer, "far_per_cpu_s"), "irtt server",
             "probes/s", GOAL, NO_BOUND, of="CPU time",
             probe_us=round(1e6 / _best(ours, "far_per_cpu_s"), 2))  # fmt: skip
    return met


def _noise(where: Space, server: Popen[str], interval_us: int) -> bool:
    rate = 1_000_000 // interval_us
    progress(f"noise at {rate} probes/s")
    ours, peer = _turns(
        lambda: _near(where, "plan", SECONDS, 1, interval_us), lambda: irtt(where, server, f"{interval_us}us", SECONDS)
    )
    case = f"{rate} probes/s"
    met = line("probe-noise-sd", case, _middle(ours, "sd_us"), _middle(peer, "sd_us"), "irtt", "us", GOAL, 20.0,
               p99_us=_middle(ours, "p99_us"))  # fmt: skip
    line("probe-noise-p50", case, _middle(ours, "p50_us"), _middle(peer, "p50_us"), "irtt", "us", GOAL, NO_BOUND)
    try:
        pings = [fping(where, interval_us // 1_000, SECONDS) for _ in range(3)]
    except Unavailable as error:
        progress(f"skipped: {error}")
        return met
    line("probe-noise-sd", case, _middle(ours, "sd_us"), _middle(pings, "sd_us"), "fping", "us", GOAL, NO_BOUND)
    line("probe-noise-p50", case, _middle(ours, "p50_us"), _middle(pings, "p50_us"), "fping", "us", GOAL, NO_BOUND)
    return met


def _many_targets(where: Space) -> bool:
    progress("1 target and 1,000")
    one, slow, many = _turns(
        lambda: _near(where, "plain", SECONDS, 1, 1_000),
        lambda: _near(where, "plain", SECONDS, 1, 20_000),
        lambda: _near(where, "plain", SECONDS, 1_000, 1_000_000),
    )
    return line("probe-targets", "1,000 targets at 1 Hz", _middle(many, "p50_us"), _middle(one, "p50_us"),
                "1 target at 1 kHz", "us", GOAL, 1 / 1.2, one_at_50_hz_us=_middle(slow, "p50_us"),
                sd_us=_middle(many, "sd_us"), probe_cost_us=round(1e6 / _best(many, "per_cpu_s"), 1))  # fmt: skip


def _agent(where: Space) -> bool:
    progress("an agent with 30 peers")
    with where.serve(python("far", FAR, NEAR, 30)) as far:  # thirty agents, each on its own time
        ask(far)
        runs = [_near(where, "plan", 10.0, 30, 1_000_000) for _ in range(TURNS)]
    shares = [100 * one["cpu_s"] / one["wall_s"] for one in runs]
    with where.serve(python("far", FAR)) as far:
        ask(far)
        few, all_ = (_near(where, "plan", SECONDS, peers, 1_000_000) for peers in (1, 1_000))
    kb = (all_["kb"] - few["kb"]) / 999
    return line("probe-agent", "30 peers at 1 Hz, probed by 30", min(shares), 1.0, "1 % of a core", "percent", GOAL,
                1.0, median_percent=round(median(shares), 2), kb=runs[-1]["kb"], kb_per_peer=round(kb, 2))  # fmt: skip


def _soak(where: Space, far: Popen[str]) -> bool:
    """A million probes, an hour's worth of a busy agent, in about a minute or what fits: nothing may grow."""
    progress(f"{SOAK_PROBES:,} probes")
    before = ask(far)["reflected"]
    found = _near(where, "batches", SOAK_S, BATCH, BATCH_EVERY_US, 0, SOAK_PROBES)
    answered, runs_kb = found["answered"], [found["kb_before"], found["kb"]]
    return line("probe-soak", f"{answered:,} probes", runs_kb[1], runs_kb[0] + 2_048, "before, and 2 MB", "kB", GOAL,
                1.0, answered=answered, reflected=ask(far)["reflected"] - before, descriptors=found["fds"],
                descriptors_before=found["fds_before"]) and found["fds"] == found["fds_before"]  # fmt: skip


def run(cases: Sequence[str] = ()) -> bool:
    """Run these of :data:`CASES`, or all; whether every bound was met."""
    try:
        with space() as where:
            met = [CASES[case](where) for case in cases or CASES]  # all of them, whatever the first says
            return all(met)
    except Unavailable as error:
        progress(f"skipped: {error}")
        return True


def _beside_our_reflector(case: Callable[[Space, Popen[str]], bool]) -> Case:
    def run_it(where: Space) -> bool:
        with where.serve(python("far", FAR)) as far:
            ask(far)
            return case(where, far)

    return run_it


def _beside_irtt(case: Callable[[Space, Popen[str], Popen[str]], bool]) -> Case:
    def run_it(where: Space) -> bool:
        try:
            with irtt_server(where) as server, where.serve(python("far", FAR, NEAR, 0)) as far:
                ask(far)
                return case(where, far, server)
        except Unavailable as error:
            progress(f"skipped: {error}")
            return True

    return run_it


CASES: dict[str, Case] = {
    "targets": _beside_our_reflector(lambda where, _: _many_targets(where)),
    "agent": _agent,
    "cost": _beside_irtt(_cost),
    "noise-1000": _beside_irtt(lambda where, _, server: _noise(where, server, 1_000)),
    "noise-50": _beside_irtt(lambda where, _, server: _noise(where, server, 20_000)),
    "soak": _beside_our_reflector(_soak),
}
