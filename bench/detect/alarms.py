"""How often a path that is there is called down, by importance sampling.

At one false alarm in 4.6e10 probes nothing is learned by waiting. But *down* needs one thing: that all probes of a run
are lost. So the detector, having learned a path for a while, is shown a path on which *everything* is lost from some
probe on, until it says *down*; what the real path would have lost of the very probes that it went by has an exact
probability, which is the weight of the run (the proposal has all of them lost with probability 1). Averaged over what
detectors have learned of different draws of the path, and multiplied by the number of probes, each of which could begin
such a run, that is the rate; it is on the safe side, because a run's second probe is counted as a beginning too.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from random import Random
from statistics import fmean, stdev

from bench.detect.drive import Path
from bench.detect.losses import Chain, Draw, all_lost
from probes.detect import Detector, Verdict
from probes.wire import Triggers

LINKS, MONTH_S = 870, 365.25 / 12 * 86_400
SECOND = 1_000_000
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Alarms:
    """False alarms a month over all links, with the upper end of the 95 % interval."""

    per_month: float
    upper: float
    learned_loss: float
    learned_burst_ms: float
    delay_ms: float  # from the first missing probe to down
    while_learning: int  # paths called down while they were being learned


def learned(chain: Chain, triggers: Triggers, interval_us: int, seconds: int, rng: Random, nats: float) -> Path:
    """A path that was probed for a while."""
    path = Path(Detector(triggers, down_nats=nats), Draw(chain, rng), round_trip(rng), interval_us)
    path.run(seconds * SECOND)
    return path


def round_trip(rng: Random, rtt_us: int = 90_000):  # type: ignore[no-untyped-def]
    """A round trip with a millisecond of jitter."""
    return lambda _: rtt_us + int(rng.expovariate(1e-3))


def false_alarms(
    chain: Chain, triggers: Triggers, interval_us: int, draws: int, seconds: int, seed: int, nats: float
) -> Alarms:
    """The rate for one loss process."""
    weights, delays, losses, bursts, per_s, downs = [], [], [], [], [], 0
    for draw in range(draws):
        rng = Random(f"{seed} {chain.name} {draw}")
        path = learned(chain, triggers, interval_us, seconds, rng, nats)
        downs += sum(verdict is Verdict.DOWN for _, verdict in path.changes)
        per_s.append(path.sent / seconds)
        losses.append(path.detector.model.loss)
        bursts.append(path.detector.model.burst_us / 1_000)
        run = _run_to_down(path, triggers, interval_us, rng, nats)
        weights.append(all_lost(chain, run[0]))
        delays.append((run[1] - run[0][0]) / 1_000)
    chances = LINKS * MONTH_S * fmean(per_s)
    error = stdev(weights) / sqrt(draws) * NORMAL_95
    return Alarms(
        chances * fmean(weights), chances * (fmean(weights) + error), fmean(losses), max(bursts), fmean(delays), downs
    )


def _run_to_down(
    path: Path, triggers: Triggers, interval_us: int, rng: Random, nats: float
) -> tuple[tuple[int, ...], int]:
    """When the probes were sent that a detector went by when it called a silent path down, and when it did."""
    detector = Detector(triggers, model=deepcopy(path.detector.model), down_nats=nats)
    detector.model.forget_run()
    cut = SECOND + rng.randrange(interval_us)
    silent = Path(detector, lambda at, _: at >= cut, round_trip(rng), interval_us)
    if not silent.run(600 * SECOND, Verdict.DOWN):
        raise ValueError(f"never down after {path.sent} probes: {detector.evidence} nats")
    return detector.run, silent.now_us
