"""What nodes did by themselves, told once: routes that a reaction plan flipped, as events of the audit trail."""

from __future__ import annotations

from collections.abc import Sequence

from probes.wire import ReflexEvent
from router.core.messages import Record
from router.core.model import Event, Micros, NodeId

TOLD = 20  # events per report; the rest is counted: a dead provider moves hundreds of routes


class ReflexBook:
    """What each node's last report told."""

    def __init__(self) -> None:
        self._told: dict[NodeId, tuple[ReflexEvent, ...]] = {}

    def hear(self, node: NodeId, told: Sequence[ReflexEvent], now: Micros) -> list[Record]:
        """Tell of routes that a node changed by itself; what a lost answer made it say twice is told once."""
        if not told and node not in self._told:
            return []
        before = set(self._told.pop(node, ()))
        if told:
            self._told[node] = tuple(told)
        new = [reflex for reflex in told if reflex not in before]
        texts = [
            f"{reflex.context} to {reflex.target} goes along "
            f"{' > '.join(reflex.to_path) or 'nothing is left'}: {reflex.cause}"
            for reflex in new[:TOLD]
        ]
        if len(new) > TOLD:
            texts.append(f"and {len(new) - TOLD} more routes")
        return [Record(Event(now, "route.reflex", node, reason=text)) for text in texts]
