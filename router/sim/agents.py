"""Simulated probe agents: the real schedule and summary, virtual packets."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from probes.schedule import Schedule
from probes.summary import Summary
from probes.wire import PlanPeer, ProbePlan, ProbeReport
from router.core.model import Node, NodeId
from router.sim.engine import Engine
from router.sim.world import World

REFLECT_US = 30  # the reflector keeps a probe for so long


class SimAgent:
    """One node's agent; ``send`` takes a report at the moment when the agent sends it."""

    def __init__(
        self, engine: Engine, world: World, node: Node, rng: Random, send: Callable[[ProbeReport], None]
    ) -> None:
        self._engine = engine
        self._world = world
        self.node = node
        self._rng = rng
        self._send = send
        self._schedule = Schedule(rng)
        self._summary = Summary()
        self._sequence = 0
        self._plan_version = 0
        self.peers: dict[NodeId, SimAgent] = {}

    def start(self, plan: ProbePlan) -> None:
        """Begin to probe and to report once a second."""
        self.replace_plan(plan)
        self._engine.every(plan.report_interval_us, self._report, self._engine.now + self._rng.randrange(1_000_000))
        self._wake()

    def replace_plan(self, plan: ProbePlan) -> None:
        """Follow another plan."""
        self._plan_version = plan.plan_version
        self._schedule.replace(plan.peers, self._engine.now)

    def _clock(self, now: int) -> int:
        return self._world.clocks[self.node.id].read(now)

    def _wake(self) -> None:
        now = self._engine.now
        self._summary.expire(now)
        for peer in self._schedule.due(now):
            self._probe(peer)
        following = self._schedule.next_at()
        self._engine.at(now + 1_000_000 if following is None else following, self._wake)

    def _probe(self, peer: PlanPeer) -> None:
        now, other = self._engine.now, self.peers[NodeId(peer.node)]
        row = self._summary.row(peer.node, peer.transport)
        t1 = self._clock(now)
        sequence = row.send(t1, now)
        there = self._world.transit(self.node, other.node, self._rng)
        if there is None:
            return

        def reflect() -> None:
            arrived = self._engine.now
            other._summary.row(self.node.id, peer.transport).reflect()
            back = self._world.transit(other.node, self.node, self._rng)
            if back is None:
                return
            t2, t3 = other._clock(arrived), other._clock(arrived + REFLECT_US)
            self._engine.at(arrived + REFLECT_US + back, lambda: answered(t2, t3))

        def answered(t2: int, t3: int) -> None:
            home = self._engine.now
            row.answer(sequence, t1, t2, t3, self._clock(home), home)  # what it was is counted inside

        self._engine.at(now + there, reflect)

    def _report(self) -> None:
        now = self._engine.now
        self._summary.expire(now)
        self._sequence += 1
        self._send(
            ProbeReport(
                node=self.node.id,
                boot="sim",
                sequence=self._sequence,
                plan_version=self._plan_version,
                sent_at_us=self._clock(now),
                interval_us=1_000_000,
                rows=self._summary.close(now),
            )
        )
