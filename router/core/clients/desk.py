"""Clients' place in the control plane: beacons to the book, a tick to a census, its lesson back into the book."""

from __future__ import annotations

from router.core.clients.evidence import ClientBook
from router.core.clients.tomography import Census
from router.core.messages import Beaconed, ClientsFitFailed, ClientsFitted, Effect, FitClients, Record
from router.core.model import Event, Inventory, Micros


class ClientDesk:
    """Private state of the core; what is known is in ``book``."""

    def __init__(self) -> None:
        self.book = ClientBook()
        self.pending: Census | None = None  # what the outstanding fit is made of
        self._count = 0

    def tick(self, inventory: Inventory, now: Micros) -> list[Effect]:
        """Learn from all client networks, if there is anything new and the last lesson is over."""
        if self.pending is not None or self.book.taken == self.book.learned:
            return []
        self._count += 1
        self.book.learned = self.book.taken
        self.pending = Census(self._count, now, self.book.table, inventory)
        return [FitClients(self.pending)]

    def take(
        self, event: Beaconed | ClientsFitted | ClientsFitFailed, inventory: Inventory, now: Micros
    ) -> list[Effect]:
        """Measurements, or what came of a lesson."""
        if isinstance(event, Beaconed):
            self.book.observe(event.beacons, inventory, now)
            return []
        number = event.model.number if isinstance(event, ClientsFitted) else event.number
        if self.pending is None or number != self.pending.number:
            return []
        self.pending = None
        if isinstance(event, ClientsFitted):
            self.book.adopt(event.model)
            return []
        return [Record(Event(now, "clients.failed", "control-plane", reason=event.error))]
