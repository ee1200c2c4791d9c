"""Judging a run from what its callers saw and what the database holds in the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Hold = tuple[str, str, float, float]  # agent, session, from, until: surely held in between


def doubles(holds: Iterable[Hold]) -> list[tuple[Hold, Hold]]:
    """Pairs of holds of one agent by two sessions at the same time, by the clock of the one process that saw both."""
    of_agent: dict[str, list[Hold]] = {}
    for hold in holds:
        of_agent.setdefault(hold[0], []).append(hold)
    found = []
    for held in of_agent.values():
        held.sort(key=lambda hold: hold[2])
        last = held[0]
        for hold in held[1:]:
            if hold[2] < last[3]:
                found.append((last, hold))
            last = max(last, hold, key=lambda one: one[3])
    return found


def repeated(holds: Iterable[Hold]) -> list[str]:
    """Sessions that were given to two requests."""
    seen: set[str] = set()
    return [session for _, session, _, _ in holds if session in seen or seen.add(session)]  # type: ignore[func-returns-value]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share is at most; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
