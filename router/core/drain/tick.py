"""What all drains want on a tick: to go on, to begin because blame or the calendar says so, to end, to be shown."""

from __future__ import annotations

from collections.abc import Iterator

from router.core.drain.automatic import told, wishes
from router.core.drain.book import DrainBook
from router.core.drain.drive import drive
from router.core.drain.practice import Calendar, due, ending
from router.core.messages import AdvanceDrain, Effect, OpenDrain, Record, ShowDrains
from router.core.model import Event, Micros
from router.core.tables import View


def on_tick(book: DrainBook, view: View, calendar: Calendar, now: Micros) -> list[Effect]:
    """The effects of one tick; ``view`` has the progress that ``book`` has just measured."""
    effects: list[Effect] = []
    for _, drain in sorted(view.drains.items()):
        over = ending(view, drain, now)
        if over:
            effects.append(AdvanceDrain(drain.id, "undo", over))
            continue
        for kind, text in (("expired", book.expiry(view, drain, now)), ("stuck", book.usual.news(drain.id, now))):
            effects += [Record(Event(now, f"drain.{kind}", drain.id, reason=text))] if text else []
        effects += drive(view, drain, now)
    effects += _beginnings(book, view, calendar, now)
    changed = book.news(view.drains)
    return effects + ([ShowDrains(changed)] if changed else [])


def _beginnings(book: DrainBook, view: View, calendar: Calendar, now: Micros) -> Iterator[Effect]:
    wanted = wishes(view, now)
    for subject, text in told(wanted):
        if book.is_news(subject, text):
            yield Record(Event(now, "drain.withheld", subject, reason=text))
    granted = [wish.request for wish in wanted if not wish.refused]
    if granted:
        yield OpenDrain(granted[0])
        return
    practice = due(view, calendar, now)
    if practice is None:
        return
    if not practice.outcome:
        yield OpenDrain(practice.request)
    elif book.is_news("practice", practice.outcome):
        yield Record(Event(now, "drain.practice_left_out", "practice", reason=practice.outcome))
