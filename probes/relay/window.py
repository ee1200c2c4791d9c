"""Which copy of a numbered packet is the first. PURE."""

from __future__ import annotations

WIDTH = 1_024  # packets: at 50 a second 20 s, at 1,000 a second one; no two paths differ by more
_MASK = (1 << WIDTH) - 1
_HALF, _ALL = 1 << 31, (1 << 32) - 1


class Window:
    """The numbers of one flow that were taken: the highest and a bit for each of the ``WIDTH`` below it.

    Numbers are 32 bits wide and compared by serial arithmetic (RFC 1982). One that is too old for the window counts as
    taken: of media that late a second copy would do more harm than a missing one.
    """

    __slots__ = ("_bits", "_highest")

    def __init__(self) -> None:
        self._highest = -1
        self._bits = 0

    def take(self, number: int) -> bool:
        """Whether this is the first copy."""
        if self._highest < 0:
            self._highest, self._bits = number, 1
            return True
        ahead = (number - self._highest) & _ALL
        if 0 < ahead < _HALF:
            self._bits = ((self._bits << ahead) & _MASK if ahead < WIDTH else 0) | 1
            self._highest = number
            return True
        behind = -ahead & _ALL
        if behind >= WIDTH or self._bits >> behind & 1:
            return False
        self._bits |= 1 << behind
        return True
