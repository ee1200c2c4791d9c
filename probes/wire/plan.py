"""Whom a node probes: the plan. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from probes.wire.check import (
    WIRE_VERSION,
    WireError,
    check_version,
    integer,
    listed,
    record_of,
    string,
    text_in,
    texts,
)
from probes.wire.report import MAX_RAW_US, MAX_ROWS

TIERS = ("hot", "warm", "cold")  # carries sessions; a likely alternative; everything else
MAX_WEIGHT = 1_000_000
MAX_KEY_ID = 4_095  # the upper 12 bits of a STAMP session id
KINDS = ("icmp", "tcp")
MAX_CHECK_HOPS = 4
MAX_OWN_KEYS = 4


@dataclass(frozen=True, slots=True)
class PlanPeer:
    """One peer to probe over one transport."""

    node: str
    data_center: str
    transport: str
    host: str
    reflector_port: int
    relay_port: int  # 0: that peer does not relay
    interval_us: int  # one probe per interval
    tier: str = "cold"
    weight: int = 0  # value of one probe more, relative to the other peers; 0 to ``MAX_WEIGHT``
    key_id: int = 0  # names ``key`` to that peer: 0 to ``MAX_KEY_ID``
    # 64 hex digits, :func:`probes.keys.derive` of the peer's own key; "": nothing is authenticated
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlanRelay:
    """A relay that packets may be handed to although its node is not probed."""

    node: str
    host: str
    relay_port: int
    key_id: int = 0  # as in :class:`PlanPeer`
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """A path to try: probes go over these relays, and the last one delivers them to its own node's reflector."""

    name: str  # what the report calls it
    hosts: tuple[str, ...]  # of the relays, in order
    ports: tuple[int, ...]
    reflector_port: int  # of the last one's node
    interval_us: int


@dataclass(frozen=True, slots=True)
class PlanVantage:
    """A machine in somebody else's network whose round trip is measured with echo requests or TCP handshakes."""

    target: str
    kind: str
    host: str
    port: int  # 0 for icmp
    asn: int  # 0: not known
    country: str  # "": not known
    interval_us: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What a node may send; 0 is no limit of that kind beyond the agent's own. The agent enforces it."""

    packets_per_s: int = 0
    bytes_per_s: int = 0
    monthly_bytes: int = 0
    reserve_ppm: int = 150_000  # of the packets, kept for confirm bursts


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """Whom a node probes, how often, and until when the plan is fresh (an expired plan is still followed, aged)."""

    node: str
    data_center: str
    plan_version: int
    issued_at_us: int
    expires_at_us: int
    report_interval_us: int
    timeout_us: int  # an unanswered probe is overdue, and counted as lost, after this
    peers: tuple[PlanPeer, ...] = ()
    version: int = WIRE_VERSION
    budget: Budget = field(default_factory=Budget)
    floor_interval_us: int = 0  # every peer is probed at least this often, whatever its weight; 0: its own interval
    vantage: tuple[PlanVantage, ...] = ()
    contact: str = ""  # travels in echo requests: who to ask about them
    own_key: str = field(default="", repr=False)  # 64 hex digits; the keys of all who send to this node derive from it
    own_keys_also: tuple[str, ...] = field(default=(), repr=False)  # likewise; of the period before and of the next
    keys_for_us: int = 0  # after this long, fetch the plan again: the keys have changed. 0: they do not
    relays: tuple[PlanRelay, ...] = ()  # besides those of the peers
    checks: tuple[PlanCheck, ...] = ()


_HEX = re.compile("[0-9a-f]{64}")
_LATER_IN_PLAN: dict[str, object] = {
    "budget": {"packets_per_s": 0, "bytes_per_s": 0, "monthly_bytes": 0, "reserve_ppm": 150_000},
    "floor_interval_us": 0,
    "vantage": [],
    "contact": "",
    "own_key": "",
    "own_keys_also": [],
    "keys_for_us": 0,
    "relays": [],
    "checks": [],
}


def decode_plan(data: object) -> ProbePlan:
    """Check and build a plan from parsed JSON. Raises :class:`WireError`."""
    record = record_of(data, "plan", ProbePlan, _LATER_IN_PLAN)
    check_version(record)
    peers = listed(record["peers"], "peers", MAX_ROWS)
    vantage = listed(record["vantage"], "vantage", MAX_ROWS)
    relays = listed(record["relays"], "relays", MAX_ROWS)
    checks = tuple(_decode_check(check, i) for i, check in enumerate(listed(record["checks"], "checks", MAX_ROWS)))
    if len({check.name for check in checks}) < len(checks):
        raise WireError("checks", "each name may appear once")
    return ProbePlan(
        node=text_in(record, "node"),
        data_center=text_in(record, "data_center"),
        plan_version=integer(record["plan_version"], "plan_version", 0, 1 << 62),
        issued_at_us=integer(record["issued_at_us"], "issued_at_us", 0, MAX_RAW_US),
        expires_at_us=integer(record["expires_at_us"], "expires_at_us", 0, MAX_RAW_US),
        report_interval_us=integer(record["report_interval_us"], "report_interval_us", 100_000, 60_000_000),
        timeout_us=integer(record["timeout_us"], "timeout_us", 10_000, 10_000_000),
        peers=tuple(_decode_peer(peer, i) for i, peer in enumerate(peers)),
        budget=_decode_budget(record["budget"]),
        floor_interval_us=integer(record["floor_interval_us"], "floor_interval_us", 0, 3_600_000_000),
        vantage=tuple(_decode_vantage(target, i) for i, target in enumerate(vantage)),
        contact=_short(record["contact"], "contact"),
        own_key=_key(record["own_key"], "own_key"),
        own_keys_also=tuple(
            _key(key, f"own_keys_also[{i}]")
            for i, key in enumerate(listed(record["own_keys_also"], "own_keys_also", MAX_OWN_KEYS))
        ),
        keys_for_us=integer(record["keys_for_us"], "keys_for_us", 0, MAX_RAW_US),
        relays=tuple(_decode_relay(relay, i) for i, relay in enumerate(relays)),
        checks=checks,
    )


def _decode_peer(data: object, i: int) -> PlanPeer:
    name = f"peers[{i}]"
    record = record_of(data, name, PlanPeer, {"tier": "cold", "weight": 0, "key_id": 0, "key": ""})
    return PlanPeer(
        node=text_in(record, "node", name),
        data_center=text_in(record, "data_center", name),
        transport=text_in(record, "transport", name),
        host=text_in(record, "host", name),
        reflector_port=integer(record["reflector_port"], f"{name}.reflector_port", 1, 65_535),
        relay_port=integer(record["relay_port"], f"{name}.relay_port", 0, 65_535),
        interval_us=integer(record["interval_us"], f"{name}.interval_us", 1_000, 3_600_000_000),
        tier=_one_of(record["tier"], f"{name}.tier", TIERS),
        weight=integer(record["weight"], f"{name}.weight", 0, MAX_WEIGHT),
        key_id=integer(record["key_id"], f"{name}.key_id", 0, MAX_KEY_ID),
        key=_key(record["key"], f"{name}.key"),
    )


def _decode_relay(data: object, i: int) -> PlanRelay:
    name = f"relays[{i}]"
    record = record_of(data, name, PlanRelay, {"key_id": 0, "key": ""})
    return PlanRelay(
        node=text_in(record, "node", name),
        host=text_in(record, "host", name),
        relay_port=integer(record["relay_port"], f"{name}.relay_port", 1, 65_535),
        key_id=integer(record["key_id"], f"{name}.key_id", 0, MAX_KEY_ID),
        key=_key(record["key"], f"{name}.key"),
    )


def _decode_check(data: object, i: int) -> PlanCheck:
    name = f"checks[{i}]"
    record = record_of(data, name, PlanCheck)
    ports = listed(record["ports"], f"{name}.ports", MAX_CHECK_HOPS)
    found = PlanCheck(
        name=text_in(record, "name", name),
        hosts=texts(record["hosts"], f"{name}.hosts"),
        ports=tuple(integer(port, f"{name}.ports[{k}]", 1, 65_535) for k, port in enumerate(ports)),
        reflector_port=integer(record["reflector_port"], f"{name}.reflector_port", 1, 65_535),
        interval_us=integer(record["interval_us"], f"{name}.interval_us", 1_000, 3_600_000_000),
    )
    if not 0 < len(found.hosts) == len(found.ports):
        raise WireError(f"{name}.hosts", f"must be as long as {name}.ports, and not empty", MAX_CHECK_HOPS)
    return found


def _decode_vantage(data: object, i: int) -> PlanVantage:
    name = f"vantage[{i}]"
    record = record_of(data, name, PlanVantage)
    return PlanVantage(
        target=text_in(record, "target", name),
        kind=_one_of(record["kind"], f"{name}.kind", KINDS),
        host=text_in(record, "host", name),
        port=integer(record["port"], f"{name}.port", 0, 65_535),
        asn=integer(record["asn"], f"{name}.asn", 0, (1 << 32) - 1),
        country=_short(record["country"], f"{name}.country"),
        interval_us=integer(record["interval_us"], f"{name}.interval_us", 1_000_000, 86_400_000_000),
    )


def _decode_budget(data: object) -> Budget:
    record = record_of(data, "budget", Budget)
    high = {"packets_per_s": 1_000_000, "reserve_ppm": 1_000_000}
    return Budget(
        **{name: integer(value, f"budget.{name}", 0, high.get(name, 1 << 53)) for name, value in record.items()}
    )


def _one_of(value: object, name: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise WireError(name, f"must be one of {', '.join(allowed)}")
    return str(value)


def _short(value: object, name: str) -> str:
    return "" if value == "" else string(value, name)


def _key(value: object, name: str) -> str:
    if not isinstance(value, str) or (value and not _HEX.fullmatch(value)):
        raise WireError(name, "must be empty or 64 lower-case hex digits")
    return value
