"""What the local API says: routes in force, the agent's own state, and what media servers may tell it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from probes.choice import Choice
from probes.detect import Verdict
from probes.evidence import Watch
from probes.local_api import LocalApi, Problem, Request
from probes.reflex import Way
from probes.sockets import monotonic_us, stamping
from probes.sockets.kernel import wall_ns

if TYPE_CHECKING:
    from probes.agent import ProbeAgent

VALID_US = 1_000_000  # soft life of an answer: ask again after it, or watch; keep using it while nothing newer comes
MAX_ITEMS = 1_024  # of one media post
MAX_COUNT = 10_000_000
DEFAULT_CLASS = "voice"
_COUNTS = ("packets_sent", "packets_received", "responses_received")
_MEDIA_FIELDS = frozenset((*_COUNTS, "total_round_trip_time_s"))
_PEER_FIELDS = frozenset(("node", "transport"))
_ROUTE_FIELDS = frozenset(("to", "class", "policy"))


class LocalRoutes:
    """The calls of the local API of one agent."""

    def __init__(self, agent: ProbeAgent) -> None:
        self.media: Counter[str] = Counter()  # what media servers told, summed
        self._agent = agent
        self._reflex = agent.reflex

    def api(self) -> LocalApi:
        """The API with these calls."""
        calls: dict[tuple[str, str], Callable[[Request, str], object]] = {
            ("GET", "/v1/routes/"): self.route,
            ("GET", "/v1/status"): self.status,
            ("POST", "/v1/media"): self.take_media,
        }
        return LocalApi(calls, "/v1/watch", self.snapshot)

    def route(self, request: Request, target: str) -> Mapping[str, object]:
        """The route in force to a data center; asking says that it is used."""
        context = _context(request, frozenset(("class", "policy")))
        self._check(context, target)
        return self._route_json(self._reflex.way(context, target, monotonic_us()))

    def snapshot(self, request: Request) -> Mapping[str, object]:
        """All routes of a class, or the one named by ``to``, which then counts as used."""
        context, target = _context(request, frozenset(("class", "policy", "to"))), request.query.get("to")
        now_us, book = monotonic_us(), self._reflex.book
        if target is not None:
            self._check(context, target)
            return {target: self._route_json(self._reflex.way(context, target, now_us))}
        if book is None:
            return {}
        if context not in book.contexts:
            raise _unknown_context(context, book.contexts)
        return {name: self._route_json(self._reflex.look(context, name, now_us)) for name in book.targets}

    def status(self, request: Request, rest: str) -> Mapping[str, object]:
        """Who this agent is, what it follows, and how well it can measure."""
        _only(request.query, frozenset())
        agent, now_us = self._agent, monotonic_us()
        evidence = agent.prober.evidence
        peers = list(evidence.peers().values())
        stamps = stamping()
        return {
            "node": agent.config.node,
            "data_center": agent.identity.data_center if agent.identity is not None else None,
            "boot": agent.boot,
            "control_plane": {"url": agent.config.control_url, "failures_in_a_row": agent.failures},
            "probe_plan": None if agent.plan is None else {
                "plan_version": agent.plan.plan_version,
                "expired": agent.plan.expires_at_us < wall_ns() // 1_000,
                "peers": len(agent.plan.peers),
            },
            "reaction_plan": self._reaction_plan_json(now_us),
            "doubting_itself": self._reflex.doubting,
            "peers": {verdict.name.lower(): _count(peers, verdict) for verdict in Verdict},
            "not_up": [_watch_json(watch) for watch in peers if watch.detector.verdict is not Verdict.UP],
            "paths": [_watch_json(watch) for watch in evidence.paths().values()],
            "routes_in_use": [self._route_json(way) for way in self._reflex.in_use(now_us).values()],
            "stamping": {
                "arrivals": stamps.arrivals, "departures": stamps.departures, "noise_ns": stamps.noise_ns,
                "probes_use_departures": agent.prober.sender.stamps_departures,
            },
            "budget": agent.prober.budget_json(),
            "media": dict(self.media),
            "media_packets": {
                host: {"received": flow.received, "sent": flow.sent} for host, flow in agent.prober.media.all().items()
            },
            "counters": dict(sorted(agent.counters().items())),
        }  # fmt: skip

    def take_media(self, request: Request, rest: str) -> Mapping[str, object]:
        """Counters of real media, as differences since the last post: evidence that saves probes."""
        body = _object(request.body)
        _only(body, frozenset(("peers", "routes")))
        found: list[tuple[Watch | None, Mapping[str, object]]] = []
        for i, item in enumerate(_items(body, "peers")):
            _only(item, _PEER_FIELDS | _MEDIA_FIELDS, f"peers[{i}].")
            key = (_text(item, "node", f"peers[{i}]."), _text(item, "transport", f"peers[{i}].", "internet"))
            found.append((self._agent.prober.evidence.peer(*key), _figures(item, f"peers[{i}].")))
        for i, item in enumerate(_items(body, "routes")):
            _only(item, _ROUTE_FIELDS | _MEDIA_FIELDS, f"routes[{i}].")
            found.append((self._path_of(item, f"routes[{i}]."), _figures(item, f"routes[{i}].")))
        unknown = 0
        for watch, figures in found:
            unknown += watch is None
            self._take(watch, figures)
        return {"accepted": len(found) - unknown, "not_probed": unknown}

    def _path_of(self, item: Mapping[str, object], where: str) -> Watch | None:
        target, policy = _text(item, "to", where), _text(item, "policy", where, "")
        context = _text(item, "class", where, DEFAULT_CLASS) + (f"/{policy}" if policy else "")
        self._check(context, target)
        way = self._reflex.way(context, target, monotonic_us())
        return None if way.primary is None else self._agent.prober.evidence.path(way.primary.key)

    def _take(self, watch: Watch | None, figures: Mapping[str, object]) -> None:
        counts = {name: value for name in _COUNTS if isinstance(value := figures.get(name, 0), int)}
        self.media.update(counts)
        if watch is not None:
            received, sent = counts.get("packets_received", 0), counts.get("packets_sent", 0)
            self._agent.prober.count_media(watch, received, sent)
        answers, total_s = counts.get("responses_received", 0), figures.get("total_round_trip_time_s")
        if watch is not None and answers:
            rtt_us = round(float(total_s) / answers * 1e6) if isinstance(total_s, (int, float)) else None
            self._agent.prober.take_media(watch, answers, rtt_us)

    # --- forms -------------------------------------------------------------------------------------------------------

    def _check(self, context: str, target: str) -> None:
        book = self._reflex.book
        if book is None:
            return  # "there is no reaction plan yet" is the answer
        if not book.knows(target):
            raise Problem(404, "unknown_data_center", f"there is no data center {target} in the plan", "to")
        if target == book.plan.data_center:
            raise Problem(422, "same_data_center", "from and to are the same data center", "to")
        if context not in book.contexts:
            raise _unknown_context(context, book.contexts)

    def _route_json(self, way: Way) -> dict[str, object]:
        """As the control plane's answer (``router.schemas.routes``), with what only the node knows."""
        now_us, reflex, plan = monotonic_us(), self._reflex, self._reflex.plan
        traffic_class, _, policy = way.context.partition("/")
        age_us = reflex.age_us(now_us)
        identity = self._agent.identity
        places = {choice.key: place for place, choice in enumerate(way.choices)}
        backups = [choice for choice in way.choices if way.primary is None or choice.key != way.primary.key]
        states = {choice.key: way.states[places[choice.key]] for choice in way.choices}
        return {
            "from": plan.data_center if plan is not None else (identity.data_center if identity is not None else None),
            "to": way.target,
            "class": traffic_class,
            "policy": policy or None,
            "generation": way.generation,
            "computed_at": None if plan is None or not plan.generation else _rfc3339(plan.computed_at_us),
            "age_ms": None if age_us is None else age_us / 1_000,
            "stale": reflex.degraded(now_us),
            "forward": None if way.primary is None else self._path_json(way.primary, states[way.primary.key], age_us),
            "return": None,
            "rtt_ms": None if way.primary is None else self._rtt_ms(way.primary),
            "direct_rtt_ms": self._direct_rtt_ms(way),
            "backups": {
                "forward": [
                    self._path_json(choice, states[choice.key], age_us) | {"protects": choice.protects or "provider"}
                    for choice in backups
                ],
                "return": [],
            },
            "duplicate": None if way.duplicate is None else list(way.duplicate.path),
            "valid_until": _rfc3339(wall_ns() // 1_000 + VALID_US),
            "reasons": [way.why],
        }  # fmt: skip

    def _path_json(self, choice: Choice, state: Verdict, age_us: int | None) -> dict[str, object]:
        return {
            "path": list(choice.path),
            "transports": list(choice.transports),
            "delay_ms": None,
            "error_ms": None,
            "jitter_ms": None,
            "loss_pct": None,
            "mos": None,
            "metric_us": None,
            "age_ms": None if age_us is None else age_us / 1_000,
            "state": state.name.lower(),
            "rtt_ms": self._rtt_ms(choice),
            "hops": [
                {"host": host, "port": port, "node": node} if port else None
                for (host, port), node in zip(choice.key, choice.nodes, strict=True)
            ],
        }

    def _rtt_ms(self, choice: Choice) -> float | None:
        watch = self._agent.prober.evidence.path(choice.key)
        return None if watch is None else _rtt(watch)

    def _direct_rtt_ms(self, way: Way) -> float | None:
        """The fastest of the probes to that data center's nodes."""
        peers = self._agent.prober.evidence.peers().values()
        rtts = [_rtt(watch) for watch in peers if watch.peer is not None and watch.peer.data_center == way.target]
        return min((rtt for rtt in rtts if rtt is not None), default=None)

    def _reaction_plan_json(self, now_us: int) -> Mapping[str, object] | None:
        plan, reactions = self._reflex.plan, self._agent.reactions
        if plan is None:
            return None
        age_us, confirmed_us = self._reflex.age_us(now_us) or 0, reactions.confirmed_us
        return {
            "generation": plan.generation,
            "plan_version": plan.plan_version,
            "source": reactions.source,
            "age_ms": age_us / 1_000,
            "stale": self._reflex.degraded(now_us),
            "confirmed_ms_ago": None if confirmed_us is None else (now_us - confirmed_us) / 1_000,
            "contexts": list(plan.contexts),
        }


def _context(request: Request, allowed: frozenset[str]) -> str:
    _only(request.query, allowed)
    policy = request.query.get("policy")
    return request.query.get("class", DEFAULT_CLASS) + (f"/{policy}" if policy else "")


def _unknown_context(context: str, known: tuple[str, ...]) -> Problem:
    return Problem(422, "unknown_context", f"the plan has no {context}; it has {', '.join(known)}", "class")


def _only(record: Mapping[str, object], allowed: frozenset[str], where: str = "") -> None:
    for name in record:
        if name not in allowed:
            raise Problem(422, "unknown_field", "the field is not known here", where + name)


def _object(body: bytes) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "malformed_json", "the body is not JSON") from error
    if not isinstance(parsed, dict):
        raise Problem(422, "invalid_field", "the body must be an object")
    return parsed


def _items(body: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    items = body.get(name, [])
    if not isinstance(items, list) or len(items) > MAX_ITEMS or not all(isinstance(item, dict) for item in items):
        raise Problem(422, "invalid_field", f"must be a list of at most {MAX_ITEMS} objects", name)
    return items


def _text(item: Mapping[str, object], name: str, where: str, default: str | None = None) -> str:
    value = item.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Problem(422, "invalid_field", "must be a text", where + name)
    return value


def _figures(item: Mapping[str, object], where: str) -> Mapping[str, object]:
    for name in _COUNTS:
        value = item.get(name, 0)
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise Problem(422, "invalid_field", f"must be an integer from 0 to {MAX_COUNT}", where + name)
    total = item.get("total_round_trip_time_s", 0)
    if (
        isinstance(total, bool)
        or not isinstance(total, (int, float))
        or not math.isfinite(total)
        or not 0 <= total < 1e6
    ):
        raise Problem(422, "invalid_field", "must be seconds, 0 or more", where + "total_round_trip_time_s")
    return item


def _watch_json(watch: Watch) -> dict[str, object]:
    detector = watch.detector
    name: dict[str, object] = {"path": [f"{host}:{port}" for host, port in watch.path or ()]}
    if watch.peer is not None:
        peer = watch.peer
        name = {"node": peer.node, "data_center": peer.data_center, "transport": peer.transport}
    return name | {"state": detector.verdict.name.lower(), "rtt_ms": _rtt(watch), "cause": detector.cause}


def _rtt(watch: Watch) -> float | None:
    return watch.round_trip.srtt_us / 1_000 if watch.round_trip.srtt_us else None


def _count(watches: list[Watch], verdict: Verdict) -> int:
    return sum(watch.detector.verdict is verdict for watch in watches)


def _rfc3339(at_us: int) -> str | None:
    try:
        return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
