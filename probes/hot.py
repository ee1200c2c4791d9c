"""Probes along the paths that carry something: end to end, through their relays, at the reaction plan's pace.

A probe of a path is a plain STAMP packet inside a relay packet that the last relay delivers to its own node's
reflector. It leaves by the same sockets as all probes, sealed with this node's keys, or open where there are none. The
paths and their intervals come from the reflex, and change with the routes in use.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

from probes.choice import Choice, PathKey
from probes.evidence import Evidence, Watch
from probes.reflex import Reflex
from probes.relay import Keyring, RelayError, RelayHeader
from probes.sockets import ProbeSender, Target
from probes.sockets.kernel import monotonic_us, wall_ns
from probes.stamp import AUTHENTICATED_SIZE, BASE_SIZE
from probes.summary import Summary

BUSY_REFRESH_US = 100_000  # how soon a further route that comes into use is probed
LEAST_REFRESH_US = 20_000  # and a path that a verdict has made important
IDLE_REFRESH_US = 500_000
MAX_PATHS = 256  # probed at once; routes in use beyond it rely on the probes to their first hops
_MAGIC = b"TR"


class Envelopes:
    """Puts probes into relay packets and takes answers out of them."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def wrap(self, choice: Choice, probe: bytes) -> bytes:
        """The packet to send to the first hop; sealed if there is a key for it."""
        return self.along(choice.key, choice.reflector_port, probe)

    def along(self, hops: PathKey, reflector_port: int, probe: bytes) -> bytes:
        """The same for any path: relays as host and port, the last one delivers."""
        try:
            return self._keyring.wrap(hops, reflector_port, probe, wall_ns() // 1_000)
        except RelayError:
            return RelayHeader.wrap(hops, reflector_port, probe)

    def unwrap(self, packet: bytes) -> bytes:
        """The reply inside an answer; a reply that came without envelope as it is. Raises :class:`RelayError`."""
        if len(packet) in (BASE_SIZE, AUTHENTICATED_SIZE) or packet[:2] != _MAGIC:
            return packet
        if packet[2:3] == b"\x01":
            header, payload = RelayHeader.decode(packet)
            if not header.answer or header.index != len(header.hops) - 1:
                raise RelayError("not an answer that has arrived")
            return payload
        return self._keyring.unwrap(packet, monotonic_us() * 1_000, wall_ns() // 1_000)


class HotPaths:
    """Keeps the targets of the paths in use, and sends what is due. ``retarget`` is called when they have changed."""

    def __init__(
        self,
        reflex: Reflex,
        evidence: Evidence,
        envelopes: Envelopes,
        rng: random.Random,
        ssid: Callable[[PathKey], int],
        retarget: Callable[[], None],
    ) -> None:
        self.targets: dict[PathKey, Target] = {}
        self.summary = Summary()
        self.counters: Counter[str] = Counter()
        self._reflex = reflex
        self._evidence = evidence
        self._envelopes = envelopes
        self._rng = rng
        self._ssid = ssid
        self._retarget = retarget
        self._key_of: dict[int, PathKey] = {}
        self._aimed: dict[PathKey, Choice | None] = {}  # what the targets were made of
        self._intervals: dict[PathKey, int] = {}
        self._slots: dict[PathKey, int] = {}
        self._refresh_us = 0
        self._refreshed_us = 0
        self._changes = -1  # of the reflex, when the routes in use were looked at last

    def next_at(self) -> int:
        """When the next probe is due, or the routes in use are to be looked at again."""
        return min([self._refresh_at(), *self._slots.values()])

    def _refresh_at(self) -> int:
        if self._reflex.changes == self._changes:
            return self._refresh_us
        return min(self._refresh_us, self._refreshed_us + LEAST_REFRESH_US)

    def due(self, now_us: int, sender: ProbeSender, spend: Callable[[], bool]) -> None:
        """Send what is due; ``spend`` asks the budget for one packet."""
        if now_us >= self._refresh_at():
            self._refresh(now_us)
        for key, slot_us in list(self._slots.items()):
            if slot_us > now_us:
                continue
            interval_us = self._intervals[key]
            self._slots[key] = slot_us + interval_us * ((now_us - slot_us) // interval_us + 1)
            watch = self._evidence.path(key)
            if watch is None:
                continue
            if now_us < watch.passive_until_us:
                self.counters["suppressed"] += 1
            elif spend():
                self.send(watch, sender, watch.detector.next_port(), now_us)
            else:
                self.counters["over_budget"] += 1
        self.summary.expire(now_us)

    def send(self, watch: Watch, sender: ProbeSender, port_index: int, now_us: int) -> None:
        """Send one probe along a path."""
        target = self.targets.get(watch.path or ())
        if target is None:
            return
        sequence = sender.send(target, port_index)
        if sequence is not None:
            self.counters["sent"] += 1
            self._evidence.sent(watch, sequence, now_us, port_index)

    def follow(self, timeout_us: int) -> None:
        """Take over a plan's timeout; names and keys may have changed, so every target is made anew.

        Session ids stay, so that answers to what is under way still count.
        """
        self.summary.timeout_us = timeout_us
        self._aim(self._intervals)

    def watch_of(self, target: Target) -> Watch | None:
        """The watch of the path that a target belongs to."""
        key = self._key_of.get(target.ssid)
        return None if key is None or self.targets.get(key) is not target else self._evidence.path(key)

    def _refresh(self, now_us: int) -> None:
        self._refreshed_us, self._changes = now_us, self._reflex.changes
        hot = self._reflex.hot(now_us)
        if len(hot) > MAX_PATHS:
            fastest = sorted(hot, key=lambda key: hot[key])[:MAX_PATHS]
            hot = {key: hot[key] for key in fastest}
        self._refresh_us = now_us + (BUSY_REFRESH_US if hot else IDLE_REFRESH_US)
        for key, interval_us in hot.items():
            if self._intervals.get(key) != interval_us:
                self._slots[key] = now_us + self._rng.randrange(interval_us)
        self._slots = {key: self._slots[key] for key in hot}
        self._intervals = hot
        aimed = {key: self._reflex.choice(key) for key in hot}
        if aimed != self._aimed:
            self._aim(aimed)
            self._retarget()
        self._evidence.watch_paths(hot)

    def _aim(self, keys: Iterable[PathKey]) -> None:
        """Make the targets of paths; those that cannot be used are tried again when a plan or the paths change."""
        self._aimed = {key: self._reflex.choice(key) for key in keys}
        made = {key: self._target(key, choice) for key, choice in self._aimed.items() if choice is not None}
        self.targets = {key: target for key, target in made.items() if target is not None}
        self._key_of = {target.ssid: key for key, target in self.targets.items()}
        self.summary.retain(set())

    def _target(self, key: PathKey, choice: Choice) -> Target | None:
        try:
            self._envelopes.wrap(choice, bytes(BASE_SIZE))
        except RelayError:
            self.counters["unusable"] += 1  # the plan names a relay by a name, or mixes address families
            return None
        row = self.summary.row(">".join(f"{host}:{port}" for host, port in key), "path")
        return Target(row, key[0], self._ssid(key), wrap=lambda probe: self._envelopes.wrap(choice, probe))
