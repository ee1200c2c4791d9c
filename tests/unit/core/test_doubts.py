"""What agents themselves think of their links: kept from report to report, shown per link, believed by nobody."""

from __future__ import annotations

from dataclasses import replace

from probes.wire import ProbeReport
from router.core.messages import Booted, Reported
from router.core.model import Counters, NodeId
from router.core.plane import ControlPlane
from router.schemas.links import Estimates, configured_links, link_row
from tests.unit.core.blame_story import fleet
from tests.unit.core.worlds import report

HERE, KEY = "gcp-fra-n1", ("gcp-fra", "oracle-sin", "internet")
DELAYS = (40_000, 20_000, 20_000)


def told(sequence: int, node: str = HERE, boot: str = "b", **states: int) -> ProbeReport:
    """A report with these states; ``_`` stands for ``-`` in a peer's name."""
    peers = {name.replace("_", "-"): DELAYS for name in states}
    found = report(node, peers, sequence)
    return replace(found, boot=boot, rows=replace(found.rows, state=tuple(states.values())))


def test_doubts_stay_until_the_agent_takes_them_back() -> None:
    plane = ControlPlane()
    plane.handle(Booted(1, fleet(), Counters(), (), None), 1)

    def hear(what: ProbeReport) -> tuple[int, int]:
        plane.handle(Reported(what), 1_000_000)
        view = plane.view
        shown = link_row(KEY, configured_links(view.inventory), Estimates(view), 1_000_000)  # type: ignore[arg-type]
        return int(str(shown["suspected_by"])), int(str(shown["down_by"]))

    assert hear(told(1, oracle_sin_n1=0, oracle_sin_n2=0)) == (0, 0)
    assert hear(told(2, oracle_sin_n1=1, oracle_sin_n2=2)) == (1, 1)
    assert hear(told(1, "gcp-fra-n2", oracle_sin_n1=2)) == (1, 2), "every agent there has its say"
    assert hear(told(3, gcp_fra_n2=2)) == (1, 2), "of who is not in the report nothing has changed"
    assert hear(told(4, oracle_sin_n1=0)) == (0, 2)
    assert hear(told(1, boot="another", gcp_iad_n1=1)) == (0, 1), "a new process starts anew"
    assert plane.view.nodes[NodeId(HERE)].doubts == {("gcp-iad-n1", "internet"): 1}
    assert hear(report("gcp-fra-n2", {"oracle-sin-n1": DELAYS}, 2)) == (0, 1), "a report without states says nothing"
