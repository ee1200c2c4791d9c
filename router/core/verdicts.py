"""Who is at fault, as the View shows it: components, verdicts with their evidence, and whether automation is frozen.

Made by ``router.core.blame``; read by drains, ramps, ``/v1/health`` and the dashboard. Everything is frozen data in a
fixed order, worst first, so that two replicas that saw the same show the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.core.model import Micros

SURE_PPM = 900_000  # from here on automation may act, after ``SURE_WINDOWS``
LIKELY_PPM = 500_000  # from here on it is told, and probes are sent to make sure
SURE_WINDOWS = 3  # windows in a row with at least ``SURE_PPM``
WINDOW_US = 2_000_000


class ComponentKind(StrEnum):
    """What can be at fault."""

    NODE = "node"  # one machine; id: node
    EDGE_REGION = "edge_region"  # one data center; id: data center
    PROVIDER_REGION = "provider_region"  # several data centers of a provider in a region; id: provider/region
    PROVIDER = "provider"  # id: provider
    TARGET = "target"  # an agent host or hub, seen from everywhere; id: data center
    TRANSIT = "transit"  # peering or a segment; id: as1234/provider, or data center>data center
    CLIENT_ISP = "client_isp"  # id: as1234
    PROBER = "prober"  # who says so is wrong, what it speaks of is well; id: node


class Action(StrEnum):
    """What a verdict asks for; carried out, or not, by drains and steering under their own guards."""

    NONE = "none"  # nothing to do, or not sure enough
    WATCH = "watch"  # likely, not sure: probes are being sent
    EJECT_NODE = "eject_node"
    DRAIN_DATA_CENTER = "drain_data_center"
    DRAIN_PROVIDER_REGION = "drain_provider_region"
    DRAIN_PROVIDER = "drain_provider"
    EJECT_TARGET = "eject_target"
    STEER_GROUP = "steer_group"  # only this client network, or only this pair, goes another way
    TELL_SUPPORT = "tell_support"
    DISCARD_VANTAGE = "discard_vantage"


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """Something that can be at fault; ``id`` is as ``ComponentKind`` says."""

    kind: ComponentKind
    id: str

    @property
    def name(self) -> str:
        """``node:vultr-fra1-n1``."""
        return f"{self.kind.value}:{self.id}"


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another component that would explain the same observations, and how likely."""

    component: Component
    confidence_ppm: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a verdict, counted: ``bad`` of ``observed`` vantages, and the observations behind them."""

    vantages_bad: int = 0  # independent vantages that see it bad
    vantages: int = 0  # independent vantages that look at it
    providers: int = 0  # providers that the bad vantages belong to
    loss_ppm: int = 0  # of the probes across it
    failed_ppm: int = 0  # of the session outcomes across it that are bad
    probes: int = 0
    outcomes: int = 0
    sources: tuple[str, ...] = ()  # which kinds of evidence agree, most trusted first
    newest_at: Micros = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One component is blamed; a lease that ends without fresh evidence."""

    component: Component
    confidence_ppm: int  # posterior against the alternatives and against "nothing is wrong"
    since: Micros  # when it was first blamed, without a break
    windows: int  # windows in a row with at least ``SURE_PPM``
    evidence: Evidence
    alternatives: tuple[Alternative, ...] = ()
    action: Action = Action.NONE
    expires_at: Micros = 0
    text: str = ""  # the verdict as a sentence

    @property
    def is_sure(self) -> bool:
        """Whether automation may act on it."""
        return self.confidence_ppm >= SURE_PPM and self.windows >= SURE_WINDOWS

    @property
    def sure_pct(self) -> int:
        """What people are told of the confidence: whole percents, and never all of them."""
        return min(99, self.confidence_ppm // 10_000)


@dataclass(frozen=True, slots=True)
class Blame:
    """All verdicts of a moment, surest first. ``frozen``: everything is bad everywhere, so automation must not act."""

    verdicts: tuple[Verdict, ...] = ()
    frozen: bool = False
    at: Micros = 0
    frozen_reason: str = ""

    def sure(self) -> tuple[Verdict, ...]:
        """What automation may act on: nothing while frozen."""
        return () if self.frozen else tuple(v for v in self.verdicts if v.is_sure)

    def of(self, kind: ComponentKind, id: str) -> Verdict | None:
        """The verdict on a component, if it is blamed."""
        return next((v for v in self.verdicts if v.component == Component(kind, id)), None)
