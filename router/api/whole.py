"""Requests that come whole and in their usual form, read without a parser.

Most clients of the hot paths send a request in one piece on a connection of their own and wait for the answer. Its text
is then a line, some plain headers and a body of declared length. :func:`read` takes such a text apart or says ``None``:
everything that could be read in two ways (headers given twice, folded, or about framing; a path with escapes; anything
but CRLF) is left to the real parser, bytes and all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MOST_BYTES = 65_536  # what one read of a socket brings, at most; longer requests come in pieces anyway
_HEAD = re.compile(
    rb"(GET|POST|DELETE) (/v1/[A-Za-z0-9/_.:-]*)(?:\?([!\"$-~]*))? HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[ !-~]*\r\n)+)\r\n"
)
# Headers that change where a request ends, or what happens to its connection.
_FRAMING = frozenset((b"connection", b"expect", b"te", b"trailer", b"transfer-encoding", b"upgrade"))


class Whole(NamedTuple):
    """A request with its body; header names in lower case."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


def read(data: bytes) -> Whole | None:
    """A request whose text this is, no more and no less; ``None`` if that takes a parser to say."""
    found = _HEAD.match(data) if len(data) <= MOST_BYTES else None
    if found is None:
        return None
    headers: list[tuple[bytes, bytes]] = []
    for line in found[4][:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" ")))
    given = dict(headers)
    if len(given) < len(headers) or not _FRAMING.isdisjoint(given) or b"host" not in given:
        return None
    declared = given.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 9 or len(data) - found.end() != int(declared):
        return None
    return Whole(found[1].decode(), found[2].decode(), found[3] or b"", headers, data[found.end() :])
