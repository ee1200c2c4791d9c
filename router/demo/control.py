"""How the demo world's media side talks to the control plane: one shared connection pool, no exceptions for weather.

A dead or restarting control plane is an expected outcome here (``None``), because calls go on without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

TIMEOUT_S = 3.0
MAX_CONNECTIONS = 3  # the pool polls every idle connection for every request: more of them cost more than they give


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and parsed JSON body of an answered call; ``code`` is the problem's code when it was refused."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the call was carried out."""
        return self.status < 300

    @property
    def code(self) -> str:
        """Stable code of the problem, or the status when the body has none."""
        return str(self.body.get("code", self.status))


class ControlClient:
    """Asynchronous calls to the contract's HTTP API with one key."""

    def __init__(self, url: str, key: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.unreachable = 0
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_S,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=30.0),
        )

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Reply | None:
        """Make one call; ``None`` when the control plane did not answer."""
        try:
            response = await self._http.request(method, path, json=body, headers=headers or None)
        except httpx.HTTPError:
            self.unreachable += 1
            return None
        return Reply(response.status_code, _parsed(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _parsed(response: httpx.Response) -> dict[str, Any]:
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {"items": body}
