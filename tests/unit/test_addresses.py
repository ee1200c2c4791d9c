"""Whose addresses are: nested ranges, forms, bad files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.addresses import NOBODY, AddressBook, _disjoint, is_shared
from router.core.errors import InputRejected
from router.core.model import Client


def test_the_narrowest_range_counts(tmp_path: Path) -> None:
    file = tmp_path / "asn.csv"
    file.write_text(
        "start,end,asn\n1.0.0.0,1.255.255.255,AS1\n1.2.0.0,1.2.255.255,2\n1.2.3.0,1.2.3.255,3\n2001:db8::,2001:db8:ffff::,4\n"
    )
    book = AddressBook(file)
    for prefix, asn in (
        ("1.0.9.0/24", 1), ("1.2.2.0/24", 2), ("1.2.3.0/24", 3), ("1.2.4.0/24", 2), ("1.3.0.0/24", 1),
        ("2.0.0.0/24", None), ("0.9.9.0/24", None), ("2001:db8:1::/48", 4), ("2001:db9::/48", None),
    ):  # fmt: skip
        assert book.located(Client(prefix)).asn == asn, prefix


def test_what_a_client_says_goes_before_what_files_say(tmp_path: Path) -> None:
    file = tmp_path / "where.csv.gz"
    file.write_bytes(gzip.compress(b"3405803776,3405804031,KZ,43.2,76.9\n16909056,16909311,DE\n"))
    book = AddressBook(None, file)
    assert book.located(Client("203.0.113.0/24")) == Client("203.0.113.0/24", None, "KZ", 43.2, 76.9)
    french = book.located(Client("203.0.113.0/24", 7, "FR"))
    assert (french.asn, french.country) == (7, "FR") and french.latitude is not None and french.latitude != 43.2
    german = book.located(Client("1.2.3.0/24"))
    assert german.country == "DE" and german.latitude is not None
    assert book.located(Client(None, 7)) == Client(None, 7)


@pytest.mark.parametrize(
    "text",
    ["1.2.3.4\n", "head\nrow,row,row\n", "h\n5,4,1\n", "h\n1.1.1.1,::1,1\n", "h\n1,2,x\n", "h\n1,99999999999,3\n"],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("start,end,asn\n" + text)
    with pytest.raises(InputRejected) as refused:
        AddressBook(file)
    assert (
        refused.value.code == "setting_invalid" and refused.value.field == "asn_file" and " line " in str(refused.value)
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRejected) as refused:
        AddressBook(None, tmp_path / "none.csv")
    assert refused.value.field == "location_file"


@pytest.mark.parametrize(("prefix", "shared"), [
    ("10.1.2.0/24", True), ("192.168.0.0/24", True), ("127.0.0.0/24", True), ("100.64.1.0/24", True),
    ("fd00:1::/48", True), ("203.0.113.0/24", False), ("8.8.8.0/24", False), ("2001:db8::/48", False),
])  # fmt: skip
def test_private_networks_are_nobodys(prefix: str, shared: bool) -> None:
    assert is_shared(prefix) is shared
    kept = AddressBook().network(Client(prefix))
    assert (kept is None) is shared
    named = AddressBook().network(Client(prefix, 64500))
    assert named is not None and (named.prefix is None) is shared


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_nested_ranges_become_disjoint_ones_that_say_the_same(spans: list[tuple[int, int]]) -> None:
    nested: list[tuple[int, int, int]] = []
    for i, (start, length) in enumerate(spans):
        end = start + length
        new = (start, end) not in {(a, b) for a, b, _ in nested}
        fits = (end < a or start > b or (a <= start and end <= b) or (start <= a and b <= end) for a, b, _ in nested)
        if new and all(fits):
            nested.append((start, end, i))
    ranges = _disjoint(list(nested))
    for address in range(90):
        inside = [(b - a, v) for a, b, v in nested if a <= address <= b]
        assert ranges.find(address) == (min(inside)[1] if inside else NOBODY)
