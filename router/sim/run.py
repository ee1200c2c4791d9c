"""Named scenarios, and running them: ``run(name, seed)``, ``replay(flight file)``, ``scenarios()``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from router.core.errors import InputRejected
from router.core.model import DataCenterId
from router.runtime import recorder
from router.sim.simulation import Simulation
from router.sim.world import make_world


def calm(sim: Simulation) -> None:
    """Ninety quiet seconds."""
    sim.run(90)


def blackhole(sim: Simulation) -> None:
    """A data center disappears for twenty seconds and comes back."""
    victim = _victim(sim)
    sim.run(30)
    sim.world.blackhole(victim, True)
    sim.run(20)
    sim.world.blackhole(victim, False)
    sim.run(60)


def brownout(sim: Simulation) -> None:
    """All links of a data center grow 80 ms slower for a minute."""
    victim = _victim(sim)
    sim.run(30)
    for pair in sim.world.delay_us:
        if victim in pair:
            sim.world.extra_us[pair] = 80_000
    sim.run(60)
    sim.world.extra_us.clear()
    sim.run(60)


def drain(sim: Simulation) -> None:
    """An operator drains a data center and undoes it."""
    sim.run(30)
    id = sim.drain(_victim(sim))
    sim.run(20)
    sim.undo(id)
    sim.run(30)


SCENARIOS: dict[str, Callable[[Simulation], None]] = {
    "calm": calm,
    "blackhole": blackhole,
    "brownout": brownout,
    "drain": drain,
}
SIZE, NODES = 6, 2


def _victim(sim: Simulation) -> DataCenterId:
    return sorted(sim.world.inventory.data_centers)[1]


def scenarios() -> list[dict[str, object]]:
    """What there is to run."""
    return [{"name": name, "about": (play.__doc__ or "").strip()} for name, play in SCENARIOS.items()]


def run(name: str, seed: int) -> dict[str, object]:
    """Play a scenario. Raises ``unknown_scenario``."""
    play = SCENARIOS.get(name)
    if play is None:
        raise InputRejected(
            "unknown_scenario", f"there is no scenario {name}", field="scenario", rule="one of " + ", ".join(SCENARIOS)
        )
    sim = Simulation(make_world(SIZE, NODES, seed), seed)
    play(sim)
    return {
        "scenario": name,
        "seed": seed,
        "digest": sim.digest.hex(),
        "inputs": len(sim.inputs),
        "generations": sim.published,
        "events": [{"at_us": e.at, "kind": e.kind, "subject": e.subject, "reason": e.reason} for e in sim.events],
        "violations": sim.violations,
    }


def replay(path: str) -> dict[str, object]:
    """Replay a flight recorder segment. Raises ``unreadable_flight_file``."""
    try:
        done = recorder.replay(Path(path))
    except (OSError, ValueError) as error:
        raise InputRejected("unreadable_flight_file", str(error), field="file") from error
    return {
        "inputs": done.inputs,
        "digest": done.digest,
        "recorded_digest": done.recorded_digest,
        "same": done.diverged_at is None,
        "diverged_at": done.diverged_at,
        "generation": done.generation,
    }
