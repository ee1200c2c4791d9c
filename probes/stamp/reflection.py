"""The stateful Session-Reflector: bytes in, bytes or a named refusal out; no socket and no clock of its own. PURE.

A session is (sender's address, SSID). It keeps the reflector's own sequence counter, which gives losses a direction,
and the sequence and stamp of its last reply for Follow-Up Telemetry. The longest unused session goes first; strangers,
who can make up as many as they like, push out only strangers.

Restarts. A sender that starts again should take a new SSID or port. One that does not is recognised by a sequence
number far behind the newest (serial-number arithmetic), and its session starts again with sequence 0.

Authenticated and not. The key of an authenticated request follows from its SSID: the upper 12 bits name the sender's
key (:mod:`probes.keys`), so the reflector needs no list of senders and does not care which address a packet comes from.
A session that has been authenticated takes no unauthenticated requests until it has been quiet for a while, so nobody
else can turn its counters. Replays are refused in authenticated mode: each sequence number is answered once within a
window; a number answered already, or behind the window, is a sender's restart if its T1 is younger than any before or
the session has been quiet, and else a replay.

Unauthenticated requests are answered unless the reflector is told to be closed: a reflector is then useful to routers
and to any TWAMP Light sender, and sends no more than it gets. How much that is, the caller bounds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from probes.keys import derive
from probes.stamp import tlv
from probes.stamp.errors import (
    FromReflectorError,
    PacketError,
    ReplayedError,
    TooLongError,
    UnauthenticatedError,
    WrongKeyError,
)
from probes.stamp.flows import Flow
from probes.stamp.key import Key
from probes.stamp.ntp import ErrorEstimate, micros_to_ntp
from probes.stamp.packet import (
    AUTHENTICATED_SIZE,
    BASE_SIZE,
    REQUEST,
    SERIAL_MASK,
    SIGNED_REQUEST,
    check,
    pack_reflector,
    padded,
    serial_distance,
    sign_reply,
)

Address = tuple[str, int]

MAX_SESSIONS = 8_192
MAX_PACKET = 2_048  # longer ones are nobody's probes
REPLAY_WINDOW = 1_024  # sequence numbers; more packets than this are never on their way at once
QUIET_US = 10_000_000  # after this long a session may start again in any way: its owner may have lost clock and memory
KEY_ID_SHIFT = 4  # an authenticated SSID is the key's id and four bits of the sender's choice
DEFAULT_ERROR_ESTIMATE = ErrorEstimate.of_micros(1_000_000).encode()  # S clear, a second: promises nothing
_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1
_HALF = 1 << 31
_BEHIND = (1 << 32) - REPLAY_WINDOW
_ZEROS = bytes(12)
_STAMP_MASK, _HALF_STAMP = (1 << 64) - 1, 1 << 63


class _Session:
    __slots__ = ("answered_us", "newest", "newest_t1", "sequence", "stamp", "stamp_sequence", "window")

    def __init__(self, newest: int) -> None:
        self.sequence = 0  # of the next reply
        self.newest = newest  # newest sequence number of the sender
        self.newest_t1 = 0
        self.window = 0  # authenticated: bit i is set if newest - i has been answered
        self.answered_us = 0
        self.stamp_sequence = 0  # the last reply's
        self.stamp = 0  # when that left, raw; 0 before the first


_Sessions = OrderedDict[tuple[Address, int], _Session]


def _quiet(session: _Session, now_us: int) -> bool:
    """Whether an authenticated session has had no answer for long; a clock that stepped back counts as that too."""
    return not 0 <= now_us - session.answered_us < QUIET_US


class Reflection:
    """Answers requests; see the module for what it keeps. Counting refusals and bounding rates is the caller's."""

    def __init__(
        self,
        *,
        own_port: int = 0,
        error_estimate: int = DEFAULT_ERROR_ESTIMATE,
        closed: bool = False,
        max_sessions: int = MAX_SESSIONS,
        dscp: int = 0,
        flow_of: Callable[[str], Flow | None] | None = None,
    ) -> None:
        self.error_estimate = error_estimate
        self.stamping = tlv.TimestampInformation(tlv.SYNC_LOCAL, tlv.SOFTWARE, tlv.SYNC_LOCAL, tlv.SOFTWARE)
        self.closed = closed  # whether only authenticated requests are answered
        self._own_port = own_port
        self._max_sessions = max_sessions
        self._dscp = dscp  # that replies are sent with
        self._flow_of = flow_of
        self._sessions: _Sessions = OrderedDict()  # unauthenticated ones, least recently used first
        self._signed: _Sessions = OrderedDict()  # authenticated ones
        self._reflectors: frozenset[Address] = frozenset()
        self._own_keys: tuple[bytes, ...] = ()  # the present one first
        self._keys: dict[int, list[Key]] = {}  # by id: at most 4,096; one for each own key

    @property
    def sessions(self) -> int:
        """How many sessions are remembered."""
        return len(self._sessions) + len(self._signed)

    def trust(self, own_key: bytes, also: Iterable[bytes] = ()) -> None:
        """Derive the keys of senders from these keys of the node from now on; empty: nothing can be authenticated.

        Requests made with ``also`` are taken, and answered with the same.
        """
        own_keys = tuple(key for key in (own_key, *also) if key)
        if own_keys != self._own_keys:
            self._own_keys, self._keys = own_keys, {}

    def refuse(self, reflectors: Iterable[Address]) -> None:
        """Name other reflectors; packets from them are never answered."""
        self._reflectors = frozenset(reflectors)

    def answer(
        self, packet: bytes, address: Address, received_us: int, transmitted_us: int, ttl: int, traffic_class: int = -1
    ) -> bytes:
        """Reply to a request, of the same length; ``traffic_class`` is the IP header's byte, -1 if unreadable.

        Times are microseconds since the Unix epoch on this node's clock. Raises :class:`PacketError`.
        """
        if address[1] == self._own_port or address in self._reflectors:
            raise FromReflectorError("it comes from a reflector")
        size = len(packet)
        if size != BASE_SIZE:
            if size > MAX_PACKET:
                raise TooLongError(f"a packet has at most {MAX_PACKET} bytes, this has {size}")
            base = padded(packet) if size < BASE_SIZE else packet
        else:
            base = packet
        if not base[13]:
            return self._answer_signed(packet, address, received_us, transmitted_us, ttl, traffic_class)
        if self.closed:
            raise UnauthenticatedError("only authenticated requests are answered")
        sender_sequence, t1, estimate, ssid = REQUEST.unpack_from(base)
        name = (address, ssid)
        session = self._sessions.get(name)
        if session is None:
            session = self._begin_unsigned(name, sender_sequence, received_us)
        else:
            self._sessions.move_to_end(name)
            ahead = (sender_sequence - session.newest) & SERIAL_MASK
            if ahead < _HALF:
                session.newest = sender_sequence
            elif ahead <= _BEHIND:
                session = self._begin(self._sessions, name, sender_sequence)
        sequence, transmitted = session.sequence, micros_to_ntp(transmitted_us)
        session.sequence = (sequence + 1) & SERIAL_MASK
        reply = pack_reflector(sequence, transmitted, self.error_estimate, ssid, micros_to_ntp(received_us),
                               sender_sequence, t1, estimate, ttl)  # fmt: skip
        if size > BASE_SIZE:
            reply += self._extend(packet[BASE_SIZE:], session, self._key_of(ssid), address,
                                  (sender_sequence, sequence), traffic_class)  # fmt: skip
        session.stamp_sequence, session.stamp = sequence, transmitted
        return reply[:size] if size < BASE_SIZE else reply

    def transmitted(self, address: Address, ssid: int, t3_us: int, sequence: int | None = None) -> None:
        """Say when the session's last reply (or that one, if it still is the last) really left: the kernel's stamp."""
        session = self._signed.get((address, ssid)) or self._sessions.get((address, ssid))
        if session is not None and session.stamp and sequence in (None, session.stamp_sequence):
            session.stamp = micros_to_ntp(t3_us)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def _begin(self, sessions: _Sessions, name: tuple[Address, int], newest: int) -> _Session:
        if name not in sessions and len(sessions) >= self._max_sessions:
            sessions.popitem(last=False)
        session = sessions[name] = _Session(newest)
        sessions.move_to_end(name)
        return session

    def _begin_unsigned(self, name: tuple[Address, int], newest: int, received_us: int) -> _Session:
        """A new unauthenticated session, unless it is an authenticated one's. Raises :class:`UnauthenticatedError`."""
        signed = self._signed.get(name)
        if signed is not None:
            if not _quiet(signed, received_us):
                raise UnauthenticatedError("this session is authenticated")
            del self._signed[name]
        return self._begin(self._sessions, name, newest)

    # --- authenticated mode ------------------------------------------------------------------------------------------

    def _answer_signed(
        self, packet: bytes, address: Address, received_us: int, transmitted_us: int, ttl: int, traffic_class: int
    ) -> bytes:
        if len(packet) < AUTHENTICATED_SIZE or packet[4:16] != _ZEROS or not packet[25]:
            raise PacketError("an error estimate with multiplier 0 is invalid")
        sender_sequence, t1, estimate, ssid = SIGNED_REQUEST.unpack_from(packet)
        key = self._key_of(ssid)
        if key is None:
            raise WrongKeyError("this node has no key")
        try:
            check(key, packet)
        except WrongKeyError:
            key = self._other_key(ssid, packet)
        session = self._admit((address, ssid), sender_sequence, t1, received_us)
        sequence, transmitted = session.sequence, micros_to_ntp(transmitted_us)
        session.sequence = (sequence + 1) & SERIAL_MASK
        reply = sign_reply(key, sequence, transmitted, self.error_estimate, ssid, micros_to_ntp(received_us),
                           sender_sequence, t1, estimate, ttl)  # fmt: skip
        if len(packet) > AUTHENTICATED_SIZE:
            reply += self._extend(packet[AUTHENTICATED_SIZE:], session, key, address, (sender_sequence, sequence),
                                  traffic_class, signed=True)  # fmt: skip
        session.stamp_sequence, session.stamp = sequence, transmitted
        return reply

    def _key_of(self, ssid: int) -> Key | None:
        """The present key of whoever may use that session id."""
        identity = ssid >> KEY_ID_SHIFT
        keys = self._keys.get(identity)
        if keys is None:
            if not self._own_keys:
                return None
            keys = self._keys[identity] = [Key(derive(own_key, identity)) for own_key in self._own_keys]
        return keys[0]

    def _other_key(self, ssid: int, packet: bytes) -> Key:
        """The key of another period that a request was made with. Raises :class:`WrongKeyError`."""
        for key in self._keys[ssid >> KEY_ID_SHIFT][1:]:
            try:
                check(key, packet)
            except WrongKeyError:
                continue
            return key
        raise WrongKeyError("the HMAC does not fit the key")

    def _admit(self, name: tuple[Address, int], sequence: int, t1: int, received_us: int) -> _Session:
        """The session of a verified request, with the request entered in it. Raises :class:`ReplayedError`."""
        session = self._signed.get(name)
        if session is None:
            session = self._begin(self._signed, name, sequence)
            self._sessions.pop(name, None)
        ahead = serial_distance(sequence, session.newest)
        if ahead > 0:
            session.window = (session.window << min(ahead, REPLAY_WINDOW)) & _WINDOW_MASK
            session.newest = sequence
        elif -ahead >= REPLAY_WINDOW or session.window >> -ahead & 1:
            younger = 0 < (t1 - session.newest_t1) & _STAMP_MASK < _HALF_STAMP
            if not younger and not _quiet(session, received_us):
                raise ReplayedError("it has been answered before")
            session = self._begin(self._signed, name, sequence)
        if sequence == session.newest:
            session.newest_t1 = t1
        session.window |= 1 << serial_distance(session.newest, sequence)
        session.answered_us = received_us
        self._signed.move_to_end(name)
        return session

    # --- extensions --------------------------------------------------------------------------------------------------

    def _extend(
        self,
        raw: bytes,
        session: _Session,
        key: Key | None,
        address: Address,
        sequences: tuple[int, int],
        traffic_class: int,
        *,
        signed: bool = False,
    ) -> bytes:
        def fill(kind: int, value: bytes) -> bytes | None:
            if kind == tlv.FOLLOW_UP:
                method = self.stamping.method_out if session.stamp else 0
                return tlv.FollowUp(session.stamp_sequence, session.stamp, method).tlv().value
            if kind == tlv.TIMESTAMP_INFORMATION:
                return self.stamping.tlv().value
            if kind == tlv.CLASS_OF_SERVICE and traffic_class >= 0:
                wanted = tlv.ClassOfService.decode(value).dscp_wanted
                refused = int(wanted != self._dscp)
                return tlv.ClassOfService(wanted, traffic_class >> 2, traffic_class & 3, refused).tlv().value
            if kind == tlv.DIRECT_MEASUREMENT and self._flow_of and (flow := self._flow_of(address[0])):
                sent = tlv.DirectMeasurement.decode(value).sent
                return tlv.DirectMeasurement(sent, flow.received & SERIAL_MASK, flow.sent & SERIAL_MASK).tlv().value
            return None

        return tlv.answer(raw, fill, key, sequences, signed=signed)
