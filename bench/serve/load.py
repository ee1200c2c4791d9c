"""Load by wrk: prepared requests in a fixed random order over kept connections, from the second core.

Reports get rising numbers, since one with an old number is recognised as such and not looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.freshness.load import PLACE
from bench.serve.servers import LOAD_CORE, Listening

CONNECTIONS = 32
SECONDS = 3
_SCRIPT = """
local requests, n, i, place = {}, 0, 0, '%s'
local number = os.time() * 100000 -- a report with a number that is not new would be left out
local file = io.open("%s", "rb")
while true do
  local size = file:read("*l")
  if not size then break end
  n = n + 1
  local request = file:read(tonumber(size))
  local at = string.find(request, place, 1, true)
  requests[n] = at and {string.sub(request, 1, at - 1), string.sub(request, at + #place)} or request
  file:read(1)
end
request = function()
  i = i %% n + 1
  local request = requests[i]
  if type(request) == "string" then return request end
  number = number + 1
  return request[1] .. string.format('"sequence":%%-16d', number) .. request[2]
end
"""


class Failed(Exception):
    """A run with refusals or errors: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers per processor second of the server, answers a second, and how long they took.

    The first holds on a busy machine too, where the server does not have its core to itself.
    """

    per_cpu_s: float
    per_s: float
    p50_ms: float
    p99_ms: float


def why_no_wrk() -> str | None:
    """Why there is no load generator here; ``None`` if there is."""
    return None if shutil.which("wrk") else "wrk is not installed (Debian: apt-get install wrk)"


def asked(server: Listening, requests: Sequence[bytes], folder: Path, seconds: int = SECONDS) -> Rate:
    """Ask these over and over. Raises ``Failed`` if any answer was no success."""
    data = folder / "requests"
    data.write_bytes(b"".join(b"%d\n%s\n" % (len(one), one) for one in requests))
    script = folder / "load.lua"
    script.write_text(_SCRIPT % (PLACE.decode(), data))
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "30s",
    ]
    command += ["-s", str(script), f"http://127.0.0.1:{server.port}"]
    before_s = server.cpu_s()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used_s = server.cpu_s() - before_s
    if "Non-2xx" in told or "Socket errors" in told:
        raise Failed(told)
    found, count = re.search(r"Requests/sec:\s+([0-9.]+)", told), re.search(r"(\d+) requests in", told)
    if found is None or count is None:
        raise Failed(told)
    return Rate(int(count[1]) / used_s, float(found[1]), _ms(told, "50%"), _ms(told, "99%"))


def _ms(told: str, share: str) -> float:
    found = re.search(rf"{share}\s+([0-9.]+)(us|ms|s)", told)
    if found is None:
        raise Failed(told)
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[found[2]]
