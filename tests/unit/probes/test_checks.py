"""Checks of a plan: probes over relays, end to end, counted and told; and what a plan and a report may say of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from relay_world import HOSTS, until
from test_relay_with_reflex import plan_of, probers_of

from probes.sockets import monotonic_us
from probes.wire import CheckResult, PlanCheck, ProbePlan, ProbeReport, WireError, decode_plan, decode_report, encode


def check_over(plan: ProbePlan, *nodes: str, name: str = "through/dc-a/dc-a/dc-t") -> PlanCheck:
    hops = [next(peer for peer in plan.peers if peer.node == node) for node in nodes]
    hosts, ports = tuple(hop.host for hop in hops), tuple(hop.relay_port for hop in hops)
    return PlanCheck(name, hosts, ports, hops[-1].reflector_port, 20_000)


async def test_a_path_over_two_relays_is_tried_and_a_silent_relay_is_told_as_loss() -> None:
    async with probers_of(9) as probers:
        s, a, plan = probers["s"], probers["a"], plan_of("s", probers)
        assert a.relay is not None
        await s.follow(replace(plan, timeout_us=100_000, checks=(check_over(plan, "a", "t"),)))
        told: list[CheckResult] = []

        def more() -> list[CheckResult]:
            told.extend(s.checks.end_interval(monotonic_us()))
            return told

        await until(lambda: sum(one.received for one in more()) >= 10)
        assert {one.name for one in told} == {"through/dc-a/dc-a/dc-t"}
        assert all(one.rtt_min_us > 0 for one in told if one.received)
        assert a.relay.counters["forwarded"] >= 10, "they really go over the relay"
        a.relay.follow("a", "", [])  # it drops everything from now on, and says nothing
        await until(lambda: more()[-1].received == 0 and told[-1].sent > 0)
        assert told[-1].rtt_min_us == -1
        await s.follow(plan)
        s.checks.end_interval(monotonic_us())
        assert s.checks.next_at() is None and not s.checks.targets


def test_plans_and_reports_carry_checks_and_none_where_there_are_none() -> None:
    check = PlanCheck("through/n/n/b", (HOSTS[0], HOSTS[1]), (7, 8), 9, 2_000_000)
    plan = ProbePlan("a", "dc", 1, 0, 1, 1_000_000, 1_000_000, checks=(check,))
    assert decode_plan(json.loads(json.dumps(encode(plan)))) == plan
    report = ProbeReport("a", "b", 1, 1, 0, 1, checks=(CheckResult("through/n/n/b", 3, 2, 500),))
    assert decode_report(json.loads(json.dumps(encode(report)))) == report
    assert "checks" not in encode(replace(plan, checks=())) and "checks" not in encode(replace(report, checks=()))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hosts": []}, "checks[0].hosts"),
        ({"hosts": ["a"]}, "checks[0].hosts"),
        ({"ports": [0, 1]}, "checks[0].ports[0]"),
        ({"ports": [1] * 5}, "checks[0].ports"),
        ({"name": ""}, "checks[0].name"),
        ({"interval_us": 0}, "checks[0].interval_us"),
        ({"more": 1}, "checks[0].more"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_by_name(change: dict[str, object], field: str) -> None:
    plan = ProbePlan("a", "dc", 1, 0, 1, 1_000_000, 1_000_000, checks=(PlanCheck("c", ("h", "i"), (7, 8), 9, 1_000),))
    data = json.loads(json.dumps(encode(plan)))
    data["checks"][0] |= change
    with pytest.raises(WireError) as refused:
        decode_plan(data)
    assert refused.value.field == field


@pytest.mark.parametrize("change", [{"received": 4}, {"rtt_min_us": -1}, {"sent": -1}, {"received": 0}])
def test_a_result_that_contradicts_itself_is_refused(change: dict[str, int]) -> None:
    data = json.loads(json.dumps(encode(ProbeReport("a", "b", 1, 1, 0, 1, checks=(CheckResult("c", 3, 2, 500),)))))
    data["checks"][0] |= change
    with pytest.raises(WireError):
        decode_report(data)
