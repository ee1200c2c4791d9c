"""The way of reports from agents to the control plane, and everything that can happen to them on it.

A report that the wire contract refuses never reaches the core: it is counted as ``refused_reports``, as the API edge
would refuse it. ``absurd`` reports pass the contract and are lies: they name the largest and smallest values that the
wire can carry. An agent can lie only about itself, so what the truth says of pairs without it must stay right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

from probes.wire import MAX_COUNT, MAX_DELAY_US, MAX_RAW_US, ProbeReport, WireError, decode_report, encode
from router.core.model import Inventory, NodeId
from router.sim.engine import Engine
from router.sim.faults import Fault, FaultPlayer, Kind

UPLINK_US = 20_000  # report on its way to the controller
KEPT_FOR_REPLAY = 32  # reports that somebody recorded and sends again

# What JSON can carry and a column must not: none of these may ever reach the core.
MALFORMED: tuple[object, ...] = (float("nan"), float("inf"), -1.5, "12", None, True, -2, 1 << 70)
# What the contract lets through: (rtt, forward, backward) of an honest agent with a broken clock, or of a liar.
ABSURD = (
    (0, -MAX_RAW_US, MAX_RAW_US),
    (MAX_DELAY_US, MAX_RAW_US, MAX_RAW_US),
    (1, -MAX_RAW_US, -MAX_RAW_US),
    (0, 0, 0),
    (MAX_DELAY_US, -1, 1),
)


class Mail:
    """Carries reports; ``counts`` tells what happened to them."""

    def __init__(
        self,
        engine: Engine,
        inventory: Inventory,
        faults: FaultPlayer,
        rng: Random,
        deliver: Callable[[ProbeReport], None],
        counts: Counter[str],
    ) -> None:
        self._engine = engine
        self._inventory = inventory
        self._faults = faults
        self._rng = rng
        self._deliver = deliver
        self._counts = counts
        self._recorded: list[ProbeReport] = []

    def send(self, report: ProbeReport) -> None:
        """Take a report from its agent."""
        self._counts["reports"] += 1
        for fault in self._faults.active_of(Kind.REPORTS):
            hit = NodeId(report.node) in self._faults.nodes(fault)
            if hit and self._rng.random() * 100 < fault.number("share_percent"):
                self._counts[f"reports_{fault.what}"] += 1
                self._spoil(fault, report)
                return
        home = self._inventory.nodes[NodeId(report.node)].data_center
        self._post(_all_lost(report) if self._faults.isolated(home) else report)

    def _post(self, report: ProbeReport, later_us: int = 0) -> None:
        self._engine.at(self._engine.now + UPLINK_US + later_us, lambda: self._deliver(report))

    def _spoil(self, fault: Fault, report: ProbeReport) -> None:
        delay_us = round(fault.number("delay_s") * 1e6)
        match fault.what:
            case "lost":
                pass
            case "duplicate":
                self._post(report)
                self._post(report, later_us=1)
            case "replay":
                self._recorded = [*self._recorded, report][-KEPT_FOR_REPLAY:]
                self._post(report)
                self._post(self._rng.choice(self._recorded), later_us=delay_us)
            case "delay":
                self._post(report, later_us=delay_us)
            case "reorder":
                self._post(report, later_us=self._rng.randrange(max(1, delay_us)))
            case "unknown-peer":
                self._post(_about_strangers(report))
            case "malformed":
                self._malformed(report)
            case _:
                self._post(_absurd(report, self._rng))

    def _malformed(self, report: ProbeReport) -> None:
        data = encode(report)
        rows = data["rows"]
        assert isinstance(rows, dict)
        column = self._rng.choice(("sent", "received", "rtt_min_us", "forward_min_us", "jitter_us"))
        if rows[column]:
            rows[column] = [self._rng.choice(MALFORMED), *rows[column][1:]]
        else:
            data["interval_us"] = self._rng.choice(MALFORMED)
        try:
            decoded = decode_report(data)
        except WireError:
            self._counts["refused_reports"] += 1
        else:
            self._post(decoded)


def _about_strangers(report: ProbeReport) -> ProbeReport:
    """The same numbers about nodes that nobody has heard of, and over a transport that does not exist."""
    rows = report.rows
    peers = tuple(f"stranger-{i}" if i % 2 else peer for i, peer in enumerate(rows.peer))
    transports = tuple(name if i % 2 else "carrier-pigeon" for i, name in enumerate(rows.transport))
    return replace(report, rows=replace(rows, peer=peers, transport=transports))


def _all_lost(report: ProbeReport) -> ProbeReport:
    """What a node says that believes to be alone in the world: not one of its probes came back."""
    rows, zeros = report.rows, (0,) * len(report.rows.peer)
    return replace(report, rows=replace(rows, received=zeros))


def _absurd(report: ProbeReport, rng: Random) -> ProbeReport:
    rows = report.rows
    lies = [rng.choice(ABSURD) for _ in rows.peer]
    return replace(
        report,
        rows=replace(
            rows,
            sent=(MAX_COUNT,) * len(lies),
            received=(MAX_COUNT,) * len(lies),
            rtt_min_us=tuple(lie[0] for lie in lies),
            forward_min_us=tuple(lie[1] for lie in lies),
            backward_min_us=tuple(lie[2] for lie in lies),
            jitter_us=(MAX_DELAY_US,) * len(lies),
        ),
    )
