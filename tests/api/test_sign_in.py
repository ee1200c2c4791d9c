"""Signing in with a key gives a cookie that expires, that another site cannot use, and that ends with its key."""

from __future__ import annotations

import pytest

from router.api.browsers import COOKIE, LONGEST_S, SESSION_S, begin, cookie_text, read_cookie
from router.core.errors import InputRejected
from tests.api.conftest import ADMIN_KEY, World

HOUR_US = 3_600_000_000
SECRET = b"s" * 32


async def signed_in(world: World, key: str = ADMIN_KEY) -> dict[str, str]:
    """Sign the client in, drop its bearer key, and return the header that lets it change things."""
    answer = await world.http.post("/v1/sign-in", json={"key": key}, headers={"Authorization": ""})
    assert answer.status_code == 200, answer.text
    world.http.headers.pop("Authorization", None)
    return {"X-Tendril-CSRF": answer.json()["csrf_token"]}


async def test_the_cookie_reads_and_with_its_token_writes(bare: World) -> None:
    signed = await bare.http.post("/v1/sign-in", json={"key": ADMIN_KEY}, headers={"Authorization": ""})
    who = signed.json()
    assert (who["scope"], who["name"]) == ("admin", "TENDRIL_ADMIN_KEY")
    cookie = signed.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert SESSION_S - 60 <= int(cookie.split("Max-Age=")[1].split(";")[0]) <= SESSION_S and "Path=/" in cookie
    assert ADMIN_KEY not in cookie
    del bare.http.headers["Authorization"]  # from here on the cookie of the client's jar
    await bare.get("/v1/providers")
    refused = await bare.call("PUT", "/v1/providers/x", status=403, json={})
    assert (refused["code"], refused["field"]) == ("csrf_header_missing", "X-Tendril-CSRF")
    wrong = {"X-Tendril-CSRF": "x" * 43}
    assert (await bare.call("PUT", "/v1/providers/x", status=403, json={}, headers=wrong))["code"] == "csrf_token_wrong"
    await bare.put("/v1/providers/x", {}, headers={"X-Tendril-CSRF": who["csrf_token"]})


async def test_the_token_of_one_sign_in_is_worthless_in_another(bare: World) -> None:
    mine = await signed_in(bare)
    bare.http.cookies.clear()
    await signed_in(bare)
    assert (await bare.call("PUT", "/v1/providers/x", status=403, json={}, headers=mine))["code"] == "csrf_token_wrong"


async def test_asking_who_one_is_renews_the_cookie_and_keeps_the_token(bare: World) -> None:
    mine = await signed_in(bare)
    again = await bare.http.get("/v1/sign-in")
    assert again.json()["csrf_token"] == mine["X-Tendril-CSRF"]
    assert COOKIE in again.headers["Set-Cookie"] and again.headers["cache-control"] == "no-store"


async def test_by_bearer_key_there_is_nothing_to_renew(bare: World) -> None:
    answer = await bare.http.get("/v1/sign-in")
    assert (answer.json()["expires_at"], answer.json()["csrf_token"]) == (None, None)
    assert "Set-Cookie" not in answer.headers


async def test_signing_out_ends_it_even_for_who_kept_the_cookie(bare: World) -> None:
    mine = await signed_in(bare)
    kept = bare.http.cookies[COOKIE]
    assert (await bare.call("DELETE", "/v1/sign-in", status=403))["code"] == "csrf_header_missing"
    await bare.call("DELETE", "/v1/sign-in", status=204, headers=mine)
    assert COOKIE not in bare.http.cookies
    refused = await bare.call("GET", "/v1/providers", status=401, headers={"Cookie": f"{COOKIE}={kept}"})
    assert refused["code"] == "sign_in_expired"
    await bare.call("DELETE", "/v1/sign-in", status=204)  # nothing left to end


async def test_revoking_the_key_ends_its_sign_ins(bare: World) -> None:
    admin = bare.http.headers["Authorization"]
    made = await bare.post("/v1/keys", {"scope": "operator", "name": "on call"})
    await signed_in(bare, made["key"])
    await bare.get("/v1/providers")
    await bare.call("DELETE", f"/v1/keys/{made['id']}", status=204, headers={"Authorization": admin})
    assert (await bare.call("GET", "/v1/providers", status=401))["code"] == "key_invalid"


async def test_a_sign_in_may_do_what_its_key_may(bare: World) -> None:
    made = await bare.post("/v1/keys", {"scope": "viewer", "name": "wall screen"})
    mine = await signed_in(bare, made["key"])
    assert (await bare.get("/v1/sign-in"))["scope"] == "viewer"
    refused = await bare.call("PUT", "/v1/providers/x", status=403, json={}, headers=mine)
    assert refused["code"] == "scope_insufficient"


async def test_a_nodes_key_does_not_sign_in(bare: World) -> None:
    made = await bare.post("/v1/keys", {"scope": "agent:n1", "name": "n1"})
    refused = await bare.call("POST", "/v1/sign-in", status=403, json={"key": made["key"]})
    assert refused["code"] == "scope_insufficient"


async def test_signing_in_with_a_wrong_key_is_401(bare: World) -> None:
    refused = await bare.call("POST", "/v1/sign-in", status=401, json={"key": "tk_wrong"})
    assert refused["code"] == "key_invalid" and "tk_wrong" not in str(refused)


@pytest.mark.parametrize("text", ["", "x", "tk_0123", "0" * 12 + "." + "n" * 22 + ".0.99999999999999." + "m" * 43])
async def test_a_forged_cookie_is_refused(bare: World, text: str) -> None:
    del bare.http.headers["Authorization"]
    refused = await bare.call("GET", "/v1/providers", status=401, headers={"Cookie": f"{COOKIE}={text}"})
    assert refused["code"] == "sign_in_invalid"


def test_it_expires_and_no_renewal_makes_it_last_longer_than_a_week() -> None:
    session = begin("0" * 12, 0)
    text = cookie_text(SECRET, session)
    assert read_cookie(SECRET, text, SESSION_S * 1_000_000 - 1) == session
    with pytest.raises(InputRejected, match="expired 3600 s ago"):
        read_cookie(SECRET, text, SESSION_S * 1_000_000 + HOUR_US)
    now = 0
    while session.expires_at > now:
        now += 11 * HOUR_US
        session = session.renewed(now)
    assert session.expires_at == LONGEST_S * 1_000_000


def test_another_secret_reads_nothing() -> None:
    with pytest.raises(InputRejected) as refused:
        read_cookie(b"t" * 32, cookie_text(SECRET, begin("0" * 12, 0)), 1)
    assert refused.value.code == "sign_in_invalid"
