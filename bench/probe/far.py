"""The far end: our reflector, or the data paths of agents that probe back, of which the first reflects.

``python -m bench.probe.far HOST [PEER_HOST AGENTS]``. For each line read, one JSON line: CPU seconds, packets
reflected. Ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.probe.ends import OWN_KEY, REFLECTOR_PORT, UNLIMITED_PER_S, cpu_s, plan, prober
from probes.clock import Clock
from probes.sockets import Reflector, open_udp


async def _serve(host: str, peer: str, peers: int) -> None:
    if peers:
        whole = prober(host, 2)
        others = [prober(host, seed, alone=False) for seed in range(3, 2 + peers)]
        for one in (whole, *others):
            await one.follow(plan(peer, 1, 1_000_000))
        reflector = whole.reflector
    else:
        sock = open_udp(host, REFLECTOR_PORT)
        reflector = Reflector(sock, Clock(), per_s=UNLIMITED_PER_S, per_source_s=UNLIMITED_PER_S)
        reflector.trust(OWN_KEY)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"cpu_s": cpu_s(), "reflected": reflector.counters["reflected"]}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "", int((sys.argv[3:] or ["0"])[0])))
