"""Heads of plain requests, remembered by their bytes: a node sends the same one with every report, but for its length.

What a head says follows from its bytes alone, except whether its key is still good, which :meth:`Asked.admitted` asks
again after every change of the keys. Only heads of requests that were answered are remembered, so that strangers cannot
fill the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.api.hot import Asked, PlainPath

END = b"\r\n\r\n"
MOST_HEADS = 4_096  # a dozen lengths of each of 300 nodes; then all are forgotten and learned anew


@dataclass(frozen=True, slots=True)
class Head:
    """Where a request goes, and what it says without its body."""

    plain: PlainPath
    asked: Asked
    length: int  # of the body


class Heads:
    """The heads that one app remembers."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head of a whole request and its body; ``None`` if it is not known, or these bytes are not just that."""
        end = data.find(END) + len(END)
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def learn(self, data: bytes, head: Head) -> None:
        """Remember the head of a whole request."""
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        self._known[data[: len(data) - head.length]] = head
