"""The core's memory of blame: takes observations in, asks for judgements, keeps verdicts as leases.

``case`` freezes what was seen, a worker judges it, ``settle`` turns findings into verdicts. A verdict is renewed by
fresh bad evidence from a vantage outside of what it blames, and ends without it after ``LEASE_US``; it ends sooner when
``LEAVE_US`` pass in which the evidence says that all is well. No evidence at all is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from probes.wire import ReportRows
from router.core.blame.cells import CARRIES, PERHAPS, SERVES, Cells
from router.core.blame.components import Atlas, signature
from router.core.blame.evidence import Weighed, evidence_of, weigh
from router.core.blame.infer import Case, Finding, Judgement
from router.core.blame.outcomes import Outcome
from router.core.blame.setups import LIVES_US, Setups
from router.core.blame.words import ACTIONS, sentence
from router.core.model import DataCenterId, Inventory, Micros, NodeId
from router.core.tables import I64
from router.core.verdicts import (
    LIKELY_PPM,
    SURE_PPM,
    WINDOW_US,
    Action,
    Alternative,
    Blame,
    Component,
    ComponentKind,
    Verdict,
)

LEASE_US = 30_000_000
# What is told of a posterior below ``SURE_PPM``, as it turned out to be right in ``bench blame``, seeds 400 to 479: the
# cover's own is too sure there (79 verdicts, one a second), and one that is not found again is hardly ever right (143).
TOLD_LIKELY_PPM, TOLD_NEXT_PPM, TOLD_GONE_PPM = 400_000, 650_000, 50_000
LEAVE_US = 6_000_000  # three windows: as long as it takes to act
ABSORB_US = 600_000_000  # a way or a client network that stays bad for so long is what is usual now
SETTLE_US = 32_000_000  # after a start nothing is blamed: there is no baseline to be worse than
FREEZE_US = 10_000_000  # how long everything must be well again before automation goes on
NOISE_US = 30_000_000  # how long noise is remembered that was everywhere (1/e)
LASTING = 3  # judgements in a row that must hear it
FORGOTTEN, DROWNED = 0.02, 0.2  # shares: as quiet as ever; so loud that automation must not act on anything
NEW_AT_ONCE = 64  # peers that a report may name for the first time; it takes a millisecond, and the rest wait a second
MOST_WANTED = 24  # pairs of data centers that are probed harder to tell two suspects apart
_FADING = (ComponentKind.TRANSIT, ComponentKind.CLIENT_ISP)


class BlameBook:
    """Cells, verdicts and the state of the freeze; private state of the core."""

    def __init__(self, inventory: Inventory) -> None:
        self._start(inventory)
        self.current = Blame()
        self._since: dict[Component, Micros] = {}  # when a present verdict was first spoken
        self._sure_since: dict[Component, Micros] = {}
        self._found_at: dict[Component, Micros] = {}
        self._dark_at: Micros = 0
        self._left: list[tuple[float, float]] = []  # what the last judgements left unexplained everywhere
        self._lasting = (0.0, 0.0)  # the least of it: of probes, of sessions
        self._lately = (0.0, 0.0)  # the same, as it is remembered
        self._judged_at: Micros = 0
        self._number = 0
        self.pending: Case | None = None  # what the outstanding judgement is about
        self.wanted: tuple[tuple[DataCenterId, DataCenterId], ...] = ()

    def _start(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._atlas = Atlas(inventory)
        self._cells = Cells()
        self._setups = tuple(map(Setups, LIVES_US))
        self._groups: dict[str, int] = {}
        self._began_at: Micros = 0
        self._pairs: dict[tuple[NodeId, tuple[str, ...]], tuple[I64, I64]] = {}
        self._order = tuple(self._atlas.nodes)
        self._numbers = {node: i for i, node in enumerate(self._order)}
        size = len(self._numbers)
        self._probe_rows = np.full((size, size), -1, np.int32)  # [source, peer] cell, -1 while there is none
        self._moved = 0

    def adopt(self, inventory: Inventory) -> None:
        """Follow a change of the inventory; other data centers or nodes mean new baselines."""
        if signature(inventory) != self._atlas.signature:
            self._start(inventory)
            self.pending = None
        self._inventory = inventory

    # --- evidence in -------------------------------------------------------------------------------------------------

    def observe_report(self, source: NodeId, rows: ReportRows, now: Micros) -> None:
        """Count what one report says."""
        number = self._numbers.get(source)
        if number is not None and self._cells.observe(rows, self._numbers, number, self._probe_rows, now):
            self._began_at = self._began_at or now
            return
        sent, received, trips = np.array((rows.sent, rows.received, rows.rtt_min_us), np.int64).reshape(3, -1)
        self.observe_probes(source, rows.peer, sent, received, trips, now)

    def observe_probes(
        self, source: NodeId, peers: tuple[str, ...], sent: I64, received: I64, rtt_us: I64, now: Micros
    ) -> None:
        """Count probes lost, and those that took longer than they use to."""
        self._began_at = self._began_at or now
        if source not in self._atlas.nodes:
            return
        pick, rows = self._rows(source, peers)
        sent, received, rtt_us = sent[pick], received[pick], rtt_us[pick]
        late = self._cells.slow(rows, np.where(received > 0, rtt_us, -1))
        bad = np.where(late, sent, sent - received)
        self._cells.note(rows, sent.astype(np.float64), bad.astype(np.float64), now)

    def _rows(self, source: NodeId, peers: tuple[str, ...]) -> tuple[I64, I64]:
        """Which rows of a report are of known nodes, and their cells; plans change seldom, so it is kept.

        Of more new pairs than ``NEW_AT_ONCE`` the later ones have none yet, and are left out this time.
        """
        found = self._pairs.get((source, peers))
        if found is None:
            number, numbers = self._numbers[source], self._numbers
            known = [(i, numbers[NodeId(p)]) for i, p in enumerate(peers) if p in self._atlas.nodes and p != source]
            picked, others = (np.array([pair[side] for pair in known], np.int64) for side in range(2))
            new = dict.fromkeys(others[self._probe_rows[number, others] < 0].tolist())
            made = list(new)[:NEW_AT_ONCE]
            nodes = [self._order[other] for other in made]
            cells = self._cells.add_all(0, [self._crossed(source, node) for node in nodes])
            self._probe_rows[number, made] = cells
            rows = self._probe_rows[number, others].astype(np.int64)
            if len(made) < len(new):
                return picked[rows >= 0], rows[rows >= 0]
            if len(self._pairs) > 4 * len(self._atlas.nodes) + 16:
                self._pairs.clear()
            found = self._pairs[source, peers] = picked, rows
        return found

    def _crossed(self, source: NodeId, peer: NodeId) -> tuple[tuple[int, int, int], ...]:
        """What probes between two nodes cross, as ``Cells.add`` wants it."""
        a, b = self._atlas.nodes[source], self._atlas.nodes[peer]
        u, v = a.data_center, b.data_center
        parts = dict.fromkeys(a.alone, v) | dict.fromkeys(b.node, u)
        if u != v:
            parts |= dict.fromkeys(a.whole, v) | dict.fromkeys(b.whole, u)
            parts[self._atlas.segment(self._atlas.data_centers[u], self._atlas.data_centers[v])] = u
        return tuple((part, parts[part], 0) for part in sorted(parts))

    def observe_outcomes(self, outcomes: Iterable[Outcome], now: Micros) -> None:
        """Count what became of sessions."""
        outcomes = tuple(outcomes)
        for span in self._setups:
            span.observe(outcomes, now)
        self._began_at = self._began_at or now
        rows, n, b = [], [], []
        for one in outcomes:
            if one.edge in self._atlas.places:
                rows.append(self._session_cell(one))
                b.append(one.bad + one.setup_failed)
                n.append(b[-1] + one.good + one.setup_ok)
        if rows:
            self._cells.note(np.array(rows, np.int64), np.array(n, np.float64), np.array(b, np.float64), now)

    def _session_cell(self, one: Outcome) -> int:
        key = (one.edge, one.node, one.group, one.hub, one.relays)
        found = self._cells.row.get(key)
        if found is not None:
            return found
        atlas, at = self._atlas, self._atlas.places[one.edge]
        group = self._vantage(one.group)
        parts: dict[int, int] = dict.fromkeys(at.whole, group)
        node = None if one.node is None else atlas.nodes.get(one.node)
        if node is not None:
            parts |= dict.fromkeys(node.node, group)
        near = set(parts)
        if one.hub in atlas.places and one.hub is not None:
            near.add(atlas.target(one.hub))
            parts[atlas.target(one.hub)] = at.data_center
            stops = (one.edge, *(dc for dc in one.relays if dc in atlas.places), one.hub)
            for stop in stops[1:]:
                parts |= {part: at.data_center for part in atlas.places[stop].whole if part not in parts}
            for a, b in pairwise(stops):
                if a != b:
                    parts[atlas.segment(a, b)] = group
        if one.group:
            near.update(atlas.client(one.group, at.provider))
            parts |= dict.fromkeys(atlas.client(one.group, at.provider), at.data_center)
        role = {part: CARRIES for part in parts if part not in near}
        if one.node is None:
            perhaps = {part: group for part in atlas.nodes_of.get(one.edge, ()) if part not in parts}
            parts |= perhaps
            role |= dict.fromkeys(perhaps, PERHAPS)
        return self._cells.add(key, 1, tuple((part, parts[part], role.get(part, SERVES)) for part in sorted(parts)))

    def _vantage(self, group: str) -> int:
        return len(self._atlas.data_centers) + self._groups.setdefault(group, len(self._groups))

    # --- judgement ---------------------------------------------------------------------------------------------------

    def case(self, now: Micros) -> Case | None:
        """Freeze what was seen; None while a judgement is outstanding, or too soon after the start."""
        if self.pending is not None or not self._began_at:
            return None
        cells, known = self._cells, self._atlas.components
        cells.fade(now)
        blamed = [known.number[name] for name in self._since if name in known.number and not self._is_old(name, now)]
        cells.learn(now, np.array(blamed, np.int64))
        if cells.moved != self._moved:
            self._moved, known_rows = cells.moved, self._probe_rows >= 0
            self._probe_rows[known_rows] = cells.place[self._probe_rows[known_rows]]
            self._pairs.clear()
        if now - self._began_at < SETTLE_US:
            return None
        self._number += 1
        cell, component, vantage, role = cells.entries()
        size, held = cells.count, cells.counts
        self.pending = Case(
            number=self._number,
            at=now,
            names=tuple(known.names),
            children={whole: tuple(parts) for whole, parts in known.children.items()},
            cell=cell,
            component=component,
            vantage=vantage,
            role=role,
            vantage_provider=(*self._atlas.providers, *self._groups),
            kind=cells.kind[:size].copy(),
            baseline=cells.baseline[:size].copy(),
            last_bad=cells.last_bad[:size].copy(),
            counts=tuple((held[f"{span}_n"][:size].copy(), held[f"{span}_b"][:size].copy()) for span in _SPANS),
        )
        return self.pending

    def _is_old(self, name: Component, now: Micros) -> bool:
        return name.kind in _FADING and now - self._since[name] > ABSORB_US

    def settle(self, judgement: Judgement, now: Micros, frozen: str = "") -> tuple[list[Verdict], list[Verdict]]:
        """Bring the verdicts up to date; returns those that begin and those that end. ``frozen``: others say so."""
        if self.pending is None or judgement.number != self.pending.number:
            return [], []
        self.pending = None
        self._remember(judgement)
        reason = self._freeze(judgement.dark or frozen or self._drowned(), now)
        before = {v.component: v for v in self.current.verdicts}
        after: dict[Component, Verdict] = {}
        if not reason:
            for finding, weighed in self._weighed(judgement, now):
                verdict = self._verdict(finding, weighed, before, now)
                if verdict is not None:
                    after[verdict.component] = verdict
        for name, old in before.items():
            kept = None if name in after else self._kept(judgement.case, old, now)
            if kept is not None:
                after[name] = old if reason else kept
        for name in [name for name in self._since if name not in after]:
            for times in (self._since, self._sure_since, self._found_at):
                times.pop(name, None)
        order = sorted(after.values(), key=lambda v: (-v.confidence_ppm, v.component))
        self.current = Blame(tuple(order), bool(reason), judgement.at, reason)
        self.wanted = () if reason else self._splitting(judgement)
        began = [v for v in order if v.component not in before]
        return began, [old for name, old in before.items() if name not in after]

    def _weighed(self, judgement: Judgement, now: Micros) -> Iterable[tuple[Finding, Weighed]]:
        """What the cover found, and places whose set-ups fail where it is less sure of them or of what is near."""
        found = {
            finding.number: (finding, weigh(judgement.case, finding, judgement.findings, self._lately))
            for finding in judgement.findings
        }
        shorter = (None, None, self._setups[1])  # what takes minutes to see must be over in seconds
        spans = zip(self._setups, shorter, strict=True)
        for gray in (one for span, other in spans for one in span.gray(self._atlas, now, other)):
            number = self._atlas.components.number.get(gray.component)
            if number is None:
                continue
            rivals = [i for i in found if i == number or self._is_part(i, number) or self._is_part(number, i)]
            if all(found[i][1].confidence < gray.confidence for i in rivals):
                for i in rivals:
                    del found[i]  # it is the same trouble, seen less sharply
                finding = Finding(gray.component, gray.confidence, (), number, 0)
                found[number] = finding, Weighed(gray.evidence, gray.confidence, is_watched=True)
        return found.values()

    def _is_part(self, part: int, whole: int) -> bool:
        return part in self._atlas.components.children.get(whole, ())

    def _remember(self, judgement: Judgement) -> None:
        """Keep in mind what was bad everywhere: heard once it lasts, and forgotten slowly, for it comes in waves."""
        self._left = [*self._left, judgement.left][-LASTING:]
        passed = max(0, judgement.at - self._judged_at)
        keep, self._judged_at = float(np.exp(-passed / NOISE_US)), judgement.at
        lasting = [min(left[kind] for left in self._left) if len(self._left) == LASTING else 0.0 for kind in range(2)]
        self._lasting = lasting[0], lasting[1]
        kept = [max(now, keep * held) for now, held in zip(lasting, self._lately, strict=True)]
        self._lately = kept[0] if kept[0] > FORGOTTEN else 0.0, kept[1] if kept[1] > FORGOTTEN else 0.0

    def _drowned(self) -> str:
        """Why nobody can be told from the noise; empty if it is not that loud."""
        for what, share in zip(("probes", "sessions"), self._lasting, strict=True):
            if share > DROWNED:
                return f"{100 * share:.0f} % of {what} are bad everywhere, whatever they cross"
        return ""

    def _freeze(self, reason: str, now: Micros) -> str:
        if reason:
            self._dark_at = now
            return reason
        if self.current.frozen and now - self._dark_at < FREEZE_US:
            return self.current.frozen_reason
        return ""

    def _verdict(
        self, finding: Finding, weighed: Weighed, before: dict[Component, Verdict], now: Micros
    ) -> Verdict | None:
        name, evidence = finding.component, weighed.evidence
        sure = int(1e6 * weighed.confidence)
        expires = evidence.newest_at + LEASE_US
        if sure < LIKELY_PPM or expires <= now:
            return None
        self._found_at[name] = now
        if sure >= SURE_PPM:  # a fault that comes and goes is the same one while its verdict lasts
            self._sure_since.setdefault(name, now)
        windows = self._windows(name, evidence.newest_at, before)
        return Verdict(
            component=name,
            confidence_ppm=_told(sure),
            since=self._since.setdefault(name, now),
            windows=windows,
            evidence=evidence,
            alternatives=tuple(Alternative(other, int(1e6 * share)) for other, share in finding.alternatives),
            action=ACTIONS[name.kind] if sure >= SURE_PPM else Action.WATCH,
            expires_at=max(expires, before[name].expires_at) if name in before else expires,
            text=sentence(self._inventory, name, evidence, sure >= SURE_PPM),
        )

    def _windows(self, name: Component, heard_at: Micros, before: dict[Component, Verdict]) -> int:
        """Windows in a row; one counts if something bad was seen in it or later: one burst is not three windows."""
        if name not in self._sure_since:
            return 0
        known = before[name].windows if name in before else 0
        return max(known, 1 + max(0, heard_at - self._sure_since[name]) // WINDOW_US)

    def _kept(self, case: Case, old: Verdict, now: Micros) -> Verdict | None:
        """What stays of a verdict that was not found again: as it is without evidence, else less each time."""
        if now >= old.expires_at:
            return None
        number = self._atlas.components.number.get(old.component)
        if number is None:
            return None
        _, watched = evidence_of(case, Finding(old.component, 0.0, (), number, 0))
        if not watched:
            return replace(old, windows=0)
        return _faded(old) if now - self._found_at.get(old.component, now) < LEAVE_US else None

    # --- probes that would tell --------------------------------------------------------------------------------------

    def _splitting(self, judgement: Judgement) -> tuple[tuple[DataCenterId, DataCenterId], ...]:
        """Pairs of data centers whose probes cross one of the two best suspects and not the other."""
        wanted: dict[tuple[DataCenterId, DataCenterId], None] = {}
        for finding in judgement.findings:
            if finding.confidence >= SURE_PPM / 1e6:
                continue
            one = self._vertices(finding.component)
            other = self._vertices(finding.alternatives[0][0]) if finding.alternatives else ()
            if finding.component.kind is ComponentKind.TRANSIT and len(one) == 2:
                wanted[min(one), max(one)] = None
            calm = [dc for dc in self._atlas.data_centers if dc not in one and dc not in other]
            for dc in (*(d for d in one if d not in other), *(d for d in other if d not in one), *one):
                for far in calm[:3]:
                    wanted[min(dc, far), max(dc, far)] = None
        return tuple(wanted)[:MOST_WANTED]

    def _vertices(self, name: Component) -> Sequence[DataCenterId]:
        atlas = self._atlas
        if name.kind is ComponentKind.TRANSIT and ">" in name.id:
            return [dc for dc in map(DataCenterId, name.id.split(">")) if dc in atlas.places]
        if name.kind in (ComponentKind.EDGE_REGION, ComponentKind.TARGET):
            return [dc for dc in atlas.data_centers if dc == name.id]
        if name.kind in (ComponentKind.NODE, ComponentKind.PROBER):
            place = atlas.nodes.get(NodeId(name.id))
            return [] if place is None else [atlas.data_centers[place.data_center]]
        number = atlas.components.number.get(name)
        return [dc for dc, place in atlas.places.items() if number in place.whole]


def _faded(old: Verdict) -> Verdict:
    """A verdict that was not found again: it stays for a while, should it come back, and is hardly believed."""
    return replace(old, windows=0, confidence_ppm=TOLD_GONE_PPM, action=Action.WATCH)


def _told(sure_ppm: int) -> int:
    """How often a verdict of this posterior is right: itself from ``SURE_PPM`` on, less below."""
    if sure_ppm >= SURE_PPM:
        return sure_ppm
    return TOLD_LIKELY_PPM + (TOLD_NEXT_PPM - TOLD_LIKELY_PPM) * (sure_ppm - LIKELY_PPM) // (SURE_PPM - LIKELY_PPM)


_SPANS = ("short", "long")
