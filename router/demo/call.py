"""``tendril demo call``: one extra user who talks to an AI agent through the emulated network, from this terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import httpx

from providers import catalog
from router.core.errors import InputRejected, Unavailable
from router.demo import fleet_of_world
from router.demo.control import ControlClient
from router.demo.people import HOMES, EmulatorUnreachable, settle
from router.demo.user import Home, User

LINE_S = 1.0
FIRST_ANSWER_S = 20.0


def home_of(country: str | None, latitude: float | None, longitude: float | None) -> Home:
    """Where the caller is: given coordinates, or a known city of the country. Raises :class:`InputRejected`."""
    if latitude is not None and longitude is not None:
        return Home("here", (country or "").upper(), latitude, longitude)
    if (latitude is None) != (longitude is None):
        raise InputRejected("bad_position", "--lat and --lon must be given together", field="--lat")
    wanted = (country or "KZ").upper()
    for home in HOMES:
        if home.country == wanted:
            return home
    for region in catalog.load():
        if region.country == wanted:
            return Home(region.city, wanted, region.latitude, region.longitude)
    rule = "must be a country with a known city, or be given with --lat and --lon"
    raise InputRejected("unknown_country", f"{wanted}: {rule}", field="--country", rule=rule)


async def conduct(
    note: Mapping[str, str], key: str, home: Home, seconds: float | None, show: Callable[[User], None]
) -> dict[str, object]:
    """Make one call, ``show`` it every second, and return what its packets say about it at the end."""
    id = f"call-{os.getpid()}-{int(time.time()) % 100_000}"
    control = ControlClient(note["url"], key)
    try:
        host = await settle(note["emulator_url"], id, home)
    except EmulatorUnreachable as error:
        raise Unavailable("emulator_unreachable", str(error)) from error
    user = User(id, home, host, control, fleet_of_world.POOL)
    try:
        return await _talk(user, seconds, show)
    finally:
        user.close()
        await control.close()
        async with httpx.AsyncClient(base_url=note["emulator_url"], trust_env=False, timeout=5.0) as client:
            with suppress(httpx.HTTPError):  # the emulator is gone, and the user with it
                await client.delete(f"/users/{id}")


async def _talk(user: User, seconds: float | None, show: Callable[[User], None]) -> dict[str, object]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    call = asyncio.create_task(user.call())
    began, ends_at = time.monotonic(), None
    while not stop.is_set() and not call.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LINE_S)
        now = time.monotonic()
        if user.conversation.answers and ends_at is None and seconds is not None:
            ends_at = now + seconds
        if ends_at is not None and now >= ends_at:
            break
        if not user.conversation.answers and now - began > FIRST_ANSWER_S:
            break
        show(user)
    summary = user.summary() | {"placement": user.placement}
    await user.hang_up()
    with suppress(asyncio.CancelledError):
        await asyncio.wait({call}, timeout=5.0)
    call.cancel()
    if not user.conversation.answers:
        raise Unavailable("no_call", user.problem or "no answer from the agent was heard")
    return summary
