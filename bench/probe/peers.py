"""What irtt and fping (Debian packages) cost and measure, at the same place."""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from bench.probe.space import FAR, Space, process_cpu_s
from router.core.errors import Unavailable

IRTT_PORT = 2_112


@contextmanager
def irtt_server(space: Space) -> Iterator[Popen[str]]:
    """An irtt server at the far end, without its limits. Raises :class:`Unavailable` if it is not installed."""
    if shutil.which("irtt") is None:
        raise Unavailable("no_irtt", "irtt is not installed (Debian package irtt)")
    with space.serve(["irtt", "server", "-b", f"{FAR}:{IRTT_PORT}", "-i", "0", "-d", "0"]) as server:
        yield server


def irtt(space: Space, server: Popen[str], interval: str, seconds: float) -> dict[str, float]:
    """Run a client: probes per CPU-second of both ends, median and deviation of its round trips."""
    before, server_before = _children_s(), process_cpu_s(server)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        command = ["irtt", "client", "-i", interval, "-d", f"{seconds}s", "-Q", "-q", "-o", str(file)]
        space.run([*command, f"{FAR}:{IRTT_PORT}"], seconds + 60)
        told: dict[str, Any] = json.loads(file.read_text())["stats"]
    answered = int(told["packets_received"])
    if not answered:
        raise Unavailable("irtt_unanswered", "irtt got no answer")
    return {
        "answered": answered,
        "per_cpu_s": answered / (_children_s() - before),
        "far_per_cpu_s": answered / max(0.01, process_cpu_s(server) - server_before),
        "p50_us": told["rtt"]["median"] / 1e3,
        "sd_us": told["rtt"]["stddev"] / 1e3,
    }


def fping(space: Space, interval_ms: int, seconds: float) -> dict[str, float]:
    """Ping the far end. Raises :class:`Unavailable` if it is not installed."""
    if shutil.which("fping") is None:
        raise Unavailable("no_fping", "fping is not installed (Debian package fping)")
    count, before = int(seconds * 1e3 / interval_ms), _children_s()
    done = space.run(["fping", "-C", str(count), "-p", str(interval_ms), "-i", "1", "-q", FAR], seconds + 60)
    values = [float(word) * 1e3 for word in done.stderr.partition(":")[2].split() if word != "-"]
    if len(values) < 2:
        raise Unavailable("fping_unanswered", "fping got no answers")
    used_s = _children_s() - before
    return {"answered": len(values), "per_cpu_s": len(values) / used_s, "p50_us": statistics.median(values),
            "sd_us": statistics.pstdev(values)}  # fmt: skip


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
