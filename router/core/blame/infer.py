"""The question "whose fault is it?" frozen, and its answer: greedy weighted set cover with likelihoods.

Each round takes the component that explains most: the sum, over the cells that cross it, of what the fault would make
likelier (bad ones explained) and less likely (good ones contradicted), plus the prior of its kind shared by all of that
kind, so that many suspects need more evidence each. What it explains is explained away, and the next round looks at
the rest. A fault may spare a share of the cells that cross it; it may be of the network (probes and sessions) or of the
service (sessions alone); a mild one of the network may be too little for sessions to notice.

After the rounds, parts that fell together are given to the whole they make up if one cause is likelier than several.
Confidence is the posterior of each pick against everything that could stand in its place, and against nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router.core.blame.cells import PERHAPS, SERVES
from router.core.blame.kinds import MACHINES, Kinds, is_way
from router.core.blame.likelihood import SEVERITIES, ratios
from router.core.model import Micros
from router.core.tables import F64, I32, I64, Bool
from router.core.verdicts import LIKELY_PPM, Component, ComponentKind

HIT_SHARES = np.array([0.6, 0.97])  # of the cells that cross a faulty component: how many it hits
MILD = 2  # severities below this number may be too mild for sessions to notice
MOST_PICKS = 8
TEMPER = 1.6  # the cells are not as independent as the sum presumes: nats that count as one
FLEETING = (
    4.5  # log odds, after the temper, that a way or a prober which seems at fault is only bad for a moment: bursts
)
# of loss and hiccups are so much more frequent than faults. With the temper, fitted on 71 runs of seeds 0 to 39 of
# ``bench blame``: what would be 0.5 to 0.99 without it was right 5 % of the time for these two kinds.
MOST_ALTERNATIVES = 3
BACKGROUND = 3.0  # times what is usual: more than this at the middle data center is no data center's fault
BACKGROUND_SEEN, BACKGROUND_PLACES = 4.0, 4  # observations of a place, and places, before there is a middle
ACCUSED_MOST = 1 / 3  # of the data centers must have probes that no suspect can have spoilt
GONE_NATS = -6.0  # what the last seconds say against a fault of the last minute ends it


@dataclass(frozen=True, eq=False)
class Case:
    """Everything a judgement is made of, frozen; arrays are per cell, per entry (cell x component), or per component"""

    number: int
    at: Micros
    names: tuple[Component, ...]
    children: dict[int, tuple[int, ...]]
    cell: I32  # [entry]
    component: I32  # [entry]
    vantage: I32  # [entry]
    role: I32  # [entry] what the component is to the cell, see ``cells``
    vantage_provider: tuple[str, ...]  # [vantage] the provider it belongs to, or its own name
    kind: I64  # [cell] 0 probe, 1 session
    baseline: F64  # [cell]
    last_bad: I64  # [cell]
    counts: tuple[tuple[F64, F64], ...]  # (observed, bad) per horizon, the short one first

    @cached_property
    def kinds(self) -> Kinds:
        """What the names say, as arrays."""
        return Kinds(self.names)

    def judged(self) -> Judgement:
        """Answer; may be called in any thread, and as often as anybody likes."""
        return judge(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """A component that is likely at fault."""

    component: Component
    confidence: float
    alternatives: tuple[tuple[Component, float], ...]
    number: int
    horizon: int


@dataclass(frozen=True, eq=False)
class Judgement:
    """The answer to a case."""

    number: int
    at: Micros
    findings: tuple[Finding, ...]
    dark: str  # why automation must freeze; empty: it need not
    case: Case
    left: tuple[float, float] = (0.0, 0.0)  # share of probes and of sessions that is bad everywhere


@dataclass(frozen=True, slots=True)
class _Pick:
    component: int
    service: bool  # sessions alone
    probe_combo: int
    session_combo: int  # -1: sessions do not notice


class _Board:
    """One horizon of a case: likelihood ratios of its cells, and what of them is explained."""

    def __init__(self, case: Case, horizon: int, background: F64) -> None:
        self.case = case
        n, b = self.counts = case.counts[horizon]
        self.background = background
        self.size = len(case.names)
        alive = n > 0.3
        self.entries = np.flatnonzero(alive[case.cell])
        self.component, self.cell = case.component[self.entries], case.cell[self.entries]
        role = case.role[self.entries]
        self.is_maybe = role == PERHAPS
        self.is_session = (case.kind[self.cell] == 1) & ~self.is_maybe
        self.is_near = self.is_session & (role == SERVES)
        self.is_probe = case.kind[self.cell] == 0
        self.rows = np.flatnonzero(alive)
        self.ratio = np.zeros((len(n), len(SEVERITIES)))
        rows, kind = self.rows, case.kind[self.rows]
        usual = np.maximum(case.baseline[rows], background[kind])
        self.ratio[rows] = ratios(n[rows], b[rows], usual, kind, background[kind] > 0)
        at = np.cumsum(alive) - 1  # of a cell among the living
        self.parts = tuple(
            _sorted(self.component[mine], at[self.cell[mine]])
            for mine in (self.is_probe, self.is_session, self.is_near)
        )
        self.prior = case.kinds.prior
        place = np.array([name.kind is ComponentKind.EDGE_REGION for name in case.names], np.bool_)
        self.is_at = self.is_probe & place[self.component]

    def scores(self, explained: F64) -> tuple[F64, F64, F64, F64]:
        """Log odds per component, and the gains ``[component, combination]``: probes, sessions, served sessions."""
        probe, session, near = self._gains(explained)
        probes, sessions, served = _mean(probe), _mean(session), _mean(near)
        mild = MILD * len(HIT_SHARES)
        noticed = np.logaddexp(0.0, sessions) - np.log(2.0)
        network = np.logaddexp(
            _mean(probe[:, :mild]) + noticed, _mean(probe[:, mild:]) + sessions
        ) - np.log(2.0)  # fmt: skip
        kinds = self.case.kinds
        machine = np.logaddexp(network + kinds.not_service, served + kinds.service)
        other = np.where(kinds.probers, probes, np.where(kinds.ways, network, sessions))
        total = np.where(kinds.machines, machine, other)
        return total + self.prior, probe, session, near

    def _gains(self, explained: F64) -> tuple[F64, F64, F64]:
        before = explained[self.rows][:, None, None]
        hit = np.logaddexp(np.log1p(-HIT_SHARES) + before, np.log(HIT_SHARES) + self.ratio[self.rows][:, :, None])
        gain = (hit - before).reshape(len(self.rows), len(SEVERITIES) * len(HIT_SHARES))
        probe, session, near = (self._per_component(gain, part) for part in self.parts)
        return probe, session, near

    def _per_component(self, gain: F64, part: tuple[I64, I64, I64]) -> F64:
        """Sums over the entries of a part, which are sorted by component."""
        rows, starts, components = part
        found = np.zeros((self.size, gain.shape[1]))
        if len(rows):
            found[components] = np.add.reduceat(gain[rows], starts, axis=0)
        return found

    def pick(self, component: int, probe: F64, session: F64, near: F64) -> _Pick:
        """How a component explains best what it does."""
        p, s = int(probe[component].argmax()), int(session[component].argmax())
        served = int(near[component].argmax())
        kind, name = self.case.names[component].kind, self.case.names[component].id
        if kind is ComponentKind.PROBER:
            return _Pick(component, False, p, -1)
        on_probes = kind in MACHINES or (kind is ComponentKind.TRANSIT and ">" in name)
        if not on_probes or probe[component, p] < 0.5:
            return _Pick(component, True, -1, served)
        return _Pick(component, False, p, s if session[component, s] > 0 else -1)

    def explain(self, explained: F64, pick: _Pick) -> F64:
        """What is explained once a pick is, too; float64 ``[cell]``.

        One step milder or worse in a cell than on the whole is the same fault, and no sign of another one.
        """
        after = explained.copy()
        touched = (self.is_near if pick.service else self.is_session) | self.is_maybe
        for combo, mine in ((pick.probe_combo, self.is_probe), (pick.session_combo, touched)):
            if combo >= 0:
                cells = self.cell[mine & (self.component == pick.component)]
                share = float(HIT_SHARES[combo % len(HIT_SHARES)])
                level = combo // len(HIT_SHARES)
                there = self.ratio[cells, max(0, level - 1) : level + 2].max(axis=1)
                after[cells] = np.logaddexp(np.log1p(-share) + explained[cells], np.log(share) + there)
        return after

    def rounds(self, given: tuple[_Pick, ...]) -> list[_Pick]:
        """The greedy cover; ``given`` were found on a shorter horizon and are explained away first."""
        explained, picks = self.spent(given), list[_Pick]()
        while len(picks) < MOST_PICKS:
            total, *gains = self.scores(explained)
            total[_settled(given, picks)] = -np.inf
            best = self._first(total)
            if not total[best] > 0:
                break
            picks.append(self.pick(best, *gains))
            explained = self.explain(explained, picks[-1])
        return picks

    def _first(self, total: F64) -> int:
        """The best component; of equals the first by name, so that the order of observations does not matter."""
        rounded = np.round(total, 6)
        equal = np.flatnonzero(rounded == rounded.max()).tolist()
        return min(equal, key=lambda i: self.case.names[i])

    def spent(self, given: tuple[_Pick, ...]) -> F64:
        """What is explained by faults of the last seconds, float64 ``[cell]``: all that crosses them, however bad.

        They began at some moment within the longer horizon, so their cells hold any mixture of before and after.
        """
        explained = np.zeros(len(self.ratio))
        for pick in given:
            touched = self.crossing(pick.component, pick.service)
            explained[touched] = np.maximum(explained[touched], self.ratio[touched].max(axis=1))
        return explained

    def crossing(self, component: int, service: bool) -> I64:
        """Cells that a fault can have spoilt."""
        mine = self.component == component
        if service:
            mine &= self.is_near | self.is_maybe
        return np.unique(self.cell[mine])

    def left(self, picks: tuple[_Pick, ...]) -> F64:
        """Share that is bad of probes and of sessions at the middle data center, apart from what picks can have spoilt.

        Zero if it is no more than usual. One fault that nobody is accused of yet moves the middle but little; a machine
        that has no time, or a service that all of them use, moves all.
        """
        apart = self.counts[0] > 0.3
        for pick in picks:
            apart[self.crossing(pick.component, pick.service)] = False
        found = everywhere(self.case, self.counts, apart)
        there, rest = (
            len(np.unique(self.component[self.is_at & mine[self.cell]])) for mine in (self.counts[0] > 0.3, apart)
        )
        if rest < ACCUSED_MOST * there:  # who accuses everybody has found nobody
            found[0] = everywhere(self.case, self.counts, self.counts[0] > 0.3)[0]
        return found

    def without(self, given: tuple[_Pick, ...], picks: list[_Pick], one: _Pick) -> F64:
        """Log odds per component when all picks but one are given."""
        explained = self.spent(given)
        for other in picks:
            if other is not one:
                explained = self.explain(explained, other)
        return self.scores(explained)[0]


def judge(case: Case) -> Judgement:
    """Judge a case: who is at fault, how surely, what else it could be; pure and independent of any order."""
    dark = darkness(case)
    if not case.names or not len(case.cell):
        return Judgement(case.number, case.at, (), dark, case)
    found: dict[int, Finding] = {}
    given = tuple[_Pick, ...]()
    short: _Board
    for horizon in range(len(case.counts)):
        board, picks = _looked(case, horizon, given)
        if horizon == 0:
            short = board
        findings = _findings(board, given, picks, horizon)
        for finding in findings:
            known = found.get(finding.number)
            if (known is None or known.confidence < finding.confidence) and not (
                horizon and _over(short, finding.number)
            ):
                found[finding.number] = finding
        told = {finding.number for finding in findings if finding.confidence >= LIKELY_PPM / 1e6}
        given += tuple(pick for pick in picks if pick.component in told)
    merged = _merged(case, found)
    ordered = sorted(merged, key=lambda f: (-round(f.confidence, 6), f.component))
    probes, sessions = short.background.tolist()
    return Judgement(case.number, case.at, tuple(ordered), dark, case, (probes, sessions))


def _looked(case: Case, horizon: int, given: tuple[_Pick, ...]) -> tuple[_Board, list[_Pick]]:
    """The picks of a horizon; once more, against what is bad everywhere, if that is left when they are explained."""
    board = _Board(case, horizon, np.zeros(2))
    picks = board.rounds(given)
    left = board.left((*given, *picks))
    if left.any():
        board = _Board(case, horizon, left)
        picks = board.rounds(given)
    return board, picks


def _over(short: _Board, component: int) -> bool:
    """Whether the last seconds contradict what the last minute says."""
    _, probe, session, _ = short.scores(np.zeros(len(short.ratio)))
    return bool(max(probe[component].max(), -50.0) + max(session[component].max(), -50.0) < GONE_NATS)


def _findings(board: _Board, given: tuple[_Pick, ...], picks: list[_Pick], horizon: int) -> list[Finding]:
    found, names = [], board.case.names
    for pick in picks:
        odds = board.without(given, picks, pick)
        odds[[i for i in _settled(given, picks) if i != pick.component]] = -np.inf
        tempered = np.append(odds / TEMPER, FLEETING if _is_fleeting(names[pick.component]) else 0.0)
        weight = np.exp(tempered - tempered.max())
        share = weight / weight.sum()
        order = np.argsort(-share[:-1], kind="stable")[: MOST_ALTERNATIVES + 1]
        others = tuple((names[i], float(share[i])) for i in order.tolist() if i != pick.component and share[i] >= 0.005)
        found.append(Finding(names[pick.component], float(share[pick.component]), others, pick.component, horizon))
    return found


def _settled(given: tuple[_Pick, ...], picks: list[_Pick]) -> list[int]:
    """Components that are accounted for; a service that fails now may be a network that failed before."""
    return [pick.component for pick in given if not pick.service] + [pick.component for pick in picks]


def _is_fleeting(name: Component) -> bool:
    return name.kind is ComponentKind.PROBER or is_way(name)


def _sorted(component: I64, row: I64) -> tuple[I64, I64, I64]:
    """Entries by component: their rows, where each component begins, and which ones there are."""
    order = np.argsort(component, kind="stable")
    components, starts = np.unique(component[order], return_index=True)
    return row[order], starts.astype(np.int64), components


def _mean(gains: F64) -> F64:
    """Log of the mean of the exponentials over the last axis."""
    top = gains.max(axis=1)
    found: F64 = top + np.log(np.exp(gains - top[:, None]).mean(axis=1))
    return found


def _merged(case: Case, found: dict[int, Finding]) -> list[Finding]:
    """Give parts to the whole where one cause is likelier than as many at once; narrow wholes first."""
    prior, held = case.kinds.prior, dict(found)
    order = sorted(case.children, key=lambda i: (len(_leaves(case, i)), case.names[i]))
    for whole in order:
        parts = [i for i in case.children[whole] if i in held]
        total = len(case.children[whole])
        if len(parts) < 2 or 2 * len(parts) < total or whole in held:
            continue
        one = prior[whole] - np.log(2.0**total - total - 1)  # any pattern of two parts and more
        several = sum(prior[i] for i in parts)
        share = 1 / (1 + np.exp((several - one) / TEMPER))
        if share > 0.5:
            gone = [held.pop(i) for i in parts]
            sure = float(np.mean([f.confidence for f in gone]) * share)
            others = tuple((f.component, f.confidence * float(1 - share)) for f in gone[:MOST_ALTERNATIVES])
            held[whole] = Finding(case.names[whole], sure, others, whole, min(f.horizon for f in gone))
    return list(held.values())


def _leaves(case: Case, i: int) -> tuple[int, ...]:
    inside = case.children.get(i, ())
    return tuple(leaf for child in inside for leaf in _leaves(case, child)) or (i,)


DARK_CELLS, DARK_PLACES = 0.8, 0.6  # of what a place sees; of all places, so that one provider's end is not the world's


def darkness(case: Case) -> str:
    """Why everything seems bad everywhere, which is more likely us than the world; empty if it does not."""
    n, b = case.counts[0]
    seen = n > 0.3
    bad = seen & (b > 0.15 * n) & (b > 3 * case.baseline * n)
    for kind, wanted in ((0, (ComponentKind.EDGE_REGION,)), (1, (ComponentKind.EDGE_REGION, ComponentKind.TARGET))):
        told = []
        for place in wanted:
            mine = np.array([name.kind is place for name in case.names], np.bool_)
            entries = mine[case.component] & (case.kind[case.cell] == kind)
            whole = _per_component(case, entries & seen[case.cell])
            lost = _per_component(case, entries & bad[case.cell])
            looked: Bool = whole > 0
            dark = looked & (lost >= DARK_CELLS * whole)
            told.append((int(dark.sum()), int(looked.sum())))
        if all(of >= 3 and some > DARK_PLACES * of for some, of in told):
            what = "probes" if kind == 0 else "sessions"
            return f"{what} are bad in {told[0][0]} of {told[0][1]} data centers at once"
    return ""


def everywhere(case: Case, counts: tuple[F64, F64], among: Bool) -> F64:
    """Share of probes and of sessions that is bad at the middle data center, by some cells; 0 if that is usual."""
    n, b = counts
    place = np.array([name.kind is ComponentKind.EDGE_REGION for name in case.names], np.bool_)
    held = place[case.component] & (case.role == SERVES) & among[case.cell]
    found = np.zeros(2)
    for kind in range(2):
        mine = held & (case.kind[case.cell] == kind)
        cell, component = case.cell[mine], case.component[mine]
        seen, lost, usual = (
            np.bincount(component, column[cell], len(place)) for column in (n, b, n * case.baseline)
        )  # fmt: skip
        looks = seen > BACKGROUND_SEEN
        if looks.sum() >= BACKGROUND_PLACES:
            share, normal = (float(np.median(column[looks] / seen[looks])) for column in (lost, usual))
            found[kind] = share if share > BACKGROUND * normal else 0.0
    return found


def _per_component(case: Case, entries: Bool) -> I64:
    return np.bincount(case.component[entries], minlength=len(case.names)).astype(np.int64)
