"""How much one call of the core may do, counted: beside a report that takes long, all others wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probes.wire import ReportRows
from router.core.blame import cells
from router.core.blame.book import NEW_AT_ONCE, BlameBook
from router.core.blame.cells import BLOCK_US, Cells
from router.core.checkpoint import copied
from router.core.health import HealthBook
from router.core.model import (
    DataCenter,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Role,
)
from router.core.tables import Health, PeerEvidence
from router.core.verdicts import Component, ComponentKind

START, SECOND = 1_000_000_000, 1_000_000
MANY = 2 * NEW_AT_ONCE + 22


def fleet(n: int) -> Inventory:
    centers = [
        DataCenter(DataCenterId(f"dc{i:03d}"), ProviderId("p"), RegionId("earth"), (Role.EDGE,)) for i in range(n)
    ]
    return Inventory(
        providers={ProviderId("p"): Provider(ProviderId("p"))},
        regions={RegionId("earth"): Region(RegionId("earth"))},
        data_centers={dc.id: dc for dc in centers},
        nodes={NodeId(f"{dc.id}-1"): Node(NodeId(f"{dc.id}-1"), dc.id) for dc in centers},
    )


def rows_about(peers: tuple[str, ...], lost: int = 0) -> ReportRows:
    n, none = len(peers), (0,) * len(peers)
    trips = (20_000,) * n
    return ReportRows(
        peer=peers, transport=("internet",) * n, sent=(10,) * n, received=(10 - lost,) * n, reflected=(10,) * n,
        late=none, duplicate=none, rtt_min_us=trips, forward_min_us=trips, backward_min_us=trips, jitter_us=none,
        forward_base_us=none, backward_base_us=none, rtt_sketch=((),) * n, forward_sketch=((),) * n,
        backward_sketch=((),) * n,
    )  # fmt: skip


def test_a_report_makes_so_many_cells_and_the_next_ones_the_rest() -> None:
    inventory = fleet(MANY + 1)
    first, *peers = map(str, inventory.nodes)
    book, made = BlameBook(inventory), []
    for second in range(4):
        book.observe_report(NodeId(first), rows_about(tuple(peers), lost=1), START + second * SECOND)
        made.append(book._cells.count)
    assert made == [NEW_AT_ONCE, 2 * NEW_AT_ONCE, MANY, MANY]
    counted = book._cells.counts["block_n"][:MANY]
    assert counted.tolist() == [40.0] * NEW_AT_ONCE + [30.0] * NEW_AT_ONCE + [20.0] * 22
    assert book._cells.counts["block_b"][:MANY].tolist() == (counted / 10).tolist()


def test_cells_made_at_once_are_those_made_one_by_one() -> None:
    parts = [tuple((part, part + 1, 0) for part in range(i, i + 2 + i % 4)) for i in range(600)]
    one, all_at_once = Cells(), Cells()
    numbers = [one.add(None, 0, some) for some in parts]
    assert list(all_at_once.add_all(0, parts[:250])) + list(all_at_once.add_all(0, parts[250:])) == numbers
    for left, right in zip(one.entries(), all_at_once.entries(), strict=True):
        assert left.tolist() == right.tolist()
    assert one.entries()[0] is one.entries()[0], "nobody copies what did not change"
    assert one.baseline[:600].tolist() == all_at_once.baseline[:600].tolist()


@pytest.mark.parametrize("blocks", [1, 3, 13])
def test_a_baseline_learnt_in_parts_becomes_what_it_becomes_at_once(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, size, sizes = np.random.default_rng(blocks), 90, list[int]()
    held = Cells(), Cells()
    middle: Callable[[Any], Any] = cells._middle

    def counting(stack: Any) -> Any:
        sizes.append(stack.size)
        return middle(stack)

    for one in held:
        one.add_all(0, [((i, 0, 0),) for i in range(size)])
        one.fade(START)
    rows, now = np.arange(size), START
    for _ in range(blocks):
        seen, lost, trips = rng.uniform(1, 100, size), rng.uniform(0, 9, size), rng.integers(1_000, 90_000, size)
        for one in held:
            one.slow(rows, trips)
            one.note(rows, seen, lost, now)
        now += BLOCK_US
        for one, most in zip(held, (10**9, 100), strict=True):
            monkeypatch.setattr(cells, "LEARNT_AT_ONCE", most)
            monkeypatch.setattr(cells, "_middle", counting if most == 100 else middle)
            one.learn(now, np.zeros(0, np.int64))
            for second in range(1, 13 if most == 100 else 2):
                one.learn(now + second * SECOND // 10, np.zeros(0, np.int64))
    assert max(sizes) <= 100
    assert held[0].baseline[:size].tolist() == held[1].baseline[:size].tolist()
    assert held[0].usual_us[:size].tolist() == held[1].usual_us[:size].tolist()
    assert len(set(held[0].usual_us[:size].tolist())) > size // 2


def test_a_checkpoint_shares_what_is_immutable_and_hashes_nothing_again() -> None:
    class Counted(str):
        hashes = 0

        def __hash__(self) -> int:
            Counted.hashes += 1
            return super().__hash__()

    names = [Component(ComponentKind.TRANSIT, f"{i}") for i in range(50)]
    table: dict[object, object] = {Counted(name.id): name for name in names}
    inner = np.zeros(3)
    table[Counted("inner")] = {"array": inner, "row": [names[0], [inner]]}
    Counted.hashes = 0
    twin = copied(table)
    assert Counted.hashes <= 1, "only what is not shared is put in anew"
    assert [twin[key] is table[key] for key in list(table)[:-1]] == [True] * 50
    inner[:] = 7.0
    assert twin["inner"]["array"].tolist() == twin["inner"]["row"][1][0].tolist() == [0.0] * 3
    assert list(twin) == list(table)


def test_only_data_centers_that_are_not_well_are_judged_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    n, now, judged = 40, START, list[int]()
    book = HealthBook(fleet(n))
    judge: Callable[..., Any] = book._judge
    monkeypatch.setattr(book, "_judge", lambda i, *more: (judged.append(i), judge(i, *more))[1])

    def round_of_reports(silent: int) -> None:
        for u in range(n):
            v = np.delete(np.arange(n), u)
            answered = np.where((v == silent) | (u == silent), 0, 5)
            book.observe(PeerEvidence(u, v, answered, 5 - answered, None), now)

    for second in range(4):
        round_of_reports(silent=-1)
        judged.clear()
        now += SECOND
        book.evaluate(now)
        assert len(judged) == (n if second == 0 else 0), "from unknown to up once"
    for _ in range(3):
        round_of_reports(silent=7)
        now += SECOND
        judged.clear()
        book.evaluate(now)
        assert judged == [7]
    assert [i for i, one in enumerate(book.current) if one.state is Health.DOWN] == [7]
    assert book.current[7].vantages_lost == n - 1 and "39 vantages" in book.current[7].reason
