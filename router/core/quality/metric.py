"""The additive metric of the bulk solver: what a hop costs each traffic class, in integer microseconds of delay.

::

    metric = delay + jitter + loss + price + load           per hop, plus ``relay_cost_us`` per relay
    jitter = jitter_weight * max(0, jitter - jitter_floor)
    loss   = loss_us * -ln(1 - p)                           adds along a path, because survival probabilities multiply
    price  = price_us_per_usd * (USD per GB)                every hop's egress is billed, so prices add
    load   = what the caller says: a price that rises near capacity

The search needs a cost that adds; the utilities in ``utility`` do not. So every rate is the slope of the class's
utility at one operating point, divided by its slope in delay: around that point the metric ranks paths as the utility
does, and farther away exact re-scoring of the best candidates (``solve.rescore``) makes up for the difference. A test
recomputes every rate from the curves, so that neither can change alone.

The operating point is an intercontinental path, 170 ms with 5 ms of jitter and 0.5 % of loss. That is where choices
matter: a short clean path is beyond improvement, and for voice the first 100 ms mouth to ear have no slope at all.

Jitter does not add along a path, variances do: large jitter of several hops is overstated (the error is on the side of
fewer relays), small jitter under the floor of each hop is understated, by at most one floor per relay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.core.model import TrafficClass
from router.core.tables import I64

OPERATING_DELAY_US, OPERATING_JITTER_US, OPERATING_LOSS_PPM = 170_000, 5_000, 5_000
MAX_LOSS_PPM = 500_000  # a link that loses half is priced as lost; keeps -ln(1-p) finite
MAX_PRICE_US = 10_000_000  # whatever it costs, money stays below a lost link


@dataclass(frozen=True, slots=True)
class ClassProfile:
    """Exchange rates of one traffic class into microseconds. The first five follow from the utility's slopes."""

    points_per_ms: float  # what a millisecond of delay costs; turns microseconds of cost back into points
    jitter_weight: int  # microseconds of deadline per microsecond of jitter, at the best playout point
    jitter_floor_us: int  # jitter that the one packet a receiver holds back anyway (20 ms) absorbs: 20 ms / weight
    loss_us: int  # price of one unit of -ln(1-p); 1 % of loss costs about a hundredth of it
    price_us_per_usd: int  # what saving 1 USD per GB may cost in delay: 1 / (usd_per_point * points_per_ms)
    usd_per_point: float  # what one point is worth, per GB carried: a judgement
    relay_cost_us: int  # forwarding delay and the risk of one more machine


# Per relay 0.5 ms: 0.1 to 1 ms of forwarding in user space, and a tie should go to the path with fewer machines.
#
# What a point is worth: a point of a session is a hundredth of what the session is worth per hour. GB per hour is what
# it sends one way. Voice: 3 USD/h (a support call), 64 kbit/s with headers = 0.029 GB/h. Agent: 6 USD/h (hosted voice
# agents list at about 0.10 USD/min), 0.029 GB/h. Video: 3 USD/h, 1.2 Mbit/s = 0.54 GB/h. Bulk: twice the throughput
# (10 points) is worth 0.04 USD/GB, about the step between a cloud's cheap and premium network tier.
PROFILES = {
    TrafficClass.VOICE: ClassProfile(0.121, 7, 3_000, 3_600_000, 8_000, 1.04, 500),
    TrafficClass.AGENT: ClassProfile(0.100, 6, 3_000, 3_000_000, 4_800, 2.08, 500),
    TrafficClass.VIDEO: ClassProfile(0.114, 10, 2_000, 3_900_000, 156_000, 0.056, 500),
    TrafficClass.BULK: ClassProfile(0.082, 1, 0, 17_300_000, 3_050_000, 0.004, 500),
}


def jitter_term_us(traffic_class: TrafficClass, jitter_us: I64) -> I64:
    """Metric part (microseconds) of an array of jitters; unknown (-1) counts as none."""
    profile = PROFILES[traffic_class]
    term: I64 = profile.jitter_weight * np.maximum(0, jitter_us - profile.jitter_floor_us)
    return term


def loss_term_us(traffic_class: TrafficClass, loss_ppm: I64) -> I64:
    """Metric part (microseconds) of an array of losses in ppm; unknown (-1) counts as none."""
    share = np.clip(loss_ppm, 0, MAX_LOSS_PPM) / 1e6
    term: I64 = np.rint(-np.log1p(-share) * PROFILES[traffic_class].loss_us).astype(np.int64)
    return term


def price_term_us(traffic_class: TrafficClass, price_microusd_per_gb: I64) -> I64:
    """Metric part (microseconds) of an array of prices in µUSD per GB; unknown (-1) counts as none."""
    # The price is clipped first: a fat-fingered one must not overflow the product.
    price = np.clip(price_microusd_per_gb, 0, 1_000_000_000)
    term: I64 = np.minimum(MAX_PRICE_US, price * PROFILES[traffic_class].price_us_per_usd // 1_000_000)
    return term


def terms_us(
    traffic_class: TrafficClass,
    delay_us: I64,
    jitter_us: I64,
    loss_ppm: I64,
    price_microusd_per_gb: I64 | None = None,
    load_us: I64 | None = None,
) -> Mapping[str, I64]:
    """Every term of the metric by name, arrays int64 µs; ``metric_us`` is their sum, to the microsecond."""
    terms = {
        "delay_us": delay_us,
        "jitter_us": jitter_term_us(traffic_class, jitter_us),
        "loss_us": loss_term_us(traffic_class, loss_ppm),
    }
    if price_microusd_per_gb is not None:
        terms["price_us"] = price_term_us(traffic_class, price_microusd_per_gb)
    if load_us is not None:
        terms["load_us"] = load_us
    return terms


def metric_us(
    traffic_class: TrafficClass,
    delay_us: I64,
    jitter_us: I64,
    loss_ppm: I64,
    price_microusd_per_gb: I64 | None = None,
    load_us: I64 | None = None,
) -> I64:
    """Cost of hops, int64 µs, in the shape of the arrays given (they broadcast); relays are priced by the solver.

    ``delay_us`` may be a raw one-way difference and negative; -1 in the other arrays means unknown and costs nothing.
    """
    total = np.zeros((), np.int64)
    for term in terms_us(traffic_class, delay_us, jitter_us, loss_ppm, price_microusd_per_gb, load_us).values():
        total = total + term
    return total
