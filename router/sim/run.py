"""Running scenarios and replaying them: ``run(name, seed)``, ``replay(file)``, ``scenarios()``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from router.core.errors import InputRejected
from router.core.plane import ControlPlane
from router.runtime import recorder
from router.sim.clouds import Provision
from router.sim.engine import START
from router.sim.expectations import Verdict, Watch
from router.sim.faults import Kind, rejected
from router.sim.scenario import WAITS_FOR, Expectation, Scenario, WorldSpec, load, parse, shipped
from router.sim.series import load_series
from router.sim.simulation import Recorder, Simulation
from router.sim.world import World
from router.sim.worlds import Clocks, asymmetric_world, make_world, matrix_world, series_world

PROGRESS_STEPS = 20
Progress = Callable[[float, int], None]  # share of the run that is done, violations so far


def scenarios() -> list[dict[str, object]]:
    """The shipped scenarios."""
    found = [load(name) for name in shipped()]
    return [{"name": s.name, "duration_s": s.duration_us // 1_000_000, "about": s.about} for s in found]


def run(
    name: str, seed: int | None = None, *, progress: Progress | None = None, record: Path | None = None
) -> dict[str, object]:
    """Play a shipped scenario or a file; ``record`` is a folder for a flight recorder's files.

    Raises ``unknown_scenario`` and ``bad_scenario``. The outcome is the same for the same scenario and seed.
    """
    scenario = load(name)
    flight = None if record is None else recorder.FlightRecorder(record)
    try:
        return play(scenario, scenario.seed if seed is None else seed, progress=progress, flight=flight)
    finally:
        if flight is not None:
            flight.close()


def play(
    scenario: Scenario, seed: int, *, progress: Progress | None = None, flight: Recorder | None = None
) -> dict[str, object]:
    """Play a checked scenario."""
    if flight is not None and any(fault.kind is Kind.RESTART for fault in scenario.faults):
        raise rejected("record", "a recording is of one process; a scenario with a restart has several")
    sim = _simulation(scenario, seed, flight)
    watch = Watch(sim, scenario.expect)
    _let_run(sim, scenario, progress)
    judged = [e for e in scenario.expect if e.name != "digest_stable"]
    verdicts = [watch.judge(e) for e in judged]
    expected = [_told(v, e) for v, e in zip(verdicts, judged, strict=True)]
    if any(e.name == "digest_stable" for e in scenario.expect):
        again = _simulation(scenario, seed, None)
        Watch(again, scenario.expect)
        _let_run(again, scenario, None)
        same = again.digest == sim.digest
        said = "the same digest twice" if same else f"{sim.digest.hex()[:12]} and {again.digest.hex()[:12]}"
        expected.append({"expect": "digest_stable: true", "met": same, "measured": said})
    unmet = [text for e in expected if (text := _unmet(e))]
    return {
        "scenario": scenario.name,
        "seed": seed,
        "digest": sim.digest.hex(),
        "inputs": sim.inputs,
        "generations": sim.published,
        "moves": len(sim.moves),
        "counters": dict(sorted((name, count) for name, count in sim.counts.items() if count)),
        "actions": [
            {"id": o.id, "do": o.do.value, "at_s": (o.at - START) / 1e6, "refused": o.code, "outcome": o.text}
            for o in sim.operator.outcomes
        ],
        "events": [
            {"at_us": e.at, "at_s": (e.at - START) / 1e6, "kind": e.kind, "subject": e.subject, "reason": e.reason}
            for e in sim.events
        ],
        "expectations": expected,
        "violations": sim.violations + unmet,
        "source": _plain(scenario),
    }


def _told(verdict: Verdict, expectation: Expectation) -> dict[str, object]:
    told: dict[str, object] = {"expect": verdict.expectation, "met": verdict.met, "measured": verdict.measured}
    waits_for = expectation.options.get(WAITS_FOR)
    return told if waits_for is None else told | {"waits_for": waits_for}


def _unmet(told: Mapping[str, object]) -> str:
    """What is wrong with an expectation; one that waits for something is to be unmet, so that nobody forgets it."""
    if "waits_for" in told:
        return f"met already, and need not wait for {told['waits_for']}: {told['expect']}" if told["met"] else ""
    return "" if told["met"] else f"not met: {told['expect']} ({told['measured']})"


def _simulation(scenario: Scenario, seed: int, flight: Recorder | None) -> Simulation:
    world = build_world(scenario.world, seed)
    crowd = scenario.crowd
    buys = crowd is not None and crowd.cold_start_s
    provision = Provision(cold_start_us=round(crowd.cold_start_s * 1e6)) if crowd is not None and buys else None
    plane = None if provision is None else ControlPlane(buying=provision.buying(world.inventory))
    return Simulation(
        world, seed, plane, scenario.faults, flight, actions=scenario.actions, crowd=crowd, provision=provision
    )


def build_world(spec: WorldSpec, seed: int) -> World:
    """The world that a scenario describes. Raises ``bad_scenario``, ``bad_matrix`` and ``bad_series``."""
    clocks = Clocks(round(spec.number("clock_offset_ms") * 1_000), round(spec.number("clock_drift_ppm")))
    size, nodes = int(spec.number("data_centers")), int(spec.number("nodes"))
    limit = size if "data_centers" in spec.numbers else None
    asymmetry = spec.number("asymmetry_percent") / 100
    match spec.kind:
        case "model":
            world = make_world(size, nodes, seed, clocks)
        case "asymmetric":
            world = asymmetric_world(size, nodes, seed, clocks)
        case "matrix":
            path = spec.file or Path()
            world = matrix_world(path, nodes, seed, limit=limit, asymmetry=asymmetry, clocks=clocks)
        case _:
            series = load_series(spec.file or Path())
            world = series_world(
                series, spec.number("slice_s"), nodes, seed, limit=limit, asymmetry=asymmetry, clocks=clocks
            )
    world.jitter_us = round(spec.number("jitter_ms") * 1_000)
    world.loss = spec.number("loss_percent") / 100
    return world


def replay(path: str) -> dict[str, object]:
    """Replay a flight recorder segment, or play a saved run again and compare. Raises ``unreadable_flight_file``."""
    try:
        if Path(path).read_bytes()[:1] == b"{":
            return _again(Path(path))
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


def _again(path: Path) -> dict[str, object]:
    """Play the run that ``tendril sim run -o json`` printed; its scenario is in it."""
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = [name for name in ("source", "seed", "digest") if name not in saved]
    if missing:
        raise ValueError(f"{path} is JSON but not the outcome of a run: {missing[0]} is missing")
    done = play(parse(saved["source"], None), int(saved["seed"]))
    same = done["digest"] == saved["digest"]
    return {
        "scenario": done["scenario"],
        "seed": done["seed"],
        "inputs": done["inputs"],
        "digest": done["digest"],
        "recorded_digest": saved["digest"],
        "same": same,
        "diverged_at": None if same else "unknown",
        "violations": done["violations"],
    }


def _let_run(sim: Simulation, scenario: Scenario, progress: Progress | None) -> None:
    for step in range(1, PROGRESS_STEPS + 1):
        sim.engine.run_until(START + scenario.duration_us * step // PROGRESS_STEPS)
        if progress is not None:
            progress(step / PROGRESS_STEPS, len(sim.violations))


def _plain(scenario: Scenario) -> dict[str, Any]:
    """The document with the place of its measured file made absolute, so that the run can be played from anywhere."""
    document = json.loads(json.dumps(scenario.source))
    if scenario.world.file is not None:
        document["world"]["file"] = str(scenario.world.file.absolute())
    return document  # type: ignore[no-any-return]
