"""Statements straight to libpq: a few in one round trip, prepared once per connection.

The driver's own pipelines do the same with some ten waits and as many turns of the interpreter per batch; a group
commit has two round trips, and its thread should ask for the interpreter no more often.
"""

from __future__ import annotations

import re
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

_NAMED = re.compile(r"%\(([a-z_]+)\)s")
_WAIT_MS = 60_000  # for one answer; the server gives up on a statement long before
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with a name on the server, and its parameters in the order of their numbers."""

    name: bytes
    text: bytes
    parameters: tuple[str, ...]

    @staticmethod
    def of(name: str, text: str) -> Statement:
        """Read a text with ``%(name)s`` for each parameter and ``%%`` for a percent sign."""
        parameters = tuple(dict.fromkeys(_NAMED.findall(text)))
        numbered = _NAMED.sub(lambda found: f"${parameters.index(found[1]) + 1}", text)
        return Statement(name.encode(), numbered.replace("%%", "%").encode(), parameters)


BEGIN, COMMIT = Statement.of("tendril_begin", "BEGIN"), Statement.of("tendril_commit", "COMMIT")


def together(
    driver: psycopg.Connection[Any],
    prepared: set[bytes],
    asked: Sequence[tuple[Statement, Mapping[str, str]]],
) -> list[pq.abc.PGresult]:
    """Send statements in one go and wait for all their results. ``prepared``: what this connection knows by name.

    Raises the driver's errors; a statement that follows a failed one was not carried out.
    """
    pg = driver.pgconn
    pg.enter_pipeline_mode()
    try:
        expected: list[tuple[Statement, bool]] = []  # and whether it is only being prepared
        for statement, values in asked:
            given = [values[name].encode() for name in statement.parameters]
            if statement.name not in prepared:
                pg.send_prepare(statement.name, statement.text)
                expected.append((statement, True))
            pg.send_query_prepared(statement.name, given)
            expected.append((statement, False))
        pg.pipeline_sync()
        results = _results(pg, len(expected))
    finally:
        if pg.status == pq.ConnStatus.OK and pg.pipeline_status != pq.PipelineStatus.OFF:
            pg.exit_pipeline_mode()
    answers = []
    for result, (statement, preparing) in zip(results, expected, strict=True):
        if result.status not in _GOOD:
            raise error_from_result(result, encoding=driver.info.encoding)
        if preparing:
            prepared.add(statement.name)
        else:
            answers.append(result)
    return answers


def _results(pg: pq.abc.PGconn, n: int) -> list[pq.abc.PGresult]:
    """The results of ``n`` statements, and the mark behind them."""
    results: list[pq.abc.PGresult] = []
    poll = select.poll()
    poll.register(pg.socket, select.POLLIN | select.POLLOUT)
    while pg.flush():  # what is long goes in pieces; the server may answer meanwhile
        if _ready(poll) & select.POLLIN:
            pg.consume_input()
    poll.modify(pg.socket, select.POLLIN)
    while True:
        while pg.is_busy():
            _ready(poll)
            pg.consume_input()
        result = pg.get_result()
        if result is None:
            continue  # the end of one statement's results
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            assert len(results) == n
            return results
        results.append(result)


def _ready(poll: select.poll) -> int:
    found = poll.poll(_WAIT_MS)
    if not found:
        raise psycopg.OperationalError("the database does not answer")
    return found[0][1]
