"""Blame's place in the control plane: inputs to books, a tick to a question, an answer to verdicts and audit events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.wire import ProbeReport
from router.core.blame.book import BlameBook
from router.core.blame.moved import MovedBook
from router.core.blame.outcomes import OutcomeBook, OutcomeCount, OutcomeKey
from router.core.messages import Effect, Judged, JudgeFailed, JudgeFault, Moved, Observed, Record
from router.core.model import DataCenterId, Event, Inventory, Micros, NodeId
from router.core.verdicts import Blame, Component, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.core.blame.infer import Case

FORGET_US = 60_000_000


class BlameDesk:
    """Private state of the core; what it decides is in ``blame``."""

    def __init__(self, inventory: Inventory) -> None:
        self.book = BlameBook(inventory)
        self.outcomes = OutcomeBook()
        self._moved = MovedBook()
        self._forgot_at: Micros = 0
        self._failure = ""
        self._table: Mapping[OutcomeKey, OutcomeCount] = {}

    @property
    def blame(self) -> Blame:
        """Who is at fault, as of the last judgement."""
        return self.book.current

    @property
    def table(self) -> Mapping[OutcomeKey, OutcomeCount]:
        """What became of sessions, as of the last tick."""
        return self._table

    @property
    def pending(self) -> Case | None:
        """What the outstanding judgement is about."""
        return self.book.pending

    @property
    def wanted(self) -> tuple[tuple[DataCenterId, DataCenterId], ...]:
        """Pairs of data centers whose probes would tell two suspects apart."""
        return self.book.wanted

    @property
    def moved(self) -> Mapping[Component, int]:
        """Sessions that were moved off each blamed component since it is blamed."""
        return self._moved.counts

    def note_moved(self, inventory: Inventory, event: Moved) -> None:
        """Take in how a round of moves went."""
        self._moved.note(self.blame, inventory, event)

    def reported(self, report: ProbeReport, now: Micros) -> None:
        """Take in one probe report; rows of several transports to one peer are counted together."""
        self.book.observe_report(NodeId(report.node), report.rows, now)

    def observed(self, event: Observed, now: Micros) -> None:
        """Take in what became of some sessions."""
        self.book.observe_outcomes(event.outcomes, now)
        self.outcomes.observe(event.outcomes, now)

    def tick(self, now: Micros) -> list[Effect]:
        """Ask for a judgement unless the last one is not even done."""
        if now - self._forgot_at > FORGET_US:
            self._forgot_at = now
            self.outcomes.forget_old(now)
        self._table = self.outcomes.table(now)
        case = self.book.case(now)
        return [] if case is None else [JudgeFault(case)]

    def answered(self, event: Judged | JudgeFailed, frozen: str, now: Micros) -> list[Effect]:
        """A judgement came, or could not be made; ``frozen``: why others hold that nothing must be declared."""
        if isinstance(event, JudgeFailed):
            if self.pending is None or self.pending.number != event.number:
                return []
            self.book.pending = None
            told, self._failure = self._failure, event.error
            return [] if told == event.error else [_record(now, "blame.failed", "control-plane", event.error)]
        was = self.book.current.frozen
        began, ended = self.book.settle(event.judgement, now, frozen)
        effects: list[Effect] = [_told(now, "blame.began", verdict) for verdict in began]
        effects += [_told(now, "blame.ended", verdict, self.moved.get(verdict.component, 0)) for verdict in ended]
        self._moved.keep(self.blame)
        if self.book.current.frozen != was:
            kind, text = ("blame.frozen", self.book.current.frozen_reason) if not was else ("blame.thawed", "all well")
            effects.append(_record(now, kind, "control-plane", text))
        return effects


def _told(now: Micros, kind: str, verdict: Verdict, moved: int = 0) -> Effect:
    found = verdict.evidence
    detail: dict[str, str | int | float | bool | None] = {
        "confidence_ppm": verdict.confidence_ppm,
        "action": verdict.action.value,
        "vantages_bad": found.vantages_bad,
        "vantages": found.vantages,
        "loss_ppm": found.loss_ppm,
        "failed_ppm": found.failed_ppm,
        "seconds": (now - verdict.since) // 1_000_000,
        "sessions_moved": moved,
    }
    return Record(Event(now, kind, verdict.component.name, reason=verdict.text, detail=detail))


def _record(now: Micros, kind: str, subject: str, reason: str) -> Effect:
    return Record(Event(now, kind, subject, reason=reason))
