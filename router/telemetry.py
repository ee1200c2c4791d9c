"""Logs and metrics: structlog with secrets struck out, and a Prometheus collector that reads the View at scrape time.

Metrics cost nothing between scrapes: the collector adds up what the immutable View holds. Labels are data center ids
and reasons from fixed lists, so the number of series grows with the fleet and never with users, sessions or paths.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.core.doubts import WORDS, doubts_of_links
from router.core.kernel import COMPILED
from router.core.model import DataCenterId, Micros, NodeId, RampState
from router.core.tables import Health, HeldBack, LinkState, RouteTable, View
from router.core.verdicts import ComponentKind

# --- logs ------------------------------------------------------------------------------------------------------------

SECRET_NAMES = frozenset({"key", "admin_key", "token", "secret", "authorization", "cookie", "password"})
_SECRETS = (
    (re.compile(r"\b(tk_[0-9a-f]{12})_[A-Za-z0-9_-]{20,}"), r"\1_***"),
    (re.compile(r"\b(tj_[a-z0-9-]{1,63})_[A-Za-z0-9_-]{20,}"), r"\1_***"),
    (re.compile(r"\b(s-[0-9a-f]{12,}(?:/[a-z0-9-]+)?\.\d+\.\d+)\.[A-Za-z0-9_-]{43}"), r"\1.***"),
    (re.compile(r"(?i)\b(bearer)\s+[^\s'\"]+"), r"\1 ***"),
    (re.compile(r"(://[^:/@\s]*:)[^@\s]*@"), r"\1***@"),
)


def redacted(text: str) -> str:
    """Strike out everything that looks like a key, a token or a password."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _clean(name: str, value: object) -> object:
    if name.lower() in SECRET_NAMES and value is not None:
        return "***"
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", inner) for inner in value]
    return value


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor of structlog: no secret leaves through a log line, whoever passed it in."""
    return {name: _clean(name, value) for name, value in event.items()}


def set_up_logs(log_format: str, level: str) -> None:
    """Send our own and the libraries' log lines through one formatter to stderr."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Traces become text before redaction, so that a secret in an exception's message is struck out too.
    as_text: list[Any] = [structlog.processors.format_exc_info, redact]
    last: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *as_text, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("alembic", "apscheduler", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


# --- metrics ---------------------------------------------------------------------------------------------------------


class Counts(Protocol):
    """What the shell counts about itself."""

    @property
    def solves(self) -> int: ...

    @property
    def solve_seconds(self) -> float: ...

    @property
    def failures(self) -> int: ...


class Turns(Protocol):
    """What the turnstile has carried so far."""

    @property
    def batches(self) -> int: ...

    @property
    def requests(self) -> int: ...


class Deliveries(Protocol):
    """What the outbox counts."""

    @property
    def delivered(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def given_up(self) -> int: ...


class Delivering(Protocol):
    """The outbox."""

    @property
    def counts(self) -> Deliveries: ...


class Buying(Protocol):
    """What is counted about bought machines."""

    @property
    def refusals(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def reaped(self) -> int: ...


class Observed(Protocol):
    """What the collector looks at: the runtime, without importing it."""

    @property
    def counts(self) -> Counts: ...

    @property
    def view(self) -> View: ...

    @property
    def inbox_depth(self) -> int: ...

    @property
    def turnstile(self) -> Turns: ...

    @property
    def outbox(self) -> Delivering: ...

    @property
    def machines(self) -> Buying: ...

    def now(self) -> Micros: ...


@dataclass(slots=True)
class Tallies:
    """What the HTTP edge counts; nodes' sums are kept per data center."""

    reports_accepted: int = 0
    reports_rejected: int = 0
    sessions_good: dict[DataCenterId, int] = field(default_factory=dict)
    sessions_bad: dict[DataCenterId, int] = field(default_factory=dict)
    setup_failures: dict[DataCenterId, int] = field(default_factory=dict)
    reflexes: int = 0
    acks: dict[NodeId, tuple[int, int, Micros]] = field(default_factory=dict)  # probe plan, generation, when

    def acknowledged(self, node: NodeId, plan_version: int, generation: int, now: Micros) -> None:
        """Note which plans a node follows; an acknowledgement of the probe plan alone leaves the routes' as it was."""
        before = self.acks.get(node, (0, 0, 0))
        self.acks[node] = (plan_version, generation, now) if generation else (plan_version, *before[1:])

    def reported(self, reflexes: int) -> None:
        """Count a report that was taken, with so many routes that its node had changed by itself."""
        self.reports_accepted += 1
        self.reflexes += reflexes

    def heard(self, data_center: DataCenterId, node: NodeId, good: int, bad: int, setup_failures: int) -> None:
        """Add the sums of one node's heartbeat."""
        del node  # nodes are no label: there are too many of them
        for counts, value in (
            (self.sessions_good, good),
            (self.sessions_bad, bad),
            (self.setup_failures, setup_failures),
        ):
            counts[data_center] = counts.get(data_center, 0) + value


ACK_FRESH_US = 60_000_000

STATE_NUMBERS = {Health.UNKNOWN: 0, Health.UP: 1, Health.DEGRADED: 2, Health.DOWN: 3}


class ViewCollector(Collector):
    """Turns the View into metrics, when asked."""

    def __init__(self, observed: Observed, tallies: Tallies) -> None:
        self._observed = observed
        self._tallies = tallies

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape; spares one at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        view, now = self._observed.view, self._observed.now()
        yield from self._data_centers(view)
        yield from self._links(view, now)
        yield _held_back(view.routes)
        yield _refused(view.refused)
        yield from _blame(view)
        yield from _ramps(view)
        yield from _capacity(view, self._observed.machines)
        yield from self._shell(view, now)

    def _data_centers(self, view: View) -> Iterator[Metric]:
        ids = list(view.inventory.data_centers)
        states = dict(zip(ids, view.health, strict=False))
        yield _per_data_center(
            "state",
            "Measured health: 0 unknown, 1 up, 2 degraded, 3 down",
            {dc: STATE_NUMBERS[health.state] for dc, health in states.items()},
        )
        serving = {dc: int(found.intent.takes_new_sessions) for dc, found in view.inventory.data_centers.items()}
        yield _per_data_center("serving", "1 while operators let it take new sessions", serving)
        sessions = {dc: view.counters.sessions.get(dc, 0) for dc in ids}
        yield _per_data_center("sessions", "Live sessions by the data center of their edge", sessions)
        for name, counts in (("idle", view.counters.idle), ("busy", view.counters.busy)):
            sums = dict.fromkeys(ids, 0)
            for (_, dc), count in counts.items():
                sums[dc] = sums.get(dc, 0) + count
            yield _per_data_center(f"agents_{name}", f"Agents that are {name}, over all pools", sums)
        for name, tally in (
            ("good", self._tallies.sessions_good),
            ("bad", self._tallies.sessions_bad),
            ("setup_failures", self._tallies.setup_failures),
        ):
            family = CounterMetricFamily(f"tendril_sessions_{name}", _HEARD[name], labels=["data_center"])
            for dc, count in sorted(tally.items()):
                family.add_metric([dc], count)
            yield family

    def _links(self, view: View, now: Micros) -> Iterator[Metric]:
        seen = view.links.last_at > 0
        for state in LinkState:
            count = int(np.count_nonzero(seen & (view.links.state == state)))
            yield GaugeMetricFamily(
                f"tendril_links_{state.name.lower()}", f"Measured links: {state.name.lower()}", count
            )
        ages_s = np.maximum(0, now - view.links.last_at[seen]) / 1e6
        for name, share in (("median", 50), ("p99", 99), ("max", 100)):
            value = float(np.percentile(ages_s, share)) if ages_s.size else float("nan")
            yield GaugeMetricFamily(f"tendril_link_age_seconds_{name}", f"Age of link evidence: {name}", value)

    def _shell(self, view: View, now: Micros) -> Iterator[Metric]:
        counts = self._observed.counts
        age_s = float("nan") if view.routes is None else max(0, now - view.routes.computed_at) / 1e6
        stale = view.routes is None or view.routes.stale
        yield GaugeMetricFamily("tendril_generation", "Generation of the routes in force", view.generation)
        yield GaugeMetricFamily("tendril_routes_age_seconds", "Time since the routes in force were computed", age_s)
        yield GaugeMetricFamily("tendril_routes_stale", "1 while routes are from before a restart", int(stale))
        yield GaugeMetricFamily("tendril_inbox_depth", "Inputs that wait to be handled", self._observed.inbox_depth)
        yield CounterMetricFamily("tendril_solves", "Route computations that finished", counts.solves)
        yield CounterMetricFamily("tendril_solve_seconds", "Time spent in route computations", counts.solve_seconds)
        compiled = "1 if the C kernel computes routes, 0 if its numpy form does"
        yield GaugeMetricFamily("tendril_kernel_compiled", compiled, int(COMPILED))
        turns = self._observed.turnstile
        text = "Transactions that started or ended sessions, any number each"
        yield CounterMetricFamily("tendril_group_commits", text, turns.batches)
        text = "Starts and ends of sessions that were written"
        yield CounterMetricFamily("tendril_group_commit_requests", text, turns.requests)
        sent = self._observed.outbox.counts
        yield CounterMetricFamily("tendril_webhooks_delivered", "Messages that webhooks took", sent.delivered)
        yield CounterMetricFamily("tendril_webhooks_failed", "Attempts to deliver that failed", sent.failed)
        text = "Messages to webhooks that were tried often enough"
        yield CounterMetricFamily("tendril_webhooks_given_up", text, sent.given_up)
        yield CounterMetricFamily("tendril_background_failures", "Background work that failed", counts.failures)
        yield CounterMetricFamily("tendril_reports_accepted", "Probe reports taken", self._tallies.reports_accepted)
        yield CounterMetricFamily("tendril_reports_rejected", "Probe reports refused", self._tallies.reports_rejected)
        yield from self._nodes(view, now)

    def _nodes(self, view: View, now: Micros) -> Iterator[Metric]:
        acks = [ack for node, ack in self._tallies.acks.items() if node in view.inventory.nodes]
        probing = sum(version == view.plan_version for version, _, _ in acks)
        routing = sum(now - at <= ACK_FRESH_US for _, generation, at in acks if generation)
        yield GaugeMetricFamily(
            "tendril_nodes_on_newest_plan", "Nodes that acknowledged the newest probe plan", probing
        )
        told = "Nodes that acknowledged a reaction plan within the last minute"
        yield GaugeMetricFamily("tendril_nodes_on_fresh_routes", told, routing)
        doubts = GaugeMetricFamily("tendril_links_doubted", "Links that agents call so", labels=["kind"])
        links = doubts_of_links(view.inventory, view.nodes).values()
        for state, word in WORDS.items():
            doubts.add_metric([word], sum(1 for counts in links if counts[state]))
        yield doubts
        text = "Routes that nodes changed by themselves, following their reaction plans"
        yield CounterMetricFamily("tendril_reflexes", text, self._tallies.reflexes)


_HEARD = {
    "good": "Sessions that nodes called good",
    "bad": "Sessions that nodes called bad",
    "setup_failures": "Sessions that nodes could not set up",
}


def _per_data_center(name: str, text: str, values: Mapping[DataCenterId, int]) -> Metric:
    family = GaugeMetricFamily(f"tendril_data_center_{name}", text, labels=["data_center"])
    for dc, value in values.items():
        family.add_metric([dc], value)
    return family


def _held_back(table: RouteTable | None) -> Metric:
    text = "Ordered pairs, over all contexts, whose better candidate is not in force, by the question it failed"
    family = GaugeMetricFamily("tendril_routes_held_back", text, labels=["reason"])
    for reason in HeldBack:
        if reason is not HeldBack.NOT:
            count = 0 if table is None else int(np.count_nonzero(table.held_back == reason))
            family.add_metric([reason.name.lower()], count)
    return family


def _blame(view: View) -> Iterator[Metric]:
    family = GaugeMetricFamily("tendril_blamed", "Components that are surely at fault, by kind", labels=["kind"])
    sure = [verdict.component.kind for verdict in view.blame.sure()]
    for kind in ComponentKind:
        family.add_metric([kind.value], sure.count(kind))
    yield family
    text = "1 while everything is bad everywhere at once and automation keeps its hands off"
    yield GaugeMetricFamily("tendril_blame_frozen", text, int(view.blame.frozen))


def _ramps(view: View) -> Iterator[Metric]:
    """Ramps by state, and of each that is under way how far it is and how near to being rolled back."""
    states = GaugeMetricFamily("tendril_ramps", "Ramps that are under way or rolled back, by state", labels=["state"])
    counted = Counter(ramp.state.value for ramp in view.ramps.values() if ramp.open)
    for state in RampState:
        if state not in (RampState.SERVING, RampState.WITHDRAWN):
            states.add_metric([state.value], counted.get(state.value, 0))
    yield states
    climbing = [(view.ramps[id], climb) for id, climb in sorted(view.climbs.items()) if id in view.ramps]
    share = GaugeMetricFamily("tendril_ramp_share", "Share of its users that it may take", labels=["data_center"])
    exposed = GaugeMetricFamily(
        "tendril_ramp_exposed", "Sessions that it had while on its ramp", labels=["data_center"]
    )
    worth = GaugeMetricFamily(
        "tendril_ramp_evidence", "Evidence against it; at 1 it is rolled back", labels=["data_center"]
    )
    robots = GaugeMetricFamily(
        "tendril_ramp_robots", "Robots on the present rung", labels=["data_center", "errand", "result"]
    )
    for ramp, climb in climbing:
        name = [ramp.subject]
        share.add_metric(name, ramp.share_ppm / 1e6)
        exposed.add_metric(name, climb.exposed)
        worth.add_metric(name, climb.e_value / climb.limit if climb.limit else 0.0)
        for errand, (tried, failed) in sorted(climb.robots.items()):
            robots.add_metric([*name, errand, "passed"], tried - failed)
            robots.add_metric([*name, errand, "failed"], failed)
    yield from (share, exposed, worth, robots)


def _capacity(view: View, machines: Buying) -> Iterator[Metric]:
    """What pools lack, what was bought, and what providers said; labels are names out of the purchasing file."""
    board = view.capacity
    sums: dict[str, dict[str, float]] = {name: {} for name in _PER_POOL}
    for place in board.places if board is not None else ():
        for name, value in zip(_PER_POOL, (place.forecast, place.buffer, place.missing), strict=True):
            sums[name][place.pool] = sums[name].get(place.pool, 0) + value
    for name, text in _PER_POOL.items():
        family = GaugeMetricFamily(f"tendril_capacity_{name}", text, labels=["pool"])
        for pool, value in sorted(sums[name].items()):
            family.add_metric([pool], value)
        yield family
    spent = 0 if board is None else board.spent_uusd_h
    yield GaugeMetricFamily(
        "tendril_capacity_usd_per_hour", "What all bought machines together cost an hour", spent / 1e6
    )
    launches = GaugeMetricFamily("tendril_launches", "Machines that were bought", labels=["provider", "state"])
    counted = Counter((one.provider, one.state.value) for one in view.launches.values())
    for (provider, state), count in sorted(counted.items()):
        launches.add_metric([provider, state], count)
    yield launches
    refusals = CounterMetricFamily(
        "tendril_launch_refusals", "Launches that a provider refused", labels=["provider", "kind"]
    )
    for (provider, kind), count in sorted(machines.refusals.items()):
        refusals.add_metric([provider, kind], count)
    yield refusals
    yield CounterMetricFamily(
        "tendril_machines_reaped", "Machines whose launch nobody wanted any more, deleted", machines.reaped
    )


_PER_POOL = {
    "forecast": "Sessions to expect within a cold start",
    "buffer": "Idle places of agents that should be there",
    "missing": "Places of agents that are missing",
}


def _refused(refused: Mapping[str, int]) -> Metric:
    text = "Probe reports, and rows of them, that came in and were not believed or not needed"
    family = CounterMetricFamily("tendril_evidence_refused", text, labels=["reason"])
    for reason, count in sorted(refused.items()):
        family.add_metric([reason], count)
    return family


def make_registry(observed: Observed, tallies: Tallies) -> CollectorRegistry:
    """A registry of its own, so that two control planes in one process do not collide."""
    registry = CollectorRegistry()
    registry.register(ViewCollector(observed, tallies))
    return registry
