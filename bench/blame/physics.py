"""What happens in the world second by second, and what nodes and probers report of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.blame.faults import Placed
from bench.blame.world import F, I, World
from router.core.attention import Pairs, is_due
from router.core.blame import BlameBook, Outcome

STEP_S = 0.5
PROBE_BYTES = 2 * (44 + 28)  # a STAMP packet there and one back, with UDP and IP
PLAN_S = 1.5  # from a revision until nodes probe by it: they fetch it with the answer to their next report
WANTED = 4  # probes a second on a pair that is asked for
EVENING_S = 5_400.0  # of the congestion's rise and fall


class Physics:
    """The moving parts; one random stream, so that a seed is a history."""

    def __init__(self, world: World, placed: Sequence[Placed], evening: bool = False, starved: bool = False) -> None:
        self.world, self.placed, self.starved = world, placed, starved
        rng = self.rng = np.random.default_rng([world.seed, 2])
        n, isps, groups = len(world.dcs), len(world.isps), len(world.groups.isp)
        self.base_loss = rng.lognormal(np.log(4e-4), 1.0, (n, n))
        chronic = rng.random((n, n)) < 0.01
        self.base_loss[chronic] = rng.uniform(0.01, 0.03, int(chronic.sum()))
        self.burst_until = np.zeros((n, n))
        self.burst_loss = np.zeros((n, n))
        self.evening = evening
        self.congested = rng.random((n, n)) < 0.08  # they all fill up at the same hours
        self.congested_isp = rng.random(isps) < 0.3
        self.people = world.groups.people * rng.uniform(0.8, 1.2, groups)
        self.own_bad = rng.poisson(0.012 * self.people).astype(np.float64)  # people with a bad network of their own
        self.hiccup_until = np.zeros(len(world.nodes))
        self.stalled_until = np.zeros(len(world.nodes))
        self.late: list[tuple[float, int, I, I, I]] = []
        self.late_people: list[tuple[float, Outcome]] = []
        self.peers = [
            tuple(world.nodes[i] for i in world.pairs.peer[world.pairs.source == a]) for a in range(len(world.nodes))
        ]
        self.rows_of = [np.flatnonzero(world.pairs.source == a) for a in range(len(world.nodes))]
        self.phase = rng.integers(0, 4, len(world.pairs.source))
        self.probes = 0
        self.asked: Pairs = ()  # by the last revision of the plans
        self.hot: Pairs = ()  # by the plan that nodes have
        self.plans: list[tuple[float, Pairs]] = []
        self.revised_s = -1e9

    # --- what is ---

    def _weather(self, now_s: float) -> tuple[F, F, F]:
        """Loss and added delay of ways between data centers, and loss of client networks, without any fault."""
        rng = self.rng
        starts = rng.random(self.base_loss.shape) < STEP_S / 1_800
        count = int(starts.sum())
        self.burst_until[starts] = now_s + rng.uniform(0.5, 3.0, count)
        self.burst_loss[starts] = rng.uniform(0.1, 0.7, count)
        loss = np.where(self.burst_until > now_s, self.burst_loss, 0.0) + self.base_loss
        hour = 0.5 - 0.5 * np.cos(2 * np.pi * now_s / EVENING_S) if self.evening else 0.0
        loss = loss + self.congested * 0.02 * hour
        delay = self.congested * 15.0 * hour
        return np.clip(loss, 0, 1), delay, self.congested_isp * 0.02 * hour

    def _of_faults(self, now_s: float) -> tuple[F, F, F, F, F, F, F]:
        """Per probe row: loss there, loss back, delay; per group: loss, delay, failing set-ups, dropped sessions."""
        rows, groups = len(self.world.pairs.source), len(self.world.groups.isp)
        there, back, late = np.zeros(rows), np.zeros(rows), np.zeros(rows)
        lost, slow, fails, drops = (np.zeros(groups) for _ in range(4))
        for one in self.placed:
            fault, size = one.fault, one.fault.size(now_s)
            if not size:
                continue
            loss = fault.loss_pct / 100 * size
            other = loss if fault.return_loss_pct is None else fault.return_loss_pct / 100 * size
            there[one.rows] = 1 - (1 - there[one.rows]) * (1 - loss)
            back[one.rows] = 1 - (1 - back[one.rows]) * (1 - other)
            late[one.rows] += fault.delay_ms * size
            hit = one.groups * fault.flows_pct / 100  # of the people in a group, so many have a flow that is hit
            lost = 1 - (1 - lost) * (1 - max(loss, other) * (hit > 0)) if fault.flows_pct >= 100 else lost
            slow += one.groups * fault.delay_ms * size
            fails = 1 - (1 - fails) * (1 - one.groups * fault.setup_failure_pct / 100 * size)
            drops = 1 - (1 - drops) * (1 - one.groups * fault.drop_pct / 100 * size)
            if fault.flows_pct < 100:
                bad = hit * float(_is_heard(np.array([max(loss, other)]), np.zeros(1))[0])
                drops = 1 - (1 - drops) * (1 - bad)
                fails = 1 - (1 - fails) * (1 - hit * max(loss, other) ** 2)
        return there, back, late, lost, slow, fails, drops

    # --- what is told ---

    def step(self, now_s: float, book: BlameBook) -> None:
        """Let half a second pass; nodes whose turn it is report."""
        loss, delay, isp_loss = self._weather(now_s)
        there, back, late, lost, slow, fails, drops = self._of_faults(now_s)
        self._probe(now_s, loss, delay, there, back, late, book)
        self._talk(now_s, loss, isp_loss, lost, slow, fails, drops, book)

    def _probe(self, now_s: float, loss: F, delay: F, there: F, back: F, late: F, book: BlameBook) -> None:
        world, rng, pairs = self.world, self.rng, self.world.pairs
        half = int(now_s / STEP_S) % 2
        turn = pairs.source % 2 == half
        second = int(now_s)
        sent = (turn & ((second + self.phase) % pairs.every == 0)).astype(np.int64)
        u, v = world.home[pairs.source], world.home[pairs.peer]
        for one, other in self._asked(now_s, book):  # as hot as a link that carries calls
            i, j = world.dcs.index(one), world.dcs.index(other)
            sent += WANTED * turn * (((u == i) & (v == j)) | ((u == j) & (v == i)))
        way = np.where(pairs.sibling, 1e-4, loss[u, v])
        way_back = np.where(pairs.sibling, 1e-4, loss[v, u])
        good = (1 - way) * (1 - way_back) * (1 - there) * (1 - back)
        hiccup = self.hiccup_until > now_s
        start = rng.random(len(hiccup)) < STEP_S / 7_200
        self.hiccup_until[start] = now_s + rng.uniform(0.5, 2.5, int(start.sum()))
        good = np.where(hiccup[pairs.source], good * 0.5, good)
        stalled = self._stalls(now_s)
        waits = rng.uniform(5, 250, len(sent)) * (stalled[pairs.source] + stalled[pairs.peer])
        good = good * (1 - 0.15 * stalled[pairs.source]) * (1 - 0.15 * stalled[pairs.peer])
        received = rng.binomial(sent, good)
        trip = pairs.base_ms + delay[u, v] + late + waits + rng.exponential(0.6, len(sent))
        rtt = np.where(received > 0, trip * 1000, -1).astype(np.int64)
        self.probes += int(sent.sum())
        # A report takes the same network home: where nine in ten packets are lost, TCP gets nothing through.
        probed = np.maximum(1, np.bincount(pairs.source, sent, len(world.nodes)))
        mean_bad = np.bincount(pairs.source, (1 - good) * sent, len(world.nodes)) / probed
        honest = ~np.isin(np.arange(len(world.nodes)), self._broken_probers())
        for a in range(half, len(world.nodes), 2):
            rows = self.rows_of[a]
            if not sent[rows].any() or rng.random() < 0.01 or (honest[a] and mean_bad[a] > 0.85):
                continue
            when = now_s + (float(rng.uniform(0.5, 2.0)) if rng.random() < 0.05 + 0.6 * stalled[a] else 0.0)
            self.late.append((when, a, sent[rows], received[rows], rtt[rows]))
        due = [item for item in self.late if item[0] <= now_s]
        self.late = [item for item in self.late if item[0] > now_s]
        for _, a, s, r, t in due:
            book.observe_probes(world.nodes[a], self.peers[a], s, r, t, round(now_s * 1e6))

    def _stalls(self, now_s: float) -> F:
        """Which nodes get no processor now, if all run on one machine that has too few: some, for some seconds."""
        if self.starved and self.rng.random() < STEP_S / 4:
            hit = self.rng.random(len(self.stalled_until)) < self.rng.uniform(0.1, 0.8)
            self.stalled_until[hit] = now_s + self.rng.uniform(0.5, 3.0, int(hit.sum()))
        return (self.stalled_until > now_s).astype(np.float64)

    def _asked(self, now_s: float, book: BlameBook) -> Pairs:
        """Pairs that are probed harder because the localiser asked for it, once nodes have heard of it."""
        if book.wanted != self.asked and is_due(int(1e6 * (now_s - self.revised_s)), self.asked, book.wanted):
            self.revised_s, self.asked = now_s, book.wanted
            self.plans.append((now_s + PLAN_S, book.wanted))
        while self.plans and self.plans[0][0] <= now_s:
            self.hot = self.plans.pop(0)[1]
        return self.hot

    def _broken_probers(self) -> list[int]:
        return [
            self.world.nodes.index(one.fault.component.id)
            for one in self.placed
            if one.fault.component.kind == "prober"
        ]

    def _talk(self, now_s: float, loss: F, isp_loss: F, lost: F, slow: F, fails: F, drops: F, book: BlameBook) -> None:
        world, rng, groups = self.world, self.rng, self.world.groups
        edge = world.home[groups.node]
        over = np.where(groups.relay >= 0, groups.relay, edge)
        way = 1 - (1 - loss[edge, over] * (over != edge)) * (1 - loss[over, groups.hub] * (over != groups.hub))
        all_lost = 1 - (1 - way) * (1 - isp_loss[groups.isp]) * (1 - lost)
        stalled = (self.stalled_until > now_s)[groups.node] * 0.2
        share = 1 - (1 - _is_heard(all_lost, slow)) * (1 - drops) * (1 - stalled)
        turn = groups.node % 4 == int(now_s / STEP_S) % 4  # media nodes speak every two seconds
        count = rng.poisson(self.people)
        bad = np.minimum(count, rng.binomial(count, np.clip(share, 0, 1)) + self.own_bad.astype(np.int64))
        tries = rng.poisson(self.people * 2 / 60)
        failed = rng.binomial(tries, np.clip(1 - (1 - fails) * (1 - all_lost**2) * 0.995, 0, 1))
        dead = all_lost > 0.97
        node_dead = np.bincount(groups.node, dead, len(world.nodes)) >= 0.97 * np.maximum(
            1, np.bincount(groups.node, minlength=len(world.nodes))
        )
        told: list[Outcome] = []
        for g in np.flatnonzero(turn & (count + tries > 0)).tolist():
            node = int(groups.node[g])
            relays = () if groups.relay[g] < 0 else (world.dcs[groups.relay[g]],)
            hub = world.dcs[groups.hub[g]]
            where, who = world.dcs[edge[g]], world.isps[groups.isp[g]]
            if dead[g] and node_dead[node]:
                if failed[g]:  # nobody hears the node; its people say so when they come back elsewhere
                    late = Outcome(where, None, who, None, setup_failed=int(failed[g]))
                    self.late_people.append((now_s + float(rng.uniform(0.5, 3)), late))
                continue
            if rng.random() < 0.01:
                continue
            told.append(Outcome(
                where, world.nodes[node], who, hub, relays, "",
                int(tries[g] - failed[g]), int(failed[g]), int(count[g] - bad[g]), int(bad[g]),
            ))  # fmt: skip
        told += [one for at_s, one in self.late_people if at_s <= now_s]
        book.observe_outcomes(told, round(now_s * 1e6))
        self.late_people = [item for item in self.late_people if item[0] > now_s]
        self._come_and_go(share)

    def _come_and_go(self, share: F) -> None:
        """Users whose session is bad give up within half a minute; others take their place once it is well."""
        groups, rng = self.world.groups, self.rng
        wanted = groups.people * (1 - 0.8 * np.clip(share, 0, 1))
        self.people += (wanted - self.people) * STEP_S / 30
        fresh = rng.random(len(self.own_bad)) < STEP_S / 60  # a call of two minutes, and who calls next
        self.own_bad = np.where(fresh, rng.poisson(0.012 * np.maximum(self.people, 0)), self.own_bad)


def _is_heard(loss: F, delay_ms: F) -> F:
    """Share of sessions that call themselves bad: half of them at 5 % loss, or 130 ms more than usual."""
    by_loss = 1 / (1 + np.exp(-(loss - 0.05) / 0.011))
    by_delay = 1 / (1 + np.exp(-(delay_ms - 130) / 20))
    share: F = 1 - (1 - by_loss) * (1 - by_delay)
    return np.where((loss < 0.02) & (delay_ms < 50), 0.0, share)
