"""What a path is worth to each traffic class, in points: about 100 is perfect, 0 is of no use, one signature for all.

``voice``  R of the E-model at the best playout point.
``agent``  turn delay itself, linear. Someone who talks to a machine hears every millisecond between the end of the
           question and the start of the answer as the machine's own slowness; the E-model's free 100 ms do not exist.
``video``  delay as for voice plus the video pipeline; lost packets are mostly repaired, late ones never.
``bulk``   throughput of a loss-driven sender, in doublings.

A path is one direction. A conversation needs both: impairments of the two directions add for ``agent`` (``turn``), and
because its utility is linear in delay, choosing the best path of each direction apart also gives the best turn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from router.core.model import TrafficClass
from router.core.quality.delays import F64, Delays, playout
from router.core.quality.emodel import CODEC_DELAY_US, best_playout, delay_impairment

# --- agent -----------------------------------------------------------------------------------------------------------
# 0.1 points per ms: a network that adds a second to every turn is worth nothing. Gaps between human turns centre on
# 200 ms (Stivers et al., PNAS 106, 2009) and a silence of about a second is the longest that passes for normal
# (Jefferson 1989); within that range judgements fall steadily (Roberts, Margutti, Takano 2011). Our judgement: linear.
AGENT_POINTS_PER_MS = 0.1
# Loss costs time: the recogniser gets words wrong and the user says it again. Judgements, in the order of magnitude of
# published word error rates under loss with concealment (0.2..0.5 points of word errors per point of loss):
WORD_ERRORS_PER_LOSS = 0.3  # share of words wrong per share of packets lost
WORDS_PER_TURN = 10  # a short spoken request
REPEATED_PER_ERROR = 0.2  # most wrong words do not change what the agent does
REPEAT_MS = 5_000  # hearing that it misunderstood, and saying it again
AGENT_POINTS_PER_LOSS = AGENT_POINTS_PER_MS * WORD_ERRORS_PER_LOSS * WORDS_PER_TURN * REPEATED_PER_ERROR * REPEAT_MS

# --- video -----------------------------------------------------------------------------------------------------------
VIDEO_DELAY_US = 66_000  # capture, encode, decode and display: two frames at 30 per second; sound waits for lip sync
PACKETS_PER_FRAME = 5  # 1.2 Mbit/s at 30 frames/s in packets of 1,000 bytes; one missing packet spoils the frame
UNREPAIRED = 0.1  # of lost packets: retransmission (RFC 4585 NACK) and FEC bring the others back in time. Judgement
# A tenth of the frames spoiled halves the picture's worth: where congestion control (draft-ietf-rmcat-gcc, loss-based
# part) calls the path congested and cuts the rate. Same hyperbola as Ie,eff.
SPOILED_HALF = 0.1

# --- bulk ------------------------------------------------------------------------------------------------------------
# Mathis, Semke, Mahdavi, Ott (CCR 27(3), 1997): rate = MSS / RTT * sqrt(3/2) / sqrt(p). CUBIC and BBR do better on long
# lossy paths, but in the same order; a ranking needs no more.
MSS_BITS = 1460 * 8
POINTS_PER_DOUBLING = 10.0  # 1 Mbit/s = 0 points, 1 Gbit/s = 100
BASE_BITS_PER_S = 1e6
# A loss-driven sender makes this loss itself: what Mathis gives for 10 Mbit/s at 200 ms. Keeps the logarithm finite.
OWN_LOSS = 5e-5
SHORTEST_US = 100.0  # one way; keeps the logarithm finite


def utility(traffic_class: TrafficClass, delays: Delays, loss: F64) -> F64:
    """Points of one direction; ``loss`` is a share 0..1, shaped like ``delays``. Never rises with delay or loss."""
    return _CURVES[traffic_class](delays, loss)


def turn(forward: F64, back: F64) -> F64:
    """Points of a whole ``agent`` turn from those of its two directions: impairments add."""
    result: F64 = forward + back - 100
    return result


def _voice(delays: Delays, loss: F64) -> F64:
    return best_playout(delays, loss).points


def _agent(delays: Delays, loss: F64) -> F64:
    # Speech reaches the recogniser through a jitter buffer, and so does the answer the ear: late counts as lost.
    def score(deadline_us: F64, loss: F64, late: F64) -> F64:
        lost = loss + (1 - loss) * late
        wait: F64 = AGENT_POINTS_PER_MS * (deadline_us + CODEC_DELAY_US) / 1000
        return 100 - wait - AGENT_POINTS_PER_LOSS * lost

    return playout(delays, loss, score).points


def _video(delays: Delays, loss: F64) -> F64:
    def score(deadline_us: F64, loss: F64, late: F64) -> F64:
        missing = np.minimum(1.0, UNREPAIRED * loss + (1 - loss) * late)
        spoiled = 1 - (1 - missing) ** PACKETS_PER_FRAME
        picture: F64 = 95 * spoiled / (spoiled + SPOILED_HALF)
        return 100 - delay_impairment((deadline_us + VIDEO_DELAY_US) / 1000) - picture

    return playout(delays, loss, score).points


def _bulk(delays: Delays, loss: F64) -> F64:
    # The window is paced by the mean round trip; the way back is taken to be like the way there.
    rtt_s = 2e-6 * np.maximum(delays.mean_us, SHORTEST_US)
    rate = MSS_BITS / rtt_s * np.sqrt(1.5 / (loss + OWN_LOSS))
    result: F64 = POINTS_PER_DOUBLING * np.log2(rate / BASE_BITS_PER_S)
    return result


_CURVES: dict[TrafficClass, Callable[[Delays, F64], F64]] = {
    TrafficClass.VOICE: _voice,
    TrafficClass.AGENT: _agent,
    TrafficClass.VIDEO: _video,
    TrafficClass.BULK: _bulk,
}
