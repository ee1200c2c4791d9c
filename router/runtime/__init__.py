"""asyncio shell around the core: inbox, clock, timers, effects, flight recorder, live stream."""

from router.runtime.recorder import FlightRecorder, Replay, replay
from router.runtime.shell import Runtime, RuntimeOptions, system_clock
from router.runtime.stream import Stream, StreamItem

__all__ = [
    "FlightRecorder",
    "Replay",
    "Runtime",
    "RuntimeOptions",
    "Stream",
    "StreamItem",
    "replay",
    "system_clock",
]
