"""Adapters through Prism: somebody else's judge of requests and answers, between an adapter and its fake.

``python -m bench.adapters --prism PATH`` with the path of the ``prism`` command (npm ``@stoplight/prism-cli``) runs it
as a proxy before the fakes of the clouds that publish an OpenAPI document. As a mock it keeps no machines; as a proxy
it lets the fake keep them, answers 422 to a request that is not as described and 500 where an answer is not. So a drill
without faults must meet no error at all, and a wrong request must meet one.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench._case import line, progress
from bench.adapters.cases import SEED, missing
from bench.adapters.clouds import CASES, SPECS, TOKEN, Case
from bench.adapters.drill import drill
from providers.fake.described import meant_label

PREFIX = {"gcp": "/compute/v1", "linode": "/v4"}  # which the paths of the documents lack
LAUNCH = {"gcp": "/compute/v1/projects/lab/zones/europe-west3-b/instances", "linode": "/v4/linode/instances"}
WRONG = {"name": 5, "region": 5, "type": 5}  # to either
STARTS_S = 60.0


def run(prism: Path, launches: int, only: str | None = None) -> bool:
    """Drill the clouds that have a document."""
    met = [_case(prism, name, launches) for name in PREFIX if only in (None, name)]
    return all(met)


def _case(prism: Path, name: str, launches: int) -> bool:
    case = CASES[name]
    lacking = missing(case)
    if lacking is not None:
        progress(f"{name}: {lacking}")
        return False
    with case.served(launches) as fake, _proxy(prism, case, fake.url) as url:
        refused = httpx.post(url + LAUNCH[name], json=WRONG, headers={"Authorization": f"Bearer {TOKEN}"}).status_code
        progress(f"{name}: a wrong launch is answered {refused}; {launches} launches through Prism")
        with closing(case.opened(url, TOKEN, 30.0)) as provider:
            provider.regions(), provider.sizes(case.cloud_region), provider.quota(case.cloud_region)
            result = drill(provider, fake, case.cloud_region, case.size, launches, SEED)
    wrong = (
        (refused != httpx.codes.UNPROCESSABLE_ENTITY)
        + result.leaked
        + result.left
        + result.twice
        + result.errors.total()
        + len(fake.violations)
    )
    return line(
        "adapters", f"{name}: what Prism finds wrong, and machines leaked", 1.0 + wrong, 1.0, "none (told as 1)",
        "wrong + 1", "U6", 1.0, launches=launches, answered=result.answered, leaked=result.leaked, left=result.left,
        errors=dict(sorted(result.errors.items())), requests=sum(fake.requests.values()),
    )  # fmt: skip


@contextmanager
def _proxy(prism: Path, case: Case, upstream: str) -> Iterator[str]:
    """Prism before a fake, until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "document.json"
        document.write_text(json.dumps(_document(case)), encoding="utf-8")
        argv = [str(prism), "proxy", str(document), upstream, "--errors", "-h", "127.0.0.1", "-p", str(port)]
        with (Path(folder) / "log").open("w+") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
            try:
                _wait(port, process)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait()
                log.seek(0)
                for said in sorted(set(re.findall(r"(?:Violation|violates?).*", log.read())))[:20]:
                    progress(f"{case.name}: {said}")


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Prism does not answer after {STARTS_S:g} s, or has ended")


def _document(case: Case) -> dict[str, Any]:
    """The cloud's document with its known faults patched, without the operations' ways to sign in."""
    assert case.spec is not None
    document: dict[str, Any] = meant_label(json.loads(gzip.decompress((SPECS / case.spec).read_bytes())))
    document["paths"] = {PREFIX[case.name] + path: _unsigned(item) for path, item in document["paths"].items()}
    document.pop("servers", None)
    document.pop("security", None)
    return document


def _unsigned(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {k: v for k, v in part.items() if k not in ("security", "servers")} if isinstance(part, dict) else part
        for name, part in item.items()
        if name != "servers"
    }
