"""What a scenario expects of its users' sessions, and of what its operators did."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.core.model import DataCenterId, Micros
from router.sim.actions import Do
from router.sim.engine import START
from router.sim.scenario import Expectation
from router.sim.simulation import Simulation
from router.sim.users import FIRST_AT_S, RUSH_S, Sample, Users

SETTLED_US = START + round((FIRST_AT_S + RUSH_S + 10) * 1e6)  # the crowd of the start has come
Said = tuple[bool, str]


def judge(sim: Simulation, expectation: Expectation) -> Said:
    """Whether it was met, and what was measured."""
    if expectation.name == "action":
        return _action(sim, expectation)
    if sim.users is None:
        return False, "there are no users in this scenario"
    return JUDGES[expectation.name](sim, sim.users, expectation)


def _action(sim: Simulation, expectation: Expectation) -> Said:
    wanted = str(expectation.options.get("refused", ""))
    for outcome in sim.operator.outcomes:
        if outcome.id == expectation.value:
            return outcome.code == wanted, f"{outcome.code or 'done'}: {outcome.text}"
    return False, "it never happened"


def _span(sim: Simulation, expectation: Expectation) -> tuple[Micros, Micros]:
    fault = expectation.options.get("fault")
    began = START if fault is None else sim.faults.since.get(str(fault), sim.engine.now)
    start = began + round(float(expectation.options.get("after_s", 0.0)) * 1e6)
    length = expectation.options.get("for_s")
    return start, sim.engine.now if length is None else start + round(float(length) * 1e6)


def _placed(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    start, end = _span(sim, expectation)
    asked = [given for at, given in users.asked if start <= at <= end]
    if not asked:
        return False, "nobody asked"
    share = 100 * sum(asked) / len(asked)
    return share >= float(expectation.value), f"{share:.2f} % of {len(asked)}"


def _scope(sim: Simulation, expectation: Expectation) -> tuple[Micros, Micros, tuple[DataCenterId, ...]]:
    """Start, end and targets of what an expectation names."""
    named = expectation.options.get("fault")
    if named is not None:
        id = str(named)
        return sim.faults.since.get(id, 0), sim.faults.until.get(id, sim.engine.now), sim.faults.targets.get(id, ())
    id = str(expectation.options["action"])
    ended = [o.at for o in sim.operator.outcomes if o.do is Do.UNDO and not o.code and sim.operator.opened(o.id) == id]
    return sim.operator.since.get(id, 0), min(ended, default=sim.engine.now), sim.operator.targets.get(id, ())


def _no_new(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    began, ended, targets = _scope(sim, expectation)
    late = [p.at for p in users.placed if p.data_center in targets and began <= p.at < ended]
    last_s = (max(late) - began) / 1e6 if late else 0.0
    return bool(targets) and last_s <= float(expectation.value), f"the last one {last_s:.2f} s after the start"


def _vacated(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    began, _, targets = _scope(sim, expectation)
    empty = [at for at, counts in users.placed_at if at >= began and not any(counts.get(dc, 0) for dc in targets)]
    if not targets or not empty:
        return False, "sessions were left until the end"
    after_s = (min(empty) - began) / 1e6
    return after_s <= float(expectation.value), f"after {after_s:.1f} s"


def _share(sample: Sample) -> float:
    everybody = sample.talking + sample.silent + sample.away
    return 100 * sample.talking / everybody if everybody else 100.0


def _talking(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    start, end = _span(sim, expectation)
    seen = [sample for sample in users.samples if max(start, SETTLED_US) <= sample.at <= end]
    if not seen:
        return False, "there was no second to look at"
    worst = min(seen, key=lambda sample: (_share(sample), sample.at))
    return _share(worst) >= float(
        expectation.value
    ), f"at worst {_share(worst):.2f} % at {(worst.at - START) / 1e6:g} s"


def _healed(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    id = str(expectation.options["fault"])
    over = sim.faults.until.get(id)
    if over is None:
        return False, "the fault was not over before the run was"
    following = min((at for at in sim.faults.since.values() if at > over), default=sim.engine.now + 1)
    allowed = float(expectation.options.get("share_percent", 0.0))
    ill = [s.at for s in users.samples if over <= s.at < following and 100 - _share(s) > allowed]
    if not ill:
        return True, "at once"
    last_s = (max(ill) - over) / 1e6 + 1
    return last_s <= float(expectation.value), f"after {last_s:.0f} s"


def _placed_again(sim: Simulation, users: Users, expectation: Expectation) -> Said:
    id = str(expectation.options["fault"])
    over, targets = sim.faults.until.get(id), sim.faults.targets.get(id, ())
    if over is None:
        return False, "the fault was not over before the run was"
    first = {dc: p.at for p in reversed(users.placed) for dc in (p.data_center,) if dc in targets and p.at >= over}
    missing = [dc for dc in targets if dc not in first]
    if missing or not first:
        return False, f"nobody was placed at {', '.join(missing) or 'it'}"
    after_s = (max(first.values()) - over) / 1e6
    return after_s <= float(expectation.value), f"after {after_s:.1f} s"


JUDGES: Mapping[str, Callable[[Simulation, Users, Expectation], Said]] = {
    "placed_percent": _placed,
    "no_new_within_s": _no_new,
    "vacated_within_s": _vacated,
    "talking_percent": _talking,
    "healed_within_s": _healed,
    "placed_again_within_s": _placed_again,
}
