"""The peer: the same two endpoints as one would write them at first, FastAPI with pydantic models in and out.

It knows the answers already (a file of them) and only sets the age, so nothing but the framework is compared; a report
is validated and folded into a matrix of moving averages. Started as a process of its own.
"""

from __future__ import annotations

import hmac
import json
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from probes.wire import ProbeReport
from router.schemas.routes import Route

BEARER = HTTPBearer()
SHARE = 0.2  # of a new value in the average


def make_app(answers: dict[tuple[str, str], dict[str, Any]], key: str, nodes: dict[str, int]) -> FastAPI:
    """The app around answers by (from, to)."""
    app = FastAPI()
    average = np.zeros((len(nodes), len(nodes)))
    started = time.time()

    def admit(given: Annotated[HTTPAuthorizationCredentials, Depends(BEARER)]) -> None:
        if not hmac.compare_digest(given.credentials, key):
            raise HTTPException(401)

    @app.get("/v1/routes/{source}/{target}", response_model=Route, dependencies=[Depends(admit)])
    async def route(source: str, target: str, traffic_class: str = "voice", policy: str | None = None) -> Route:
        found = answers.get((source, target))
        if found is None:
            raise HTTPException(404)
        return Route(**(found | {"age_ms": (time.time() - started) * 1000}))

    @app.post("/v1/reports", dependencies=[Depends(admit)])
    async def report(report: ProbeReport) -> dict[str, int]:
        source = nodes[report.node]
        peers = [nodes[peer] for peer in report.rows.peer]
        row = average[source]
        row[peers] += SHARE * (np.array(report.rows.rtt_min_us) - row[peers])
        return {"plan_version": 1}

    return app


def main() -> None:
    """Serve ``answers.json`` of the folder named on the command line; says the port on standard output."""
    told = json.loads((Path(sys.argv[1]) / "answers.json").read_text())
    answers = {(one["from"], one["to"]): one for one in told["answers"]}
    app = make_app(answers, told["key"], {node: i for i, node in enumerate(told["nodes"])})
    taken = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    print(taken.getsockname()[1], flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")
    uvicorn.Server(config).run([taken])


if __name__ == "__main__":
    main()
