"""The cases: delay at 20 and at 4 probes a second, beside what others do, and false alarms by importance sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from bench._case import line, progress
from bench.detect.alarms import LINKS, MONTH_S, SECOND, Alarms, false_alarms, round_trip
from bench.detect.drive import Path
from bench.detect.losses import Chain
from bench.detect.peers import MS, PEERS, Cut
from probes.detect import DOWN_NATS, Detector, Verdict
from router.core.solve.reaction import TRIGGERS

NAME, GOAL = "detect", "P7"
CUTS = 400  # half in each direction
WARM_S = 60  # probed before the cut
LOSS = 0.02  # of round trips: 1 % per direction
HOT_US, WARM_US = 50 * MS, 250 * MS
GAP_P50_S, GAP_P99_S = 0.060, 0.200  # beyond the round trip
FASTER = 2.5
DRAWS, LEARN_S = 16, 1_800
CHAINS = (
    Chain("independent", LOSS),
    Chain("bursts of 10 ms, all lost", LOSS, 10 * MS),
    Chain("bursts of 60 ms, all lost", LOSS, 60 * MS),
    Chain("bursts of 200 ms, all lost", LOSS, 200 * MS),
    Chain("bursts of 500 ms, half lost", LOSS, 500 * MS, 0.5),
    Chain("half independent, half in bursts of 100 ms, all lost", LOSS, 100 * MS, 1.0, LOSS / 2),
)
CHECKED_NATS = 7.0  # a threshold so low that false alarms can be counted


def run() -> bool:
    """All cases; whether every bound was met."""
    return all([*_delays(), *_alarms()])


def _delays() -> Iterator[bool]:
    progress(f"{CUTS} silent cuts at 20 probes a second")
    cuts = [_cut(i) for i in range(CUTS)]
    hot = [_noticed(cut, i, HOT_US) for i, cut in enumerate(cuts)]
    suspect = sorted((s - cut.rtt_us) / SECOND for (s, _), cut in zip(hot, cuts, strict=True))
    more = {"trials": CUTS, "p50_s": _at(suspect, 50), "p99_s": _at(suspect, 99), "max_s": suspect[-1]}
    for percentile, bound_s in ((50, GAP_P50_S), (99, GAP_P99_S)):
        case = f"suspect beyond one round trip, 20 probes/s, p{percentile}"
        yield line(NAME, case, _at(suspect, percentile), bound_s, "bound", "s", GOAL, 1.0, **more)
    down = sorted(d / SECOND for _, d in hot)
    more = {"trials": CUTS, "p50_s": _at(down, 50), "p99_s": _at(down, 99), "max_s": down[-1]}
    for peer in PEERS:
        theirs = sorted(peer.rule(cut, Random(i)) / SECOND for i, cut in enumerate(cuts))
        loss = LOSS / 2 if peer.one_way else LOSS
        alarms = LINKS * MONTH_S * peer.per_s * loss**peer.in_a_row
        yield line(
            NAME, "down, 20 probes/s, p50", _at(down, 50), _at(theirs, 50), peer.name, "s", GOAL, 1.0, **more,
            peer_p99_s=_at(theirs, 99), peer_probes_per_s=round(peer.per_s, 2), peer_false_alarms_a_month=alarms,
        )  # fmt: skip
    yield from _sparse(cuts)


def _sparse(cuts: Sequence[Cut]) -> Iterator[bool]:
    progress(f"{CUTS} silent cuts at 4 probes a second, with confirm bursts and without")
    both = []
    for confirm in (True, False):
        both.append(sorted(_noticed(cut, i, WARM_US, confirm)[1] / SECOND for i, cut in enumerate(cuts)))
    ours, plain = both
    more = {"trials": CUTS, "p99_s": _at(ours, 99), "peer_p99_s": _at(plain, 99)}
    case, name = "down, 4 probes/s with confirm bursts, p50", "same evidence, no confirm bursts"
    yield line(NAME, case, _at(ours, 50), _at(plain, 50), name, "s", GOAL, FASTER, **more)


def _alarms() -> Iterator[bool]:
    for chain in CHAINS:
        progress(f"false alarms, {chain.name}")
        found = false_alarms(chain, TRIGGERS, HOT_US, DRAWS, LEARN_S, 1, DOWN_NATS)
        yield line(
            NAME, f"false alarms a month over {LINKS} links at 20 probes/s, 1 % loss each way: {chain.name}",
            found.upper, 1.0, "bound", "a month (upper end of the 95 % interval)", GOAL, 1.0, **_told(found),
        )  # fmt: skip
    yield _checked(CHAINS[2])


def _checked(chain: Chain) -> bool:
    """Is the importance sampling on the safe side: at a low threshold its rate is compared with a count."""
    progress("the sampling itself, at a threshold where false alarms can be counted")
    sampled = false_alarms(chain, TRIGGERS, HOT_US, DRAWS, LEARN_S, 2, CHECKED_NATS)
    seconds = DRAWS * LEARN_S
    counted = sampled.while_learning / seconds * MONTH_S * LINKS
    case = f"sampled / counted false alarms at {CHECKED_NATS} nats: {chain.name}"
    more = _told(sampled) | {"counted": sampled.while_learning, "counted_a_month": counted}
    return line(NAME, case, counted, sampled.per_month, "sampled", "a month", "none", 1.0, **more)


def _told(found: Alarms) -> dict[str, object]:
    return {
        "estimate": float(f"{found.per_month:.3g}"), "upper95": float(f"{found.upper:.3g}"), "draws": DRAWS,
        "learned_for_s": LEARN_S, "learned_loss": round(found.learned_loss, 4),
        "longest_credible_burst_ms": found.learned_burst_ms, "down_after_ms": round(found.delay_ms),
        "down_while_learning": found.while_learning,
    }  # fmt: skip


def _cut(i: int) -> Cut:
    rng = Random(f"cut {i}")
    return Cut(WARM_S * SECOND + rng.randrange(SECOND), rng.randrange(10 * MS, 280 * MS), LOSS, i % 2 == 0)


def _noticed(cut: Cut, i: int, interval_us: int, confirm: bool = True) -> tuple[int, int]:
    """Microseconds from a cut until the path is suspect, and until it is down."""
    rng = Random(f"path {i}")

    def missing(at_us: int, _port: int) -> bool:
        lost = rng.random() < cut.loss
        return lost or (at_us if cut.forward else at_us + cut.rtt_us // 2) >= cut.at_us

    path = Path(Detector(TRIGGERS), missing, round_trip(rng, cut.rtt_us), interval_us, confirm=confirm)
    path.run(cut.at_us)
    suspect = [at for at, _ in path.changes[-1:] if path.detector.verdict is Verdict.SUSPECT]
    if path.detector.verdict is Verdict.DOWN:
        raise ValueError("down before the cut")
    path.run(cut.at_us + 60 * SECOND, Verdict.DOWN)
    known = [at for at, verdict in path.changes if verdict is Verdict.SUSPECT and at >= cut.at_us]
    last = path.changes[-2][0]  # the suspicion that ended in down
    return (known[-1] if known else max(last, *suspect, cut.at_us)) - cut.at_us, path.now_us - cut.at_us


def _at(values: Sequence[float], percentile: int) -> float:
    """Percentile of sorted values, four digits."""
    return float(f"{values[min(len(values) - 1, len(values) * percentile // 100)]:.4g}")
