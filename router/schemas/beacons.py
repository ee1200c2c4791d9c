"""Measurements of real users, and what is believed about client networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, RootModel

from router.core.clients import (
    ASN,
    COUNTRY,
    PREFIX,
    PROVENANCES,
    Belief,
    Network,
    rtt_of,
    verdict,
)
from router.core.clients.evidence import KNEE_US
from router.core.messages import Beacon
from router.core.model import Client, DataCenterId, Inventory, Micros
from router.core.tables import UNKNOWN
from router.schemas.clients import ClientAnswer, ClientBody, client_json
from router.schemas.fields import Answer, Body, DelayMs, Id, LossPct
from router.schemas.units import known_ms, known_pct, ms, ppm, us

MAX_BEACONS = 1_000
RIGHT_SHARE, RIGHT_US = 0.10, 2_000  # "right" in ``confidence``
LEVELS: Mapping[str, int] = {"asn": ASN, "country": COUNTRY, "prefix": PREFIX}

Source = Literal["beacon", "webrtc", "session", "vantage", "other"]


class BeaconBody(Body):
    """One round trip between a client and a data center's edge."""

    client: ClientBody
    data_center: Id
    rtt_ms: Annotated[DelayMs, Field(gt=0)]
    loss_pct: LossPct | None = None
    jitter_ms: DelayMs | None = None
    source: Source = Field(default="beacon", description="how it was measured")

    def core(self, client: Client, key: str) -> Beacon:
        """Map to the core type; ``client`` is what is kept of the row's, ``key`` who says so."""
        return Beacon(
            client,
            DataCenterId(self.data_center),
            us(self.rtt_ms),
            f"{key}:{self.source}",
            None if self.loss_pct is None else ppm(self.loss_pct),
            None if self.jitter_ms is None else us(self.jitter_ms),
        )


class BeaconsBody(RootModel[Annotated[list[BeaconBody], Field(max_length=MAX_BEACONS)]]):
    """Rows in any order; all are taken or none."""


class BeaconsAnswer(Answer):
    """How many rows were taken, and how many were not believed, by reason."""

    accepted: int
    left_out: dict[str, int]


class LegAnswer(Answer):
    """What is believed about the way to one edge."""

    data_center: str
    rtt_ms: float | None
    error_ms: float | None
    confidence: float | None
    provenance: str
    age_ms: float | None
    loss_pct: float | None
    jitter_ms: float | None


class CandidateAnswer(Answer):
    """An edge that is worth measuring, and where it is reached."""

    data_center: str
    url: str


class ClientNetworkAnswer(Answer):
    """Everything believed about one client network, the nearest edge first."""

    client: ClientAnswer
    edges: list[LegAnswer]
    candidates: list[CandidateAnswer]


class MeasuredEdge(Answer):
    """What was measured between a group of clients and one edge."""

    data_center: str
    rtt_ms: float
    samples: int
    witnesses: int
    age_ms: float
    loss_pct: float | None
    jitter_ms: float | None


class GroupAnswer(Answer):
    """What was measured of one prefix, AS number or country, the nearest edge first."""

    id: str
    asn: int | None
    country: str | None
    age_ms: float
    edges: list[MeasuredEdge]


class GroupList(Answer):
    """One page of groups."""

    items: list[GroupAnswer]
    next: str | None


def group_json(id: str, network: Network, now: Micros) -> dict[str, object]:
    """Return the JSON form of what was measured of one group."""
    edges = []
    for edge, seats in network.seats.items():
        said = verdict(seats, None, now)
        if said is not None:
            edges.append(
                {
                    "data_center": edge,
                    "rtt_ms": ms(round(rtt_of(said.log))),
                    "samples": sum(seat.times for seat in seats),
                    "witnesses": len(seats),
                    "age_ms": ms(max(0, now - said.at)),
                    "loss_pct": known_pct(network.loss_ppm.get(edge, UNKNOWN)),
                    "jitter_ms": known_ms(network.jitter_us.get(edge)),
                }
            )
    edges.sort(key=lambda row: (row["rtt_ms"], row["data_center"]))
    return {
        "id": id,
        "asn": network.client.asn,
        "country": network.client.country,
        "age_ms": ms(max(0, now - network.at)),
        "edges": edges,
    }


def client_network_json(
    client: Client, held: Belief, own: Network | None, inventory: Inventory, asked: list[DataCenterId]
) -> dict[str, object]:
    """Return the JSON form of what is believed about one client network."""
    legs = [_leg(held, own, i, id) for i, id in enumerate(inventory.data_centers)]
    legs.sort(key=lambda leg: (leg["rtt_ms"] is None, leg["rtt_ms"], leg["data_center"]))
    return {
        "client": client_json(client),
        "edges": legs,
        "candidates": [{"data_center": id, "url": inventory.data_centers[id].media_url} for id in asked],
    }


def _leg(held: Belief, own: Network | None, i: int, id: DataCenterId) -> dict[str, object]:
    one_way, error = int(held.access.one_way_us[i]), int(held.access.error_us[i])
    known = one_way != UNKNOWN
    age = float(held.age_us[i])
    return {
        "data_center": id,
        "rtt_ms": ms(2 * one_way) if known else None,
        "error_ms": ms(2 * error) if known else None,
        "confidence": _confidence(2 * one_way, float(held.variance[i])) if known else None,
        "provenance": PROVENANCES[held.access.provenance[i]],
        "age_ms": ms(round(age)) if math.isfinite(age) else None,
        "loss_pct": None if own is None else known_pct(own.loss_ppm.get(id, UNKNOWN)),
        "jitter_ms": None if own is None else known_ms(own.jitter_us.get(id)),
    }


def _confidence(rtt_us: int, variance: float) -> float:
    """Chance that the truth is within 10 % or 2 ms."""
    width = math.log1p(max(RIGHT_SHARE * rtt_us, RIGHT_US) / (rtt_us + KNEE_US))
    return round(math.erf(width / math.sqrt(2 * max(variance, 1e-9))), 3)
