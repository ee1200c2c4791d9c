"""What is taken back after a start: nothing, before whoever holds it could be heard. On both databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from router.core.model import NodeId
from router.core.model import SessionState as S
from router.runtime import RuntimeOptions
from router.runtime.upkeep import Upkeep

SECOND = 1_000_000


@pytest.fixture
def seeded(world: Any) -> Any:
    world.seed()
    return world


@dataclass
class Restarted:
    """As much of a runtime as upkeep needs, on a real database, whose clock is told."""

    seeded: Any
    clock: int
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    arms: Any = field(default_factory=lambda: SimpleNamespace(sweep=lambda now: None))
    rounds: Any = field(default_factory=lambda: SimpleNamespace(first_heard={}))

    @property
    def inventory(self) -> Any:
        return SimpleNamespace(nodes=[NodeId("linode-fra-1"), NodeId("oracle-fra-1")])

    def now(self) -> int:
        return self.clock

    async def commit(self, write: Any) -> Any:
        return self.seeded.do(lambda: write(self.seeded.store))

    commit_later = commit


async def test_a_user_who_arrived_while_nobody_listened_is_not_taken_back(seeded: Any) -> None:
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    leaving = [seeded.store.count_leaving("linode-fra", node) for node in (None, "linode-fra-1", "oracle-fra-1")]
    assert leaving == [1, 1, 0]
    runtime = Restarted(seeded, seeded.lease + 30 * SECOND)
    upkeep = Upkeep(runtime)  # type: ignore[arg-type]
    await upkeep.run()
    assert seeded.store.session("s-1").state is S.MOVING, "its new edge has not had the time to say that it is there"
    assert seeded.touch("oracle-fra-1", ("s-1", "attached"), lease=runtime.clock + 120 * SECOND) == ()
    for _ in range(6):
        runtime.clock += 2 * SECOND
        await upkeep.run()
    found = seeded.store.session("s-1")
    assert (found.state, found.edge, upkeep.rolled_back) == (S.ACTIVE, "oracle-fra", 0)


async def test_a_user_who_never_arrives_is_taken_back_once_it_could_have_been_heard(seeded: Any) -> None:
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    runtime = Restarted(seeded, seeded.lease + 30 * SECOND)
    upkeep = Upkeep(runtime)  # type: ignore[arg-type]
    await upkeep.run()
    runtime.rounds.first_heard.update(dict.fromkeys(runtime.inventory.nodes, runtime.clock))
    runtime.clock += runtime.options.move_lease_us
    await upkeep.run()
    assert (seeded.store.session("s-1").edge, upkeep.rolled_back) == ("linode-fra", 1)
    assert upkeep.backs_off("s-1")  # type: ignore[arg-type]


@pytest.mark.parametrize("silent", ["linode-fra-1", "oracle-fra-1"])
async def test_a_move_stays_while_one_of_its_nodes_is_not_heard_again(seeded: Any, silent: str) -> None:
    """The user may be at the new edge, whose heartbeats find the way to the new process only after half a minute."""
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    runtime = Restarted(seeded, seeded.lease + 30 * SECOND)
    upkeep = Upkeep(runtime)  # type: ignore[arg-type]
    await upkeep.run()
    runtime.rounds.first_heard.update({node: runtime.clock for node in runtime.inventory.nodes if node != silent})
    for _ in range(15):
        runtime.clock += 2 * SECOND
        await upkeep.run()
    runtime.rounds.first_heard[NodeId(silent)] = runtime.clock
    await upkeep.run()
    assert upkeep.rolled_back == 0, "it has just been heard: what it has to tell may be in its next sentence"
    runtime.clock += runtime.options.move_lease_us
    await upkeep.run()
    assert (seeded.store.session("s-1").edge, upkeep.rolled_back) == ("linode-fra", 1)


async def test_a_node_that_is_gone_keeps_no_move_for_ever(seeded: Any) -> None:
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    runtime = Restarted(seeded, seeded.lease + 30 * SECOND)
    upkeep = Upkeep(runtime)  # type: ignore[arg-type]
    for _ in range(31):
        await upkeep.run()
        runtime.clock += 2 * SECOND
    assert upkeep.rolled_back == 1
