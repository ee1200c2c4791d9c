"""Routes: single answers, batches, one ingress' table, deltas of the watch, and explanations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from router.core.model import PolicyId, TrafficClass
from router.core.solve import Backup, ExplainedCandidate, ExplainedHop, Explanation, PathAnswer, RouteAnswer
from router.schemas.fields import Answer, Body, Id
from router.schemas.units import known_ms, known_pct, ms, rfc3339

MAX_PAIRS = 10_000  # of one batch


class Pair(Body):
    """One ordered pair of data centers."""

    source: Id = Field(alias="from")
    target: Id = Field(alias="to")


class BatchBody(Body):
    """Many pairs in one question."""

    traffic_class: TrafficClass = Field(default=TrafficClass.VOICE, alias="class")
    policy: Id | None = None
    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_PAIRS)]

    @property
    def policy_id(self) -> PolicyId | None:
        """The policy as a core id."""
        return None if self.policy is None else PolicyId(self.policy)


class Path(Answer):
    """One way of a route; delays in ms, ``metric_us`` is what the solver compared."""

    path: list[str]
    transports: list[str]
    delay_ms: float
    error_ms: float | None
    jitter_ms: float | None
    loss_pct: float | None
    mos: float
    metric_us: int
    age_ms: float | None


class BackupPath(Path):
    """A path to fall back on, and what it protects from losing."""

    protects: Literal["provider", "data_center", "link"]


class Backups(Answer):
    """Ordered backups of both ways."""

    forward: list[BackupPath]
    back: list[BackupPath] = Field(alias="return")


class Route(Answer):
    """The best route now; ``forward`` or ``return`` is null, with a reason, where there is no path."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    traffic_class: TrafficClass = Field(alias="class")
    policy: str | None
    generation: int
    computed_at: str | None
    age_ms: float | None
    stale: bool
    forward: Path | None
    back: Path | None = Field(alias="return")
    rtt_ms: float | None
    direct_rtt_ms: float | None
    backups: Backups
    valid_until: str | None
    reasons: list[str]


class RouteList(Answer):
    """Answers to a batch, in the order of the pairs."""

    generation: int
    routes: list[Route]


class RouteTableAnswer(Answer):
    """All routes of one ingress."""

    source: str = Field(alias="from")
    traffic_class: TrafficClass = Field(alias="class")
    policy: str | None
    generation: int
    stale: bool
    routes: list[Route]


class Hop(Answer):
    """One hop of an explained candidate."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    delay_ms: float | None
    error_ms: float | None
    jitter_ms: float | None
    loss_pct: float | None
    age_ms: float | None
    state: str
    metric_us: int | None


class ExplainedPath(Answer):
    """A candidate: what it would cost, term by term, and why it is or is not in force."""

    path: list[str]
    transports: list[str]
    hops: list[Hop]
    terms: dict[str, int]
    metric_us: int | None
    verdict: Literal["in force", "candidate", "lost", "not allowed", "unusable"]
    why: str


class ExplanationAnswer(Answer):
    """Every candidate of both ways under one generation."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    traffic_class: TrafficClass = Field(alias="class")
    policy: str | None
    generation: int
    rule: str
    forward: list[ExplainedPath]
    back: list[ExplainedPath] = Field(alias="return")


def path_json(path: PathAnswer) -> dict[str, object]:
    """Return the JSON form of one way."""
    return {
        "path": path.path,
        "transports": path.transports,
        "delay_ms": ms(path.delay_us),
        "error_ms": known_ms(path.error_us),
        "jitter_ms": known_ms(path.jitter_us),
        "loss_pct": known_pct(path.loss_ppm),
        "mos": round(path.mos, 2),
        "metric_us": path.metric_us,
        "age_ms": known_ms(path.age_us),
    }


def backups_json(forward: Iterable[Backup], back: Iterable[Backup]) -> dict[str, object]:
    """Return the JSON form of the backups of both ways."""
    return {
        "forward": [path_json(backup.path) | {"protects": backup.protects} for backup in forward],
        "return": [path_json(backup.path) | {"protects": backup.protects} for backup in back],
    }


def route_json(answer: RouteAnswer) -> dict[str, object]:
    """Return the JSON form of a route; hot, so plain dicts only."""
    solved = answer.generation > 0
    return {
        "from": answer.source,
        "to": answer.target,
        "class": answer.context.traffic_class,
        "policy": answer.context.policy,
        "generation": answer.generation,
        "computed_at": rfc3339(answer.computed_at) if solved else None,
        "age_ms": known_ms(answer.age_us) if solved else None,
        "stale": answer.stale,
        "forward": None if answer.forward is None else path_json(answer.forward),
        "return": None if answer.back is None else path_json(answer.back),
        "rtt_ms": known_ms(answer.rtt_us),
        "direct_rtt_ms": known_ms(answer.direct_rtt_us),
        "backups": backups_json(answer.backups_forward, answer.backups_return),
        "valid_until": rfc3339(answer.valid_until) if solved else None,
        "reasons": answer.reasons,
    }


def _hop_json(hop: ExplainedHop) -> dict[str, object]:
    known = hop.state != "unknown"
    return {
        "from": hop.source,
        "to": hop.target,
        "transport": hop.transport,
        "delay_ms": ms(hop.delay_us) if known else None,
        "error_ms": known_ms(hop.error_us),
        "jitter_ms": known_ms(hop.jitter_us),
        "loss_pct": known_pct(hop.loss_ppm),
        "age_ms": known_ms(hop.age_us),
        "state": hop.state,
        "metric_us": hop.metric_us if known else None,
    }


def _candidate_json(candidate: ExplainedCandidate) -> dict[str, object]:
    return {
        "path": candidate.path,
        "transports": candidate.transports,
        "hops": [_hop_json(hop) for hop in candidate.hops],
        "terms": dict(candidate.terms),
        "metric_us": candidate.metric_us,
        "verdict": candidate.verdict,
        "why": candidate.why,
    }


def explanation_json(explanation: Explanation) -> dict[str, object]:
    """Return the JSON form of an explanation."""
    return {
        "from": explanation.source,
        "to": explanation.target,
        "class": explanation.context.traffic_class,
        "policy": explanation.context.policy,
        "generation": explanation.generation,
        "rule": explanation.rule,
        "forward": [_candidate_json(candidate) for candidate in explanation.forward],
        "return": [_candidate_json(candidate) for candidate in explanation.back],
    }


Shown = tuple[object, ...]
"""What a watcher has been told of one route: enough to notice what is worth telling again."""

TOLD_ABOVE_US = 1_000
TOLD_ABOVE_SHARE = 0.02  # a delay that moved less than 1 ms or 2 % is noise to a media server that holds the path


def shown(answer: RouteAnswer) -> tuple[Shown, int]:
    """What identifies the decision, and the delay that came with it."""
    ways = [None if way is None else (way.path, way.transports) for way in (answer.forward, answer.back)]
    spare = [(b.path.path, b.path.transports) for b in (*answer.backups_forward, *answer.backups_return)]
    delay_us = sum(way.delay_us for way in (answer.forward, answer.back) if way is not None)
    return (*ways, *spare, answer.stale), delay_us


def worth_telling(before: tuple[Shown, int] | None, now: tuple[Shown, int]) -> bool:
    """Whether a watcher that was shown ``before`` must be shown ``now``."""
    if before is None or before[0] != now[0]:
        return True
    return abs(now[1] - before[1]) > max(TOLD_ABOVE_US, TOLD_ABOVE_SHARE * abs(before[1]))


def table_json(
    source: str, traffic_class: TrafficClass, policy: str | None, generation: int, routes: list[RouteAnswer]
) -> dict[str, object]:
    """Return the JSON form of one ingress' table, or of a delta of it."""
    return {
        "from": source,
        "class": traffic_class,
        "policy": policy,
        "generation": generation,
        "stale": any(answer.stale for answer in routes),
        "routes": [route_json(answer) for answer in routes],
    }
