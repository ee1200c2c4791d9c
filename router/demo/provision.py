"""What an operator would do for a fresh world, done through the public API: inventory, a media key, join tokens.

Everything is idempotent: on old state nothing changes, and only nodes whose key the control plane does not know (any
more) get a new token. That includes the day when somebody deletes the database under a running world.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from probes.state import StateDir, StateError
from router.core.errors import Unavailable
from router.demo import fleet_of_world
from router.demo.control import ControlClient, Reply
from router.demo.ground import write_private
from router.demo.world import World, WorldNode

TOKEN_LIFE_S = 3_600
READY_WITHIN_S = 60.0
AT_ONCE = 8  # calls in flight while checking identities and minting tokens


class Provisioner:
    """Prepares one control plane for one world."""

    def __init__(self, control: ControlClient, world: World, folder: Path) -> None:
        self._control = control
        self._world = world
        self.agents_dir = folder / "agents"
        self.tokens_file = folder / "join-tokens.json"
        self.media_key_file = folder / "media.key"

    async def apply_inventory(self) -> int:
        """Declare the world's machines; returns how many resources changed."""
        reply = await self._must("POST", "/v1/fleet", fleet_of_world.fleet(self._world))
        return len(reply.body.get("changes", ()))

    async def make_media_key(self) -> bool:
        """Make sure the key file of the media side holds a key that works; true when it is a new one."""
        if self.media_key_file.exists():
            text = self.media_key_file.read_text(encoding="utf-8").strip()
            reply = await self._control.call("GET", "/v1/pools", Authorization=f"Bearer {text}")
            if reply is not None and reply.ok:
                return False
        reply = await self._must("POST", "/v1/keys", {"scope": "media", "name": "demo media edges"})
        write_private(self.media_key_file, f"{reply.body['key']}\n")
        return True

    async def make_join_tokens(self) -> int:
        """Write the token file; returns how many nodes need to join (again)."""
        places = [(dc.id, node) for dc in self._world.data_centers for node in dc.nodes]
        limit = asyncio.Semaphore(AT_ONCE)
        tokens: dict[str, str] = {}

        async def look_at(data_center: str, node: WorldNode) -> None:
            async with limit:
                if await self._is_known(node):
                    return
                path = f"/v1/data-centers/{data_center}/join-tokens"
                reply = await self._must("POST", path, {"expires_in_s": TOKEN_LIFE_S})
                tokens[node.id] = reply.body["token"]

        await asyncio.gather(*(look_at(dc, node) for dc, node in places))
        write_private(self.tokens_file, json.dumps(dict(sorted(tokens.items()))))
        return len(tokens)

    async def _is_known(self, node: WorldNode) -> bool:
        """Whether the node's key is one that the control plane accepts; without its answer it counts as known."""
        try:
            identity = StateDir(self.agents_dir / node.id).load_identity(node.id)
        except StateError:
            (self.agents_dir / node.id / "identity.json").unlink(missing_ok=True)  # damaged: it must join again
            return False
        if identity is None:
            return False
        reply = await self._control.call("GET", f"/v1/nodes/{node.id}/plan", Authorization=f"Bearer {identity.key}")
        return reply is None or reply.status not in (401, 403, 404)

    async def _must(self, method: str, path: str, body: object) -> Reply:
        reply = await self._control.call(method, path, body)
        if reply is None:
            raise Unavailable("control_plane_unreachable", f"{method} {path}: the control plane does not answer")
        if not reply.ok:
            raise Unavailable(reply.code, f"{method} {path}: {reply.status} {reply.body.get('detail', reply.body)}")
        return reply


def answers(url: str, within_s: float = READY_WITHIN_S) -> Callable[[], Awaitable[None]]:
    """Return a coroutine function that waits until ``GET url`` is answered with 200."""

    async def wait() -> None:
        deadline = time.monotonic() + within_s
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            while True:
                try:
                    response = await client.get(url)
                    if response.status_code == httpx.codes.OK:
                        return
                    said = f"status {response.status_code}"
                except httpx.HTTPError as error:
                    said = str(error) or type(error).__name__
                if time.monotonic() > deadline:
                    raise Unavailable("not_ready", f"{url} did not answer 200 within {within_s:.0f} s ({said})")
                await asyncio.sleep(0.1)

    return wait
