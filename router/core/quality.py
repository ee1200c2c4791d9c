"""What people hear and wait for: E-model R and MOS, and the additive metric of each traffic class.

The bulk solver needs a metric that adds along a path, so a hop is priced in microseconds of delay:

``metric = delay + jitter_weight * max(0, jitter - JITTER_FLOOR) + loss_us * -ln(1 - p)`` and ``relay_cost`` per relay.

``-ln(1 - p)`` makes loss additive (survival probabilities multiply). The exchange rates come from the slope of the
E-model (ITU-T G.107) around a normal call: with Opus and FEC (Ie 0, Bpl 20) one per cent of loss costs 4.75 R, as
much as some 40 ms of delay beyond the knee. R itself is not additive and is computed for answers, not for the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router.core.model import TrafficClass
from router.core.tables import I64

JITTER_FLOOR_US = 2_000  # a playout buffer of one 20 ms frame absorbs it, and our own scheduling noise hides in it
MAX_LOSS_PPM = 500_000  # a link that loses half is priced as lost; keeps -ln(1-p) finite
CODEC_DELAY_US = 26_500  # 20 ms frame and 6.5 ms look-ahead (Opus, RFC 6716 section 2)
LOSS_ROBUSTNESS = 20.0  # Bpl for Opus with FEC: a start value, no narrowband G.113 entry exists


@dataclass(frozen=True, slots=True)
class ClassProfile:
    """Exchange rates of one traffic class into microseconds."""

    jitter_weight: int
    loss_us: int  # price of one unit of -ln(1-p); 1 % of loss costs about a hundredth of it
    relay_cost_us: int  # forwarding delay and the risk of one more machine


PROFILES = {
    # A jitter buffer waits for about two jitters; a per cent of loss weighs like 40 ms (see module docstring).
    TrafficClass.VOICE: ClassProfile(jitter_weight=2, loss_us=4_000_000, relay_cost_us=500),
    # The turn delay of a conversation with a machine is linear, and speech recognition tolerates a little loss.
    TrafficClass.AGENT: ClassProfile(jitter_weight=1, loss_us=2_000_000, relay_cost_us=500),
    TrafficClass.VIDEO: ClassProfile(jitter_weight=2, loss_us=3_000_000, relay_cost_us=500),
    # Bulk retransmits: loss hurts throughput (about 1/sqrt(p)), jitter not at all.
    TrafficClass.BULK: ClassProfile(jitter_weight=0, loss_us=1_000_000, relay_cost_us=500),
}


def jitter_term_us(traffic_class: TrafficClass, jitter_us: I64) -> I64:
    """Metric part (microseconds) of an array of jitters; unknown (-1) counts as none."""
    term: I64 = PROFILES[traffic_class].jitter_weight * np.maximum(0, jitter_us - JITTER_FLOOR_US)
    return term


def loss_term_us(traffic_class: TrafficClass, loss_ppm: I64) -> I64:
    """Metric part (microseconds) of an array of losses in ppm; unknown (-1) counts as none."""
    share = np.clip(loss_ppm, 0, MAX_LOSS_PPM) / 1e6
    term: I64 = np.rint(-np.log1p(-share) * PROFILES[traffic_class].loss_us).astype(np.int64)
    return term


def rating(delay_us: int, jitter_us: int, loss_ppm: int) -> float:
    """E-model rating R (ITU-T G.107, delay part Idd) of a one-way network path for wideband voice with echo control."""
    mouth_to_ear_ms = (delay_us + 2 * max(0, jitter_us) + CODEC_DELAY_US) / 1000
    loss_pct = max(0, loss_ppm) / 10_000
    equipment = 95.0 * loss_pct / (loss_pct + LOSS_ROBUSTNESS)
    return 93.2 - _delay_impairment(mouth_to_ear_ms) - equipment


def _delay_impairment(delay_ms: float) -> float:
    if delay_ms <= 100:
        return 0.0
    x = math.log2(delay_ms / 100)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def mos(r: float) -> float:
    """Mean opinion score 1..4.5 of a rating R (ITU-T G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r)
