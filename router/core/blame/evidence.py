"""What speaks for a finding, in counts that people can check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.core.blame.cells import PERHAPS
from router.core.blame.infer import Case, Finding, everywhere
from router.core.tables import F64, I32, Bool
from router.core.verdicts import Component, ComponentKind, Evidence

SEEN = 0.3  # observations of a vantage before it has an opinion
ENOUGH_VANTAGES, ENOUGH_PROVIDERS = 3, 2  # that agree before a place is blamed; fewer where fewer look at it
ALONE = 0.85  # the most that a finding without enough independent vantages is believed: it is told, not acted on
STAND_OUT = 0.5  # of what is well elsewhere, a fault must spoil so much to be told from what spoils everything
_BROAD = (ComponentKind.EDGE_REGION, ComponentKind.PROVIDER_REGION, ComponentKind.PROVIDER, ComponentKind.TARGET)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Evidence for a finding, the confidence it deserves, and whether anybody looks at the component at all."""

    evidence: Evidence
    confidence: float
    is_watched: bool


def weigh(case: Case, finding: Finding, others: Sequence[Finding], lately: Sequence[float]) -> Weighed:
    """Count what speaks for a finding, and take from its confidence what the evidence cannot give.

    ``others`` were found, too: what crosses one of them does not speak for this one. ``lately``: share of probes and of
    sessions that was bad everywhere.
    """
    found, watched = evidence_of(case, finding)
    sure = finding.confidence
    if sure > ALONE:
        apart = _apart(case, finding, others)
        own = found if apart.all() else evidence_of(case, finding, apart)[0]
        narrow = finding.component.kind in _BROAD and not _is_diverse(own)
        if narrow or not _stands_out(case, finding, found, apart, lately):
            sure = ALONE
    return Weighed(found, sure, watched)


def _apart(case: Case, finding: Finding, others: Sequence[Finding]) -> Bool:
    """Which cells no other finding that is at least as sure can have spoilt."""
    surer = [one.number for one in others if one.number != finding.number and one.confidence >= finding.confidence]
    inside = [part for number in surer for part in case.children.get(number, ())]
    apart = np.ones(len(case.kind), np.bool_)
    apart[case.cell[np.isin(case.component, [*surer, *inside])]] = False
    return apart


def _stands_out(case: Case, finding: Finding, found: Evidence, apart: Bool, lately: Sequence[float]) -> bool:
    """Whether it is far worse than what is bad everywhere, where something is: then noise is not independent."""
    outside = apart.copy()
    outside[case.cell[np.isin(case.component, [finding.number, *case.children.get(finding.number, ())])]] = False
    now = everywhere(case, case.counts[finding.horizon], outside)
    noise = [max(float(now[kind]), lately[kind]) for kind in range(2)]
    shares = found.loss_ppm / 1e6, found.failed_ppm / 1e6
    told = [kind for kind, name in enumerate(("probes", "sessions")) if name in found.sources]
    return not any(noise) or any(shares[kind] >= noise[kind] + STAND_OUT * (1 - noise[kind]) for kind in told)


def _is_diverse(found: Evidence) -> bool:
    needed = max(2, min(ENOUGH_VANTAGES, (found.vantages + 1) // 2))
    return found.vantages_bad >= needed and found.providers >= min(ENOUGH_PROVIDERS, found.vantages_bad)


def evidence_of(case: Case, finding: Finding, among: Bool | None = None) -> tuple[Evidence, bool]:
    """The counts of a finding's horizon, of some cells or all, and whether the component was looked at lately."""
    known = case.role != PERHAPS
    entries = np.flatnonzero(known & (case.component == finding.number))
    parts = case.children.get(finding.number, ())
    if not len(entries):
        entries = np.flatnonzero(known & np.isin(case.component, parts))
    if among is not None:
        entries = entries[among[case.cell[entries]]]
    cell, vantage = case.cell[entries], case.vantage[entries]
    n, b = (counts[cell] for counts in case.counts[finding.horizon])
    size = len(case.vantage_provider)
    seen = np.bincount(vantage, n, size)
    over = np.bincount(vantage, b - 2 * case.baseline[cell] * n, size)
    inside = np.array([_is_inside(finding.component, name) for name in case.vantage_provider], np.bool_)
    looks = (seen > SEEN) & ~inside
    says_bad = looks & (over > np.maximum(0.5, 0.02 * seen))
    independent = says_bad[vantage] & (b > 0)
    newest = int(case.last_bad[cell][independent].max()) if independent.any() else 0
    session = case.kind[cell] == 1
    providers = {case.vantage_provider[i] for i in np.flatnonzero(says_bad).tolist()}
    sources = [name for name, mine in (("sessions", session), ("probes", ~session)) if _agrees(n, b, case, cell, mine)]
    evidence = Evidence(
        vantages_bad=int(says_bad.sum()),
        vantages=int(looks.sum()),
        providers=len(providers),
        loss_ppm=_share_ppm(n[~session], b[~session]),
        failed_ppm=_share_ppm(n[session], b[session]),
        probes=round(float(n[~session].sum())),
        outcomes=round(float(n[session].sum())),
        sources=tuple(sources),
        newest_at=newest,
    )
    return evidence, bool(case.counts[0][0][cell].sum() > 1.0)


def _is_inside(component: Component, provider: str) -> bool:
    return component.kind is ComponentKind.PROVIDER and component.id == provider


def _agrees(n: F64, b: F64, case: Case, cell: I32, mine: Bool) -> bool:
    return bool(b[mine].sum() > 2 * (case.baseline[cell] * n)[mine].sum() + 0.5)


def _share_ppm(n: F64, b: F64) -> int:
    whole = float(n.sum())
    return round(1e6 * float(b.sum()) / whole) if whole > 0 else 0
