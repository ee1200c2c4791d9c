"""Finding agents for sessions that wait: the queued ones, and those whose agent was lost.

Whenever a place of an agent becomes free, and once a second besides, the oldest waiting sessions of each pool are
placed anew on the present View and bound in one transaction. What a waiting session accepts grows with its patience:
the pool's limit on the whole way holds for the first 2 s, twice that until 5 s, then any distance; a limit of its own
always holds. A session that lost its agent keeps its edge, and takes the nearest free agent without regard to the
pool's limit, because a distant agent is better than none.

Every replica does this; the database decides who binds (:mod:`router.store.queue`).
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog

from router.core.model import DataCenterId, Micros, NodeId, PoolId, Session
from router.core.steering import PlaceRequest, Refused, hubs_from, place
from router.store.queue import Offer, Orphan, Rebound

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

log = structlog.get_logger("tendril.waiting")
GATHER_S = 0.02  # places that become free within this are dealt out together
PATIENCE = ((2_000_000, 1.0), (5_000_000, 2.0))  # waited less than this, in microseconds: the pool's limit times that


def cap_factor(waited_us: Micros) -> float:
    """By how much a session that has waited for so long stretches its pool's limit."""
    return next((factor for until_us, factor in PATIENCE if waited_us < until_us), math.inf)


class WaitingRoom:
    """What a control plane does for those who wait; ``rebound`` is what media nodes are told."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._dealing = False
        self._again = False
        self.rebound: dict[NodeId, tuple[Rebound, ...]] = {}
        self.dispatched = 0
        self.refused = 0
        self.redispatched = 0

    async def tend(self) -> None:
        """One round: end what is over, deal out what is free."""
        runtime = self._runtime
        self.refused += len(await runtime.commit_later(lambda store: store.tend_pools(runtime.now())))
        await self.deal()
        await self._rescue()
        await self._note_rebounds()

    async def deal_soon(self) -> None:
        """Some places have become free: deal them out, together with those that become free meanwhile."""
        self._again = True
        if self._dealing:
            return
        self._dealing = True
        try:
            while self._again:
                self._again = False
                await asyncio.sleep(GATHER_S)
                await self.deal()
        finally:
            self._dealing = False

    async def deal(self) -> None:
        """Bind waiting sessions to free agents, oldest first in each pool."""
        runtime = self._runtime
        for pool, sessions in (await runtime.read(lambda store: store.waiting())).items():
            offers = self._offers(pool, sessions)
            if offers:
                bound = await runtime.commit(lambda store, p=pool, o=offers: store.dispatch(p, o, runtime.now()))  # type: ignore[misc]
                self.dispatched += len(bound)

    def _offers(self, pool: PoolId, sessions: tuple[Session, ...]) -> list[Offer]:
        view, now = self._runtime.view, self._runtime.now()
        free = sum(n for (name, _), n in view.counters.idle.items() if name == pool and n > 0)
        offers: list[Offer] = []
        for session in sessions:
            if len(offers) >= 2 * free:  # some of them may end meanwhile; nobody else could be served
                break
            decision = place(view, _wish(session, cap_factor(now - session.created_at)), now)
            if isinstance(decision, Refused):
                continue
            edge = decision.edges[0]
            waited = f"waited {(now - session.created_at) / 1e6:.1f} s for an agent of pool {pool}"
            ranked = tuple(ranked.data_center for ranked in decision.edges)
            lease = now + self._runtime.options.attach_lease_us
            reasons = (waited, *decision.reasons)
            offers.append(Offer(session.id, edge.data_center, edge.node, ranked, decision.hubs, reasons, lease))
        return offers

    async def _rescue(self) -> None:
        runtime = self._runtime
        for orphan in await runtime.read(lambda store: store.orphans(runtime.now())):
            hubs = hubs_from(runtime.view, _wish(orphan.session), orphan.session.edge)
            if hubs and await self._bind_again(orphan, hubs):
                self.redispatched += 1

    async def _bind_again(self, orphan: Orphan, hubs: tuple[DataCenterId, ...]) -> bool:
        runtime = self._runtime
        reasons = (f"agents nearest to {orphan.session.edge} are in {', '.join(hubs[:3])}",)
        bound = await runtime.commit(lambda store: store.redispatch(orphan, hubs, reasons, runtime.now()))
        if bound is None:
            return False
        runtime.arms.orphaned(bound.id)
        log.info("session_redispatched", session=bound.id, agent=bound.agent, data_center=bound.agent_data_center)
        return True

    async def _note_rebounds(self) -> None:
        found: dict[NodeId, list[Rebound]] = {}
        for rebound in await self._runtime.read(lambda store: store.rebounds()):
            found.setdefault(rebound.node, []).append(rebound)
        self.rebound = {node: tuple(rebounds) for node, rebounds in found.items()}


def _wish(session: Session, factor: float = math.inf) -> PlaceRequest:
    return PlaceRequest(
        client=session.client,
        traffic_class=session.traffic_class,
        pool=session.pool,
        constraints=session.constraints,
        seed=session.id,
        sticky=session.edge,
        labels=session.metadata,
        cap_factor=factor,
    )
