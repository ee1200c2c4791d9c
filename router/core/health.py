"""Measured health of data centers: up, degraded, down, from all their peers' evidence together.

A slow per-pair probe cannot notice an outage quickly, but a data center has many peers: when *every* packet exchanged
with it has been lost for a while, seen from several vantages, it is down, although each pair contributed one loss.
Absence of reports is never evidence: only counted losses are. If more than half of all data centers would go down at
once, the fault is more likely ours (the controller's network, the prober), and nothing is declared.

Users whom a data center did not answer say so when they resume elsewhere. They alone prove nothing, for what they say
may be their own line's fault; but where several do, half the silence of all peers is enough.

``unknown --evidence--> up <--loss falls / rises--> degraded``; ``any --only losses--> down --quiet period--> up``. The
quiet period starts at ten seconds and doubles with every return to ``down`` within ten minutes, at most two minutes.
"""

from __future__ import annotations

import numpy as np

from router.core.compiled import count_health
from router.core.model import DataCenterId, Inventory, Micros
from router.core.tables import F64, I64, Bool, DataCenterHealth, Health, PeerEvidence

SILENCE_US = 1_500_000  # no packet came back for so long
HURRIED_US = SILENCE_US // 2  # where users complain as well
COMPLAINTS, COMPLAINT_LIFE_US = 2.5, 2_000_000  # so many users, each forgotten by half after so long
MIN_LOSSES = 5  # counted since the last packet that came back
MIN_VANTAGES = 3  # independent data centers among the losers (fewer where there are fewer peers, never below two)
EVIDENCE_US = 30_000_000
QUIET_US = 10_000_000
MAX_QUIET_US = 120_000_000
FLAP_MEMORY_US = 600_000_000
DEGRADED_AT, WELL_AT = 0.05, 0.02  # loss share over about ten seconds, with hysteresis between
DECAY_US = 10_000_000
TOGETHER_US = 5_000_000  # failures within this of each other have one cause until shown otherwise
ENOUGH_PROBES = 20  # below this a share means nothing


class HealthBook:
    """Evidence and state per data center; private state of the core."""

    def __init__(self, inventory: Inventory) -> None:
        self._ids = tuple(inventory.data_centers)
        n = len(self._ids)
        self._ok_at = np.zeros((n, n), np.int64)
        self._lost_at = np.zeros((n, n), np.int64)
        self._losses = np.zeros(n, np.int64)  # since the newest packet that came back
        self._sent = np.zeros((n, n))  # [prober, probed] decayed counts for the loss share
        self._lost = np.zeros((n, n))
        self._decayed_at: Micros = 0
        self._good_since = np.zeros(n, np.int64)
        self._quiet_us = np.full(n, QUIET_US, np.int64)
        self._down_at = np.zeros(n, np.int64)
        self._complaints = np.zeros(n)
        self._complained_at = np.zeros(n, np.int64)
        self.current: tuple[DataCenterHealth, ...] = tuple(DataCenterHealth() for _ in self._ids)
        self.frozen = False
        self._dark_at: Micros = 0  # when most of the world was last seen to go dark together

    def observe(self, evidence: PeerEvidence, now: Micros) -> None:
        """Count what one report says about its sender's data center and every peer it names."""
        u, v, n = evidence.source, evidence.target, len(self._ids)
        arrays = (v, evidence.received, evidence.lost, self._losses, self._lost_at, self._ok_at, self._sent, self._lost)
        if count_health(u, n, now, len(v), arrays):
            return
        ok, lost = v[evidence.received > 0], evidence.lost > 0
        self._losses[u] += int(evidence.lost.sum())
        np.add.at(self._losses, v, evidence.lost)
        for a, b in ((u, v[lost]), (v[lost], u)):
            self._lost_at[a, b] = now
        for a, b in ((u, ok), (ok, u)):
            self._ok_at[a, b] = now
        self._losses[ok] = 0
        if ok.size:
            self._losses[u] = 0
        np.add.at(self._sent, (np.full_like(v, u), v), evidence.received + evidence.lost)
        np.add.at(self._lost, (np.full_like(v, u), v), evidence.lost)

    def complain(self, data_center: DataCenterId, users: int, now: Micros) -> None:
        """So many users could not reach a data center."""
        if data_center in self._ids:
            i = self._ids.index(data_center)
            self._complaints[i] = self._complaining(now)[i] + users
            self._complained_at[i] = now

    def _complaining(self, now: Micros) -> F64:
        return np.asarray(self._complaints * 0.5 ** ((now - self._complained_at) / COMPLAINT_LIFE_US), np.float64)

    def evaluate(self, now: Micros) -> list[tuple[DataCenterId, DataCenterHealth, DataCenterHealth]]:
        """Bring every state up to date; returns ``(data center, before, after)`` for each change of state."""
        self._decay(now)
        n = len(self._ids)
        if n == 0:
            return []
        newest_ok, newest_lost = self._ok_at.max(axis=1), self._lost_at.max(axis=1)
        losers, needed = self._losers(newest_ok, newest_lost, now)
        patience_us = np.where(self._complaining(now) >= COMPLAINTS, HURRIED_US, SILENCE_US)
        dead = (now - newest_ok > patience_us) & (self._losses >= MIN_LOSSES) & (losers >= needed)
        seen = newest_ok > 0
        dead &= seen  # never heard of at all is unknown, not down
        standing = seen & np.array([h.state is not Health.DOWN for h in self.current])
        self._judge_darkness(standing, (now - newest_ok > SILENCE_US) & (self._losses > 0), now)
        if self.frozen or self._fades(standing, (now - newest_ok > SILENCE_US // 2) & (self._losses > 0)):
            dead &= ~standing
        vantages = (self._ok_at >= now - DECAY_US).sum(axis=1)
        losses = self._loss()
        changes = []
        after = []
        facts = (dead, newest_ok, newest_lost, losers, vantages)
        rows = zip(self.current, losses, *(fact.tolist() for fact in facts), strict=True)
        for i, (before, loss, is_dead, ok, lost, lossy, well) in enumerate(rows):
            if (
                before.state is Health.UP
                and not is_dead
                and now - ok <= EVIDENCE_US
                and not _is_lossy(loss, DEGRADED_AT)
            ):
                judged: tuple[Health, Micros, str] = (before.state, before.since, "")  # as usual, of hundreds
            else:
                judged = self._judge(i, before, is_dead, ok, lossy, loss, now)
            state, since, reason = judged
            health = DataCenterHealth(state, since, max(ok, lost), well, lossy, reason)
            after.append(health)
            if health.state is not before.state:
                changes.append((self._ids[i], before, health))
        self.current = tuple(after)
        return changes

    def _losers(self, newest_ok: I64, newest_lost: I64, now: Micros) -> tuple[I64, I64]:
        """Per data center the peers that lost packets after anybody got one, and how many there must be.

        Only of those that may have some; of the others, in good times all, nothing more is looked at.
        """
        losers, needed = np.zeros_like(newest_ok), np.full_like(newest_ok, 2)
        some = np.flatnonzero((newest_lost > newest_ok) & (now - newest_lost <= EVIDENCE_US))
        lost_at, ok_at = self._lost_at[some], self._ok_at[some]
        losers[some] = ((lost_at > newest_ok[some, None]) & (now - lost_at <= EVIDENCE_US)).sum(axis=1)
        peers = ((lost_at > 0) | (ok_at > 0)).sum(axis=1)
        needed[some] = np.maximum(2, np.minimum(MIN_VANTAGES, (peers + 1) // 2))
        return losers, needed

    def _fades(self, standing: Bool, fading: Bool) -> bool:
        """Whether most of the world is on its way into the dark: who gets there first must not be blamed for it.

        Evidence comes in with reports, a second apart, so of many that were cut off together one seems silent longest.
        """
        together = int((standing & fading).sum())
        return together > 2 and together * 2 > int(standing.sum())

    def _judge_darkness(self, standing: Bool, dark: Bool, now: Micros) -> None:
        """Freeze while most of the world is dark at once; evidence comes in over seconds, so "at once" is as long.

        Those who lost packets and cannot be judged yet count, and so do those who went down just before. It takes
        three: of two that do not hear each other, neither is blamed anyway.
        """
        fell = np.array([h.state is Health.DOWN and now - h.since <= TOGETHER_US for h in self.current])
        together = (standing & dark) | fell
        if together.sum() > 2 and together.sum() * 2 > (standing | fell).sum():
            self._dark_at, self.frozen = now, True
        elif now - self._dark_at > TOGETHER_US:
            self.frozen = False

    def _judge(
        self,
        i: int,
        before: DataCenterHealth,
        dead: bool,
        newest_ok: int,
        losers: int,
        loss: tuple[float, float],
        now: Micros,
    ) -> tuple[Health, Micros, str]:
        state, reason = self._next(i, before.state, dead, newest_ok, loss, now)
        if state is Health.DOWN:
            reason = f"{losers} vantages lose every packet since {(now - newest_ok) / 1e6:.1f} s"
            if not dead:
                reason = f"answers again; quiet period of {self._quiet_us[i] / 1e6:.0f} s is running"
        return state, before.since if state is before.state else now, reason

    def _loss(self) -> list[tuple[float, float]]:
        """Per data center the share of lost probes to and from it, and how many there were; down peers do not count."""
        alive = np.array([h.state is not Health.DOWN for h in self.current])
        counts = self._sent, self._lost
        if alive.all():
            sent, lost = (n.sum(axis=1) + n.sum(axis=0) for n in counts)
        else:
            sent, lost = (n[:, alive].sum(axis=1) + n[alive].sum(axis=0) for n in counts)
        share = np.divide(lost, sent, out=np.zeros(len(sent)), where=sent > 0)
        return list(zip(share.tolist(), sent.tolist(), strict=True))

    def _next(
        self, i: int, state: Health, dead: bool, newest_ok: int, loss: tuple[float, float], now: Micros
    ) -> tuple[Health, str]:
        if dead:
            if state is not Health.DOWN:
                again = self._down_at[i] and now - self._down_at[i] < FLAP_MEMORY_US
                self._quiet_us[i] = min(MAX_QUIET_US, self._quiet_us[i] * 2) if again else QUIET_US
                self._down_at[i] = now
            self._good_since[i] = 0
            return Health.DOWN, ""
        if newest_ok == 0 or now - newest_ok > EVIDENCE_US:
            return (Health.DOWN if state is Health.DOWN else Health.UNKNOWN), "no recent evidence"
        if state is Health.DOWN:
            if now - newest_ok > SILENCE_US:
                self._good_since[i] = 0
            elif self._good_since[i] == 0:
                self._good_since[i] = now
            if self._good_since[i] == 0 or now - self._good_since[i] < self._quiet_us[i]:
                return Health.DOWN, ""
            for counts in (self._sent, self._lost):
                counts[i, :] = counts[:, i] = 0.0
            return Health.UP, "answered throughout its quiet period"
        limit = WELL_AT if state is Health.DEGRADED else DEGRADED_AT
        if _is_lossy(loss, limit):
            return Health.DEGRADED, f"{loss[0] * 100:.1f} % of probes to it are lost"
        return Health.UP, ""

    def _decay(self, now: Micros) -> None:
        if self._decayed_at:
            keep = float(np.exp(-max(0, now - self._decayed_at) / DECAY_US))
            self._sent *= keep
            self._lost *= keep
        self._decayed_at = now

    def adopt(self, older: HealthBook) -> None:
        """Take over what a book over an earlier inventory knew of data centers that still exist."""
        index = {dc: i for i, dc in enumerate(older._ids)}
        here = [i for i, dc in enumerate(self._ids) if dc in index]
        there = [index[self._ids[i]] for i in here]
        for name in ("_losses", "_good_since", "_quiet_us", "_down_at", "_complaints", "_complained_at"):
            getattr(self, name)[here] = getattr(older, name)[there]
        for name in ("_ok_at", "_lost_at", "_sent", "_lost"):
            getattr(self, name)[np.ix_(here, here)] = getattr(older, name)[np.ix_(there, there)]
        self._decayed_at = older._decayed_at
        self.frozen, self._dark_at = older.frozen, older._dark_at
        states = dict(zip(here, (older.current[i] for i in there), strict=True))
        self.current = tuple(states.get(i, DataCenterHealth()) for i in range(len(self._ids)))


def _is_lossy(loss: tuple[float, float], limit: float) -> bool:
    share, probes = loss
    return share >= limit and probes >= ENOUGH_PROBES
