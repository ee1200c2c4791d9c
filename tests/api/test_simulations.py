"""What-if questions over HTTP: answers, refusals with field and limit, who may ask, and how many at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from router import solver
from router.core.errors import Unavailable
from router.core.tables import View
from router.core.whatif import Outcome, WhatIf, simulate
from router.solver import Simulations
from tests.api.conftest import PLACES, World, fleet

PATH = "/v1/simulations"


async def test_removing_and_adding_says_what_happens_and_does_nothing(world: World) -> None:
    await world.agent()
    edge = (await world.session())["edge"]["data_center"]
    viewer = await world.key("viewer")
    found = await world.call(
        "POST", PATH, status=200, headers=viewer, json={
            "remove": [f"data_center={edge}", "linode-fra:oracle-iad", {"from": "gcp-ams", "to": "oracle-iad"}],
            "add": [{"id": "vultr-lhr", "provider": "vultr", "region": "london", "capacity": {"sessions": 200}}],
        },
    )  # fmt: skip
    assert found["removed"]["data_centers"] == [edge] and found["generation"] > 0 and found["age_ms"] >= 0
    assert found["removed"]["links"] == [
        {"from": "gcp-ams", "to": "oracle-iad"},
        {"from": "linode-fra", "to": "oracle-iad"},
    ]
    (newcomer,) = found["added"]
    assert newcomer["position_from"].startswith("catalogue: vultr") and newcomer["links"] == len(PLACES) - 1
    assert newcomer["nearest"][0]["low_ms"] <= newcomer["nearest"][0]["delay_ms"] <= newcomer["nearest"][0]["high_ms"]
    assert found["sessions"]["to_move"] == 1
    assert sum(shift["sessions"] for shift in found["sessions"]["shifts"]) == 1
    changes = {dc["id"]: dc["change"] for dc in found["data_centers"]}
    assert changes == {**dict.fromkeys(PLACES, "kept"), edge: "removed", "vultr-lhr": "added"}
    classes = [(effect["class"], effect["policy"]) for effect in found["routes"]]
    assert classes == [(name, None) for name in ("voice", "agent", "video", "bulk")]
    assert found["summary"].startswith("1 of 1 sessions would move")
    assert (await world.get(f"/v1/data-centers/{edge}"))["intent"] == "serving"
    assert "vultr-lhr" not in {dc["id"] for dc in (await world.get("/v1/data-centers"))["items"]}


async def test_the_worst_pair_is_named_with_both_paths(world: World) -> None:
    """Without Amsterdam Frankfurt reaches Ashburn directly: 60 ms instead of 40."""
    found = await world.post(PATH, {"remove": [{"provider": "gcp"}], "named": 1})
    voice = found["routes"][0]
    (worst,) = voice["worst"]
    assert {worst["from"], worst["to"]} == {"linode-fra", "oracle-iad"}
    assert worst["before_path"] == [worst["from"], "gcp-ams", worst["to"]]
    assert worst["after_path"] == [worst["from"], worst["to"]]
    assert worst["delta_ms"] == pytest.approx(20, abs=0.5) and voice["growth_ms"]["max"] == worst["delta_ms"]
    assert (voice["pairs"], voice["rerouted"], voice["slower"], voice["lost"]) == (6, 4, 4, 0)  # Singapore: by 1 ms


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"remove": ["provider=nobody"]}, 422, "selector_matches_nothing", "remove.0"),
    ({"remove": ["linode-fra:nowhere"]}, 404, "unknown_data_center", "remove.0"),
    ({"remove": ["linode-fra:linode-fra"]}, 422, "same_data_center", "remove.0"),
    ({"remove": ["a:b:c"]}, 422, "invalid_field", "body"),
    ({"remove": ["planet=mars"]}, 422, "invalid_field", "body"),
    ({"remove": [{}]}, 422, "invalid_field", "remove.0"),
    ({"remove": ["provider=gcp"] * 65}, 422, "invalid_field", "remove"),
    ({"add": [{"id": "gcp-ams", "provider": "gcp", "region": "amsterdam"}]}, 409, "data_center_exists", "add.0.id"),
    ({"add": [{"id": "x", "provider": "x", "region": "atlantis"}]}, 422, "position_unknown", "add.0.latitude"),
    ({"add": [{"id": "x", "provider": "x", "region": "x", "latitude": 1.0}]}, 422, "invalid_field", "add.0"),
    ({"named": 101}, 422, "invalid_field", "named"),
    ({"subtract": []}, 422, "unknown_field", "subtract"),
]


async def test_what_cannot_be_asked_is_refused_with_its_place(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    for body, status, code, field in REFUSED:
        told = await bare.call("POST", PATH, status=status, json=body)
        assert (told["code"], told["field"]) == (code, field), (body, told)
    assert (await bare.call("POST", PATH, status=401, json={}, headers={"Authorization": ""}))[
        "code"
    ] == "key_malformed"
    media = await bare.key("agent:nobody-1")
    assert (await bare.call("POST", PATH, status=403, json={}, headers=media))["code"] == "scope_insufficient"


async def test_an_empty_world_and_an_empty_question_have_answers(bare: World) -> None:
    found = await bare.post(PATH, {})
    assert found["routes"] == [] or all(effect["pairs"] == 0 for effect in found["routes"])
    assert found["data_centers"] == [] and found["headroom"]["now_pct"] is None
    added = await bare.post(PATH, {"add": [{"id": "own-1", "provider": "own", "region": "singapore"}]})
    assert [dc["change"] for dc in added["data_centers"]] == ["added"]


async def test_only_so_many_are_worked_on_at_once(bare: World, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def slow(view: View, asked: WhatIf) -> Outcome:
        assert go.wait(20)
        return simulate(view, asked)

    monkeypatch.setattr(solver, "simulate", slow)
    waiting = [asyncio.ensure_future(bare.post(PATH, {})) for _ in range(solver.SIMULATIONS)]
    told: Any = None
    while told is None or told.status_code == 200:
        told = await bare.http.post(PATH, json={}) if all(map(_started, waiting)) and _busy(bare) else None
        await asyncio.sleep(0)
    assert told.status_code == 503 and told.json()["code"] == "simulations_busy"
    assert told.headers["Retry-After"] == "1" and "the limit is 2" in told.json()["detail"]
    go.set()
    assert all(answer["summary"] for answer in await asyncio.gather(*waiting))
    assert (await bare.post(PATH, {}))["summary"]


def _started(task: asyncio.Future[Any]) -> bool:
    return not task.done()


def _busy(bare: World) -> bool:
    return len(bare.app.simulations._running) == solver.SIMULATIONS


async def test_who_waits_too_long_is_told_and_the_place_stays_taken_until_the_thread_is_done(
    bare: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(view: View, asked: WhatIf) -> Outcome:
        assert go.wait(20)
        return simulate(view, asked)

    monkeypatch.setattr(solver, "simulate", slow)
    desk = Simulations(at_once=1, deadline_s=0.01)
    with pytest.raises(Unavailable) as late:
        await desk.ask(bare.app.runtime.view, WhatIf())
    assert (late.value.code, late.value.retry_after_s) == ("simulation_too_slow", 5)
    with pytest.raises(Unavailable) as busy:
        await desk.ask(bare.app.runtime.view, WhatIf())
    assert busy.value.code == "simulations_busy"
    go.set()
    while desk._running:
        await asyncio.sleep(0.001)
    desk.close()
