"""Statements straight to libpq: long ones, failing ones, and a server that goes away; the connection stays usable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from router.store.postgres_wire import BEGIN, COMMIT, Statement, together

ECHO = Statement.of("echo", "SELECT %(a)s::text || '%%' || %(b)s::text || %(a)s::text")
FAIL = Statement.of("fail", "SELECT 1 / %(n)s::int")


@pytest.fixture
def driver(postgres_server: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the driver's own."""
    url = make_url(postgres_server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        yield connection


def test_parameters_are_numbered_by_name_and_statements_prepared_once(driver: psycopg.Connection[Any]) -> None:
    assert ECHO.text == b"SELECT $1::text || '%' || $2::text || $1::text"
    known: set[bytes] = set()
    for _ in range(2):
        begun, found, done = together(driver, known, ((BEGIN, {}), (ECHO, {"b": "y", "a": "x"}), (COMMIT, {})))
        assert begun.command_status == b"BEGIN" and done.command_status == b"COMMIT"
        assert found.get_value(0, 0) == b"x%yx"
    assert known == {b"tendril_begin", b"echo", b"tendril_commit"}


def test_a_text_longer_than_any_buffer(driver: psycopg.Connection[Any]) -> None:
    (found,) = together(driver, set(), ((ECHO, {"a": "ä" * 3_000_000, "b": "-"}),))
    assert found.get_value(0, 0) == ("ä" * 3_000_000 + "%-" + "ä" * 3_000_000).encode()


def test_what_follows_a_failure_is_not_carried_out(driver: psycopg.Connection[Any]) -> None:
    known: set[bytes] = set()
    with pytest.raises(psycopg.errors.DivisionByZero):
        together(driver, known, ((BEGIN, {}), (ECHO, {"a": "", "b": ""}), (FAIL, {"n": "0"}), (COMMIT, {})))
    assert driver.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    driver.rollback()
    (found,) = together(driver, known, ((FAIL, {"n": "1"}),))
    assert found.get_value(0, 0) == b"1"


def test_a_server_that_goes_away_is_an_error_of_the_driver(
    driver: psycopg.Connection[Any], postgres_server: str
) -> None:
    pid = driver.info.backend_pid
    with psycopg.connect(driver.info.dsn, password=driver.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(psycopg.OperationalError):
        together(driver, set(), ((BEGIN, {}), (ECHO, {"a": "", "b": ""})))
    assert driver.closed
