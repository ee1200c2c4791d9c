"""Health of data centers as stories: outage, quiet period, flapping, our own fault, absence of reports."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import SECOND, inventory

from router.core.health import QUIET_US, HealthBook
from router.core.model import DataCenterId
from router.core.tables import Health, PeerEvidence

NAMES = "a-1 a-2 b-1 b-2 c-1 c-2"
N = 6


def tell(book: HealthBook, now: int, dead: set[int], loss: float = 0.0, silent: bool = False) -> None:
    """Every data center reports one probe to every other; those touching ``dead`` are lost."""
    for u in range(N):
        v = np.array([k for k in range(N) if k != u], np.int64)
        lost = np.array([1 if u in dead or k in dead else 0 for k in v], np.int64)
        if loss and now // SECOND % round(1 / loss) == 0:
            lost |= 1
        if not silent:
            book.observe(PeerEvidence(u, v, 1 - lost, lost), now)


def run(
    book: HealthBook, start_s: float, seconds: float, dead: set[int], **kind: float | bool
) -> list[tuple[float, int, Health]]:
    changes = []
    for tick in range(int(start_s * 4), int((start_s + seconds) * 4)):
        now = tick * SECOND // 4
        if tick % 4 == 0:
            tell(book, now, dead, **kind)  # type: ignore[arg-type]
        index = {dc: i for i, dc in enumerate(NAMES.split())}
        changes += [(tick / 4, index[dc], after.state) for dc, _, after in book.evaluate(now)]
    return changes


@pytest.fixture
def book() -> HealthBook:
    fresh = HealthBook(inventory(NAMES))
    run(fresh, 1, 10, set())
    assert {h.state for h in fresh.current} == {Health.UP}
    return fresh


def test_an_outage_is_noticed_from_all_peers_together(book: HealthBook) -> None:
    changes = run(book, 11, 6, {2})
    downs = [(t, i) for t, i, state in changes if state is Health.DOWN]
    assert [i for _, i in downs] == [2]
    assert downs[0][0] <= 11 + 3
    assert "vantages lose every packet" in book.current[2].reason
    assert book.current[2].vantages_lost == N - 1


def test_where_users_complain_as_well_half_the_silence_is_enough(book: HealthBook) -> None:
    tell(book, 11 * SECOND, set())
    tell(book, 11 * SECOND + 500_000, {2})  # everything was lost since
    for user in range(3):
        book.complain(DataCenterId("b-1"), 1, 11 * SECOND + 600_000 + user)
    book.evaluate(11 * SECOND + 700_000)
    assert book.current[2].state is not Health.DOWN, "the last packet has just come back"
    book.evaluate(11 * SECOND + 800_000)
    assert [i for i, one in enumerate(book.current) if one.state is Health.DOWN] == [2]


def test_what_users_say_takes_nobody_out_by_itself(book: HealthBook) -> None:
    for second in range(11, 31):
        book.complain(DataCenterId("b-1"), 100, second * SECOND)
        book.complain(DataCenterId("nowhere"), 100, second * SECOND)
        assert not run(book, second, 1, set())
    tell(book, 60 * SECOND, set())
    book.complain(DataCenterId("b-1"), 2, 60 * SECOND)
    tell(book, 60 * SECOND + 500_000, {2})
    book.evaluate(61 * SECOND)
    assert book.current[2].state is not Health.DOWN, "two are not several"


def test_the_others_are_not_blamed(book: HealthBook) -> None:
    run(book, 11, 30, {2})
    assert [h.state for i, h in enumerate(book.current) if i != 2] == [Health.UP] * (N - 1)


def test_it_comes_back_after_its_quiet_period_and_the_period_doubles_with_flaps(book: HealthBook) -> None:
    def outage(start: float) -> float:
        run(book, start, 6, {2})
        assert book.current[2].state is Health.DOWN
        changes = run(book, start + 6, 60, set())
        return next(t for t, i, state in changes if i == 2 and state is Health.UP) - (start + 6)

    first, second = outage(11), outage(80)
    assert QUIET_US / SECOND <= first <= QUIET_US / SECOND + 2
    assert second >= 2 * first - 2


def test_absence_of_reports_is_not_evidence(book: HealthBook) -> None:
    changes = run(book, 11, 20, {2}, silent=True)
    assert not [c for c in changes if c[2] is Health.DOWN]
    run(book, 31, 30, {2}, silent=True)
    assert {h.state for h in book.current} == {Health.UNKNOWN}


def test_when_most_of_the_world_goes_dark_at_once_nothing_is_declared(book: HealthBook) -> None:
    changes = run(book, 11, 10, {0, 1, 2, 3, 4})
    assert book.frozen
    assert not [c for c in changes if c[2] is Health.DOWN]


def test_a_whole_provider_may_go_down(book: HealthBook) -> None:
    changes = run(book, 11, 6, {0, 1})
    assert sorted(i for _, i, state in changes if state is Health.DOWN) == [0, 1]


def test_partial_loss_is_degraded_and_recovers(book: HealthBook) -> None:
    run(book, 11, 30, set(), loss=0.25)
    assert Health.DEGRADED in {h.state for h in book.current}
    assert Health.DOWN not in {h.state for h in book.current}
    run(book, 41, 60, set())
    assert {h.state for h in book.current} == {Health.UP}


def test_history_moves_with_the_inventory(book: HealthBook) -> None:
    run(book, 11, 6, {2})
    wider = HealthBook(inventory(NAMES + " a-0"))
    wider.adopt(book)
    assert wider.current[3].state is Health.DOWN  # b-1, one place further
    assert wider.current[0].state is Health.UNKNOWN
