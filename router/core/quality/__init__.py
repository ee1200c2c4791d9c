"""What people hear and wait for, and what it makes a link cost.

``delays``   one-way delay as a distribution; composition along a path; the best playout point
``emodel``   R and MOS of a call (ITU-T G.107)
``utility``  points of a path for each traffic class, not additive: for answers and exact re-scoring
``metric``   microseconds of a hop for each traffic class, additive: for the search
"""

from router.core.quality.delays import Delays, Playout, along, lost_along, of_hops, of_quantiles
from router.core.quality.emodel import CODEC_DELAY_US, Codec, DelayForm, best_playout, mos, mos_of, rating
from router.core.quality.metric import (
    PROFILES,
    ClassProfile,
    jitter_term_us,
    loss_term_us,
    metric_us,
    price_term_us,
    terms_us,
)
from router.core.quality.utility import turn, utility

__all__ = [
    "CODEC_DELAY_US",
    "PROFILES",
    "ClassProfile",
    "Codec",
    "DelayForm",
    "Delays",
    "Playout",
    "along",
    "best_playout",
    "jitter_term_us",
    "loss_term_us",
    "lost_along",
    "metric_us",
    "mos",
    "mos_of",
    "of_hops",
    "of_quantiles",
    "price_term_us",
    "rating",
    "terms_us",
    "turn",
    "utility",
]
