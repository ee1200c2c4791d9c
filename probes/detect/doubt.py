"""Is it me: a node all of whose first hops go bad at once should look at its own uplink first. PURE.

One fault that takes most of a node's links down within a moment is far likelier to be the node's own interface, host or
data center than that many remote ones. A node in doubt moves nothing away from a path unless the other path answers:
a backup that was heard since the doubt began (``since_us``) is better than a path that is silent, one that was not is
no better.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from probes.detect.machine import Verdict

LEAST_LINKS = 4  # with fewer, two remote faults at once are no rarity
MOST_SHARE = 2 / 3  # of the first hops not up: doubt begins
CALM_SHARE = 1 / 3  # and ends
AT_ONCE_US = 3_000_000  # longer apart, they have not one cause: detectors of slow links need their time


class SelfDoubt:
    """Follows the verdicts of a node's first hops."""

    __slots__ = ("_bad_since", "_links", "since_us")

    def __init__(self) -> None:
        self._links: dict[Hashable, None] = {}
        self._bad_since: dict[Hashable, int] = {}
        self.since_us: int | None = None  # when the doubt began, ``None`` without one

    def follow(self, links: Iterable[Hashable]) -> None:
        """The node's first hops from now on."""
        self._links = dict.fromkeys(links)
        self._bad_since = {link: at for link, at in self._bad_since.items() if link in self._links}

    def saw(self, link: Hashable, verdict: Verdict, now_us: int) -> None:
        """A first hop's verdict changed."""
        if link not in self._links:
            return
        if verdict is Verdict.UP:
            self._bad_since.pop(link, None)
        else:
            self._bad_since.setdefault(link, now_us)
        self._judge(now_us)

    def _judge(self, now_us: int) -> None:
        known, bad = len(self._links), len(self._bad_since)
        if self.since_us is not None:
            if bad <= CALM_SHARE * known:
                self.since_us = None
            return
        together = sum(now_us - at <= AT_ONCE_US for at in self._bad_since.values())
        if known >= LEAST_LINKS and together > MOST_SHARE * known:
            self.since_us = min(at for at in self._bad_since.values() if now_us - at <= AT_ONCE_US)
