"""Running the control plane from the command line: serve, db, config."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli import app
from router.client import Client, from_env

TENDRIL = [sys.executable, "-c", "import sys; from router.__main__ import main; sys.exit(main(sys.argv[1:]))"]


def environment() -> dict[str, str]:
    """This environment without settings, and with the checkout importable from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENDRIL_")}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def call(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(app, list(arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory without settings from outside."""
    for name in list(os.environ):
        if name.startswith("TENDRIL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_the_database_is_made_and_brought_up_to_date(folder: Path) -> None:
    for _ in range(2):  # the second time there is nothing to do
        result = call("db", "upgrade")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == "sqlite:///var/tendril.db has the newest schema\n"
    assert (folder / "var" / "tendril.db").exists()


def test_settings_are_checked_with_their_source(folder: Path) -> None:
    assert call("config", "check").stdout == "settings are good\n"
    file = folder / "settings.yaml"
    file.write_text("prot: 7400\n", encoding="utf-8")
    result = call("config", "check", "--config", str(file))
    assert result.exit_code == 1
    assert "prot: is not a known setting" in result.stderr
    result = call("config", "check", env={"TENDRIL_PORT": "many"})
    assert result.exit_code == 1
    assert "TENDRIL_PORT: port: " in result.stderr


def test_settings_are_shown_without_secrets(folder: Path) -> None:
    secrets = {
        "TENDRIL_ADMIN_KEY": "very-secret-admin-key",
        "TENDRIL_DATABASE_URL": "postgresql+psycopg://me:hidden-word@db/x",
    }
    shown = call("config", "show", "-o", "json", env=secrets)
    assert json.loads(shown.stdout)["port"] == 7400
    table = call("config", "show", env=secrets).stdout
    assert "TENDRIL_SESSION_LEASE_S" in table
    for text in (shown.stdout, table):
        assert "very-secret" not in text and "hidden-word" not in text


def test_the_schema_of_the_settings_is_json_schema(folder: Path) -> None:
    document = json.loads(call("config", "schema").stdout)
    assert document["type"] == "object"
    assert {"host", "port", "database_url", "admin_key"} <= set(document["properties"])


def test_the_client_finds_the_key_of_the_control_plane_beside_it(folder: Path) -> None:
    (folder / "var").mkdir()
    (folder / "var" / "admin.key").write_text("tk_beside\n", encoding="ascii")
    with from_env(environ={}) as client:
        assert isinstance(client, Client)
        assert client.authorization == "Bearer tk_beside"
