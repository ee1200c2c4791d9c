"""When has something changed? Two sequential tests, Page's CUSUM (Biometrika 1954), vectorised over all links or pairs.

A test adds up the evidence for a change and starts anew whenever the evidence is against it: ``s = max(0, s + x)``.
Where ``x`` is the log likelihood ratio of *changed* to *unchanged*, no rule with as few false alarms detects sooner
(Lorden 1971, Moustakides 1986).

*Loss* (:class:`LossWatch`). A link loses ``p0`` of its packets as a rule (learnt); it has become worse when it loses
``p1 = p0 + RISE``. A lost packet is worth ``ln(p1/p0)``, one that came ``ln((1-p1)/(1-p0))``, a little below zero. The
sum leaves zero only by a loss, which happens in ``p0`` of all packets, and ``exp(s)`` is a martingale as long as
nothing changed, so that it reaches ``h`` before zero with a chance of at most ``exp(ln(p1/p0) - h)`` (Wald 1947). Hence

    packets between two false alarms of one link  >=  exp(h) / p1        h = ln(p1 * packets)

and since every link may raise one, ``packets`` grows with their number: the whole fleet has at most one false alarm
in ``PACKETS`` packets of each of its links. The way back is the same test with the roles exchanged, between the loss
that the link has now and ``p0``. Either alarm *resets the window*: only packets since the sum left zero are of the new
state, so a loss counts in full when it is believed, and an outage is forgotten when it is over.

*Regret* (:func:`regret`). Of a path in force the evidence is what was lost by staying on it: the gain of the best other
path times the time it has lasted. It is compared with the price of a move, which makes leaving a ski-rental problem
(Karlin et al. 1988): who leaves when staying has cost as much as moving pays at most twice what hindsight would have.
"""

from __future__ import annotations

import numpy as np

from router.core.offsets import wilson_low_ppm
from router.core.tables import F64, I64, Bool

RISE = 0.05  # a change of loss that matters to a listener at once
USUAL, USUAL_LEAST, USUAL_MOST = 0.0005, 0.0005, 0.02  # no news: assumed at first, and bounds of what is learnt
USUAL_PACKETS = 1_000.0  # packets that the assumption counts for
MEMORY_PACKETS = 20_000.0  # over which what is usual is learnt
PACKETS = 20_000.0  # of each link of the fleet, per false alarm anywhere: eleven hours at a packet in two seconds
BETTER = 7.0  # evidence (nats) that a loss is over, a thousand to one: to believe it wrongly costs a move, not a call
LEAST_LOSS, MOST_LOSS = 0.02, 0.9  # how far a loss that is said to be over is above what is usual; and its bound
SURE_Z, LEVEL_Z = 3.0, 2.0  # of the Wilson bound before a change is proven, and of its size after; 1 is too noisy


def threshold(links: int) -> float:
    """Evidence (nats) at which a link of a fleet of so many is believed to have become worse."""
    return float(np.log((USUAL + RISE) * PACKETS * max(1, links)))


class LossWatch:
    """Counts of packets and both tests, one cell per link, float64 of any shape; private state of the core.

    Cells are addressed by their flat index. Counts fade (:meth:`fade`) and start anew at each change.
    """

    _ARRAYS = ("sent", "lost", "_usual_sent", "_usual_lost", "_score", "_run_sent", "_run_lost", "lossy")

    def __init__(self, shape: tuple[int, ...], links: int) -> None:
        """``links``: how many links of the fleet may raise a false alarm."""
        self.sent, self.lost = np.zeros(shape), np.zeros(shape)  # of the present state
        self._usual_sent, self._usual_lost = np.zeros(shape), np.zeros(shape)
        self._score = np.zeros(shape)  # of the test for whichever change is possible, nats
        self._run_sent, self._run_lost = np.zeros(shape), np.zeros(shape)  # since it left zero
        self.lossy: Bool = np.zeros(shape, np.bool_)
        self.changes = 0
        self._threshold = threshold(links)

    def take(self, cells: I64, sent: I64, lost: I64) -> None:
        """Count probes of which it is known what became of them; int64 ``[k]``, a cell may appear more than once."""
        where, again = np.unique(cells, return_inverse=True)
        packets: F64 = np.bincount(again, sent, len(where)).astype(np.float64)
        gone: F64 = np.bincount(again, np.minimum(lost, sent), len(where)).astype(np.float64)
        keep = packets > 0
        self.count(where[keep], packets[keep], gone[keep])

    @property
    def calm(self) -> tuple[F64, F64, F64, F64]:
        """What a report changes in cells where nothing is lost or suspected, and the score that says so."""
        return self.sent, self._usual_sent, self._usual_lost, self._score

    def count(self, where: I64, sent: F64, lost: F64) -> None:
        """Count packets, some at least, of cells that appear once each."""
        lossy = _flat(self.lossy)[where]
        if not (lossy.any() or lost.any() or _flat(self._score)[where].any()):  # nothing to ask; the same as below
            _flat(self.sent)[where] += sent
            self._learn(where, sent, lost, ~lossy)
            return
        usual = self._usual(where)
        here_sent, here_lost = _flat(self.sent)[where] + sent, _flat(self.lost)[where] + lost
        worse = np.where(lossy, np.clip(here_lost / here_sent, usual + LEAST_LOSS, MOST_LOSS), usual + RISE)
        evidence = lost * np.log(worse / usual) + (sent - lost) * np.log((1 - worse) / (1 - usual))
        score = np.maximum(0.0, _flat(self._score)[where] + np.where(lossy, -evidence, evidence))
        going_on = score > 0
        run_sent, run_lost = _flat(self._run_sent)[where] + sent, _flat(self._run_lost)[where] + lost
        changed = score >= np.where(lossy, BETTER, self._threshold)
        self.changes += int(changed.sum())
        _flat(self.sent)[where] = np.where(changed, run_sent, here_sent)
        _flat(self.lost)[where] = np.where(changed, run_lost, here_lost)
        _flat(self.lossy)[where] = lossy ^ changed
        _flat(self._score)[where] = np.where(changed, 0.0, score)
        _flat(self._run_sent)[where] = np.where(going_on & ~changed, run_sent, 0.0)
        _flat(self._run_lost)[where] = np.where(going_on & ~changed, run_lost, 0.0)
        self._learn(where, run_sent, run_lost, ~lossy & ~going_on)

    def _usual(self, where: I64) -> F64:
        lost = USUAL * USUAL_PACKETS + _flat(self._usual_lost)[where]
        usual: F64 = np.clip(lost / (USUAL_PACKETS + _flat(self._usual_sent)[where]), USUAL_LEAST, USUAL_MOST)
        return usual

    def _learn(self, where: I64, sent: F64, lost: F64, calm: Bool) -> None:
        """What is usual is learnt once a suspicion has passed; the packets of a real change never count."""
        forget = np.maximum(0.0, 1 - sent / MEMORY_PACKETS)
        for usual, new in ((self._usual_sent, sent), (self._usual_lost, lost)):
            held = _flat(usual)[where]
            _flat(usual)[where] = np.where(calm, held * forget + new, held)

    def fade(self, keep: float) -> None:
        """Let the counts of the present state fade by this factor."""
        self.sent *= keep
        self.lost *= keep

    def adopt(self, older: LossWatch, here: tuple[np.ndarray, ...], there: tuple[np.ndarray, ...]) -> None:
        """Take over the cells ``there`` of another watch as our cells ``here``."""
        for name in self._ARRAYS:
            getattr(self, name)[here] = getattr(older, name)[there]
        self.changes = older.changes


def certain_ppm(sent: F64, lost: F64, lossy: Bool) -> I64:
    """The part of a loss that is certain enough to move traffic, ppm.

    The lower end of the Wilson interval: wide while no change is proven, when a single lost probe is an anecdote;
    narrower after it, when only the size of the loss is still in question.
    """
    sure = np.where(lost > 1.0, wilson_low_ppm(lost, sent, SURE_Z), 0)
    return np.where(lossy, wilson_low_ppm(lost, sent, LEVEL_Z), sure)


def regret(held: I64, gain_us: I64, elapsed_us: int, most_us: I64) -> I64:
    """Regret (microseconds of delay x microseconds of time) of staying after another ``elapsed_us``; int64 arrays.

    No more than ``most_us`` of gain count, so that a few wild values are no long time; where there is no gain,
    regret falls as fast as it can rise.
    """
    counted = np.where(gain_us > 0, np.minimum(gain_us, most_us), -most_us)
    added: I64 = np.maximum(0, held + counted * elapsed_us)
    return added


def _flat(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(-1)
