"""Keys, scopes and session tokens."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.access import (
    SCOPES,
    KeyRing,
    SessionToken,
    adopt_key,
    mint_key,
    read_session_token,
    revoked,
    scope_allows,
    sign_session_token,
)
from router.core.errors import InputRejected

pytestmark = pytest.mark.unit
NOW = 1_700_000_000_000_000
SECRET = bytes(range(32))


def test_a_minted_key_has_the_documented_form_and_keeps_no_secret() -> None:
    key, text = mint_key("operator", "laptop", NOW)
    found = re.fullmatch(r"tk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", text)
    assert found is not None
    assert found[1] == key.id
    assert len(key.hash) == 32
    assert found[2] not in repr(key)
    assert mint_key("operator", "laptop", NOW)[1] != text


def test_the_ring_knows_its_keys_and_nobody_elses() -> None:
    key, text = mint_key("viewer", "wall screen", NOW)
    other, other_text = mint_key("admin", "me", NOW)
    ring = KeyRing([key])
    assert ring.verify(text) == key
    assert ring.verify(other_text) is None
    assert ring.verify(f"tk_{key.id}_{other_text[16:]}") is None, "the secret of another key"
    assert ring.verify(f"tk_{other.id}_{text[16:]}") is None, "the id of another key"
    ring.add(other)
    assert ring.verify(other_text) == other


@pytest.mark.parametrize("text", ["", "tk_", "tk__", "Bearer x", "tk_é23456789abc_" + "x" * 43, "tk_" + "a" * 12])
def test_text_that_is_no_key_is_nobody(text: str) -> None:
    key, _ = mint_key("viewer", "k", NOW)
    assert KeyRing([key]).verify(text) is None


def test_a_revoked_key_is_worthless_in_a_running_ring_and_in_a_loaded_one() -> None:
    key, text = mint_key("operator", "k", NOW)
    ring = KeyRing([key])
    ring.revoke(key.id)
    assert ring.verify(text) is None
    gone = revoked(key, NOW + 5)
    assert gone.revoked_at == NOW + 5
    assert revoked(gone, NOW + 9) is gone
    assert KeyRing([gone]).verify(text) is None


def test_replacing_forgets_the_older_keys_of_the_same_scope_only() -> None:
    (old, old_text), (new, new_text), (other, other_text) = (
        mint_key(scope, "n", NOW) for scope in ("agent:a-1", "agent:a-1", "agent:a-2")
    )
    ring = KeyRing([old, other])
    ring.replace(new)
    assert ring.verify(old_text) is None
    assert ring.verify(new_text) == new
    assert ring.verify(other_text) == other


def test_a_key_chosen_elsewhere_is_adopted_and_a_malformed_one_refused() -> None:
    _, text = mint_key("admin", "k", NOW)
    assert KeyRing([adopt_key(text, "admin", "from the environment", NOW)]).verify(text) is not None
    with pytest.raises(InputRejected) as refused:
        adopt_key("hunter2", "admin", "k", NOW)
    assert (refused.value.code, refused.value.field) == ("key_invalid", "key")
    assert "hunter2" not in refused.value.message


def test_scopes_are_a_ladder_with_agents_beside_it() -> None:
    for i, held in enumerate(SCOPES):
        for j, needed in enumerate(SCOPES):
            assert scope_allows(held, needed) is (i >= j)
        assert not scope_allows(held, "agent:a-1")
        assert not scope_allows("agent:a-1", held)
    assert scope_allows("agent:a-1", "agent:a-1")
    assert not scope_allows("agent:a-1", "agent:a-2")
    assert not scope_allows("root", "root")


@pytest.mark.parametrize("scope", ["", "root", "agent:", "agent:Not An Id", "agent", "Viewer"])
def test_unknown_scopes_are_refused(scope: str) -> None:
    with pytest.raises(InputRejected) as refused:
        mint_key(scope, "k", NOW)
    assert refused.value.code == "scope_invalid"


def test_a_token_says_what_was_signed_until_it_expires() -> None:
    token = sign_session_token(SECRET, "s-1", 3, NOW + 10)
    assert read_session_token(SECRET, token, NOW) == SessionToken("s-1", 3, NOW + 10)  # type: ignore[arg-type]
    with pytest.raises(InputRejected) as refused:
        read_session_token(SECRET, token, NOW + 10)
    assert refused.value.code == "token_expired"


def test_a_token_of_another_secret_is_invalid() -> None:
    token = sign_session_token(bytes(32), "s-1", 3, NOW + 10)
    with pytest.raises(InputRejected) as refused:
        read_session_token(SECRET, token, NOW)
    assert refused.value.code == "token_invalid"


TOKEN = sign_session_token(SECRET, "s-1", 3, NOW + 10)


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_no_changed_character_passes(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed == TOKEN:
        return
    # The last base64 character carries two unused bits; the text is compared, so even those must match.
    with pytest.raises(InputRejected) as refused:
        read_session_token(SECRET, changed, NOW)
    assert refused.value.code == "token_invalid"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InputRejected):
        read_session_token(SECRET, text, NOW)
    assert KeyRing().verify(text) is None


def test_what_proved_a_key_is_worthless_once_the_ring_has_changed() -> None:
    key, text = mint_key("media", "one", NOW)
    other, _ = mint_key("media", "two", NOW)
    changes: tuple[Callable[[KeyRing], None], ...] = (
        lambda ring: ring.revoke(key.id),
        lambda ring: ring.add(revoked(key, NOW)),
        lambda ring: ring.replace(other),
    )
    for change in changes:
        ring = KeyRing([key])
        ring.remember(text.encode(), key)
        assert ring.proven(text.encode()) is key and ring.proven(b"another") is None
        change(ring)
        assert ring.proven(text.encode()) is None
        ring.remember(b"another", other)
        assert ring.proven(text.encode()) is None and ring.proven(b"another") is other
