"""The E-model of ITU-T G.107: what a listener thinks of a call, from mouth-to-ear delay and loss.

::

    R      = 93.2 - Id - Ie_eff                                  all other parameters of G.107 at their defaults, A = 0
    Idd    = 0                                                   Ta <= 100 ms            (G.107 clause 7.4)
           = 25 ((1 + X^6)^(1/6) - 3 (1 + (X/3)^6)^(1/6) + 2)    X = log2(Ta / 100 ms)
    Id     = 0.024 Ta + 0.11 max(0, Ta - 177.3)                  the quick form: Cole and Rosenbluth, CCR 31(2), 2001
    Ie_eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl)           Ppl in per cent         (G.107 clause 7.5)
    MOS    = 1 + 0.035 R + 7e-6 R (R - 60) (100 - R)             1 below 0, 4.5 above 100 (G.107 annex B)

``Ta`` is one-way: network up to the playout deadline, plus packetisation and look-ahead of the codec. The two delay
forms differ on purpose. The quick form contains talker echo at G.107's default echo loss; ``Idd`` is pure delay. Calls
here go through echo cancellers, so ``Idd`` is used everywhere; the quick form is for comparing with published tools.

BurstR is the mean length of loss bursts over what independent losses of the same rate would give (1 = independent).

The playout buffer is an optimisation, not a constant: waiting longer loses fewer packets. ``best_playout`` takes the
deadline with the highest R, packets after it count as lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from router.core.quality.delays import F64, HELD_US, PLAYOUT_LEVELS, Delays, Playout, playout

DEFAULT_RATING = 93.2  # G.107 table 3: R with every parameter at its default


class DelayForm(StrEnum):
    """How delay impairs."""

    IDD = "idd"  # G.107's pure delay
    QUICK = "quick"  # Cole and Rosenbluth's fit, with talker echo at the default echo loss


@dataclass(frozen=True, slots=True)
class Codec:
    """Equipment impairment, robustness against loss, and delay of a codec at both ends together."""

    impairment: float  # Ie
    robustness: float  # Bpl
    delay_us: int  # one frame of packetisation and the look-ahead


OPUS_FEC = Codec(0.0, 20.0, 26_500)  # RFC 6716 section 2: 20 ms + 6.5 ms. Ie, Bpl: our start values, G.113 has no entry
G711_PLC = Codec(0.0, 25.1, 20_000)  # G.113 appendix I, random loss
G711 = Codec(0.0, 4.3, 20_000)  # G.113 appendix I, without concealment
G729A = Codec(11.0, 19.0, 25_000)  # G.113 appendix I, with VAD; two 10 ms frames and 5 ms of look-ahead

CODEC_DELAY_US = OPUS_FEC.delay_us
RATINGS_KEPT = 1 << 14  # about 3 MB; a path that is asked about again has mostly not changed, and a rating takes 70 us


def delay_impairment(mouth_to_ear_ms: F64, form: DelayForm = DelayForm.IDD) -> F64:
    """Id (points of R) of one-way mouth-to-ear delays in ms."""
    if form is DelayForm.QUICK:
        quick: F64 = 0.024 * np.maximum(0.0, mouth_to_ear_ms) + 0.11 * np.maximum(0.0, mouth_to_ear_ms - 177.3)
        return quick
    x = np.log2(np.maximum(mouth_to_ear_ms, 100.0) / 100.0)
    x6 = (x * x) ** 3
    # The sixth root as cube root of the square root: several times faster than a general power.
    idd: F64 = 25 * (np.cbrt(np.sqrt(1 + x6)) - 3 * np.cbrt(np.sqrt(1 + x6 / 729)) + 2)
    return idd


def equipment_impairment(loss: F64, codec: Codec = OPUS_FEC, burst_ratio: float = 1.0) -> F64:
    """Ie,eff (points of R) of loss shares 0..1."""
    percent = 100 * loss
    result: F64 = codec.impairment + (95 - codec.impairment) * percent / (percent / burst_ratio + codec.robustness)
    return result


def best_playout(
    delays: Delays,
    loss: F64,
    codec: Codec = OPUS_FEC,
    burst_ratio: float = 1.0,
    form: DelayForm = DelayForm.IDD,
) -> Playout:
    """R at the playout point that maximises it; ``loss`` is the network's share, shaped like ``delays``."""

    def score(deadline_us: F64, loss: F64, late: F64) -> F64:
        lost = loss + (1 - loss) * late
        delay = delay_impairment((deadline_us + codec.delay_us) / 1000, form)
        return DEFAULT_RATING - delay - equipment_impairment(lost, codec, burst_ratio)

    return playout(delays, loss, score)


@lru_cache(maxsize=RATINGS_KEPT)
def rating(delay_us: int, jitter_us: int, loss_ppm: int, queue_us: int | None = None) -> float:
    """R of one network path with Opus at its best playout point: ``best_playout`` for a single answer, without arrays.

    ``delay_us`` is the path's minimum, ``jitter_us`` the root of the summed squares of its hops' jitters, ``queue_us``
    their plain sum (the mean queueing; None for a single hop, where the two are the same).
    """
    deviation = max(0, jitter_us)
    queue = deviation if queue_us is None else max(deviation, queue_us)
    loss = min(1_000_000, max(0, loss_ppm)) / 1e6
    root = deviation / (3 * queue) if queue else 0.0
    best = -math.inf
    for level, deviate in PLAYOUT_LEVELS if queue else ((1.0, 0.0),):
        deadline = delay_us + max(HELD_US, queue * max(0.0, 1 - root * root + deviate * root) ** 3)
        percent = 100 * (loss + (1 - loss) * (1 - level))
        r = DEFAULT_RATING - _idd((deadline + CODEC_DELAY_US) / 1000) - 95 * percent / (percent + OPUS_FEC.robustness)
        best = max(best, r)
    return best


def _idd(delay_ms: float) -> float:
    if delay_ms <= 100:
        return 0.0
    x6 = math.log2(delay_ms / 100) ** 6
    return 25 * (math.pow(1 + x6, 1 / 6) - 3 * math.pow(1 + x6 / 729, 1 / 6) + 2)


def mos(r: float) -> float:
    """Mean opinion score 1..4.5 of a rating R (ITU-T G.107 annex B)."""
    if r >= 100:
        return 4.5
    if r <= 0:
        return 1.0
    return 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r)


def mos_of(r: F64) -> F64:
    """The same for an array of ratings."""
    inside = np.clip(r, 0.0, 100.0)
    result: F64 = 1 + 0.035 * inside + 7e-6 * inside * (inside - 60) * (100 - inside)
    return result
