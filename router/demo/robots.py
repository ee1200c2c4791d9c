"""Robots of the demo world: users who call for data centers that are ``synthetic``, and tell how it went.

They are what an operator runs beside a media server of its own: each asks for an errand, connects to the edge it was
given, talks until its agent has answered, and says so. A call takes about a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from router.demo.control import ControlClient
from router.demo.user import User

LOOK_S = 3.0  # between two looks for ramps that want robots
PAUSE_S = 0.2  # between two calls of one robot
HEARD_WITHIN_S = 4.0  # shorter than a session waits for its user, so that whatever happened can be told


class Robots:
    """Several robots that call at the same time while some ramp wants calls."""

    def __init__(self, control: ControlClient, users: Sequence[User]) -> None:
        self._control = control
        self._users = tuple(users)
        self._wanted: tuple[str, ...] = ()
        self.told = 0

    def close(self) -> None:
        """Free the ports."""
        for user in self._users:
            user.close()

    async def run(self) -> None:
        """Look and call until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            for user in self._users:
                group.create_task(self._calls(user))

    async def _look(self) -> None:
        while True:
            reply = await self._control.call("GET", "/v1/ramps")
            if reply is not None and reply.ok:
                self._wanted = tuple(_wanting(reply.body["items"]))
            await asyncio.sleep(LOOK_S)

    async def _calls(self, user: User) -> None:
        number = 0
        while True:
            wanted = self._wanted
            if wanted:
                number += 1
                await self.call(user, wanted[number % len(wanted)])
            await asyncio.sleep(PAUSE_S if wanted else LOOK_S)

    async def call(self, user: User, ramp: str) -> None:
        """One robot's call, told to the ramp."""
        session, why = await user.reach(f"/v1/ramps/{ramp}/calls", HEARD_WITHIN_S)
        if session:
            body = {"heard": not why, "detail": why}
            reply = await self._control.call("POST", f"/v1/ramps/{ramp}/calls/{session}", body)
            self.told += reply is not None and reply.ok
            await user.hang_up()
            user.leave()


def _wanting(ramps: Iterable[dict[str, object]]) -> Iterable[str]:
    return (str(ramp["id"]) for ramp in ramps if ramp["state"] == "synthetic")
