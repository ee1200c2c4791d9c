"""Join tokens: looked up, asked for again, revoked; and what a node may change about itself by joining."""

from __future__ import annotations

from tests.api.conftest import World, fleet, node_body

TOKENS = "/v1/data-centers/gcp-ams/join-tokens"


async def made(world: World, key: str | None = None, expires_in_s: int = 60) -> dict[str, str]:
    headers = {} if key is None else {"Idempotency-Key": key}
    return dict(await world.post(TOKENS, {"expires_in_s": expires_in_s}, headers=headers))


async def joins(world: World, token: str, status: int = 201, node: str = "ams-1") -> dict[str, str]:
    body = {"token": token, "node": node_body(node)}
    return dict(await world.call("POST", "/v1/join", status=status, json=body))


async def test_a_token_tells_its_state_and_never_its_secret(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    token = await made(bare)
    path = f"/v1/join-tokens/{token['id']}"
    assert (await bare.get(path)) == {name: token[name] for name in token if name != "token"}
    assert token["state"] == "unused"
    await joins(bare, token["token"])
    used = await bare.get(path)
    assert (used["state"], used["used_by"]) == ("used", "ams-1") and used["used_at"] is not None
    listed = await bare.get(TOKENS)
    assert listed["items"] == [used] and token["token"] not in str(listed)


async def test_the_same_key_gives_the_same_token_until_it_is_spent(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    first, again, other = await made(bare, "a"), await made(bare, "a"), await made(bare, "b")
    assert first == again and other["id"] != first["id"]
    assert len((await bare.get(TOKENS))["items"]) == 2
    await joins(bare, again["token"])
    third = await made(bare, "a")
    assert third["id"] != first["id"]
    assert (await joins(bare, first["token"], 403))["code"] == "token_used"
    await bare.call("DELETE", f"/v1/join-tokens/{third['id']}")
    assert (await made(bare, "a"))["id"] not in (first["id"], third["id"])


async def test_another_callers_key_is_another_key(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    mine = await made(bare, "a")
    theirs = await bare.post(TOKENS, {}, headers={"Idempotency-Key": "a", **await bare.key("operator")})
    assert theirs["id"] != mine["id"]


async def test_a_revoked_token_joins_nobody_and_revoking_again_changes_nothing(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    token = await made(bare)
    for _ in range(2):
        await bare.call("DELETE", f"/v1/join-tokens/{token['id']}", status=204)
        assert (await bare.get(f"/v1/join-tokens/{token['id']}"))["state"] == "revoked"
    assert (await joins(bare, token["token"], 403))["code"] == "token_revoked"
    events = (await bare.get("/v1/events"))["items"]
    assert [event["kind"] for event in events].count("join_token.revoked") == 1


async def test_revoking_a_used_token_leaves_it_used(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    token = await made(bare)
    await joins(bare, token["token"])
    await bare.call("DELETE", f"/v1/join-tokens/{token['id']}", status=204)
    assert (await bare.get(f"/v1/join-tokens/{token['id']}"))["state"] == "used"


async def test_unknown_tokens(bare: World) -> None:
    for id in ("jt-" + "0" * 24, "jt-00", "nothing"):
        for method in ("GET", "DELETE"):
            assert (await bare.call(method, f"/v1/join-tokens/{id}", status=404))["code"] == "unknown_join_token"


async def test_labels_that_an_operator_gave_a_node_stay_when_it_joins(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    await bare.put("/v1/nodes/ams-1", {"data_center": "gcp-ams", "labels": {"managed_by": "terraform", "rack": "7"}})
    body = node_body("ams-1") | {"labels": {"rack": "8", "kernel": "6.1"}}
    await bare.call("POST", "/v1/join", status=201, json={"token": (await made(bare))["token"], "node": body})
    node = await bare.get("/v1/nodes/ams-1")
    assert node["labels"] == {"kernel": "6.1", "managed_by": "terraform", "rack": "7"}
    assert node["addresses"] == {"internet": "127.0.0.9"}


async def test_the_address_that_an_operator_manages_outlives_joining(bare: World) -> None:
    """A machine behind address translation says another address than the one that others reach it at."""
    await bare.post("/v1/fleet", fleet())
    for node, labels, kept in (("a", {"managed_by": "terraform"}, "203.0.113.9"), ("b", {}, "127.0.0.9")):
        declared = {"data_center": "gcp-ams", "labels": labels, "addresses": {"internet": "203.0.113.9"}}
        await bare.put(f"/v1/nodes/{node}", declared)
        await joins(bare, (await made(bare))["token"], node=node)
        assert (await bare.get(f"/v1/nodes/{node}"))["addresses"] == {"internet": kept}
