"""Settings: precedence, strictness, and refusals that name field, rule and source without repeating the value."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from router.core.errors import InputRejected
from router.settings import PREFIX, Settings, json_schema, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refused(path: Path | None = None, **overrides: object) -> InputRejected:
    """The refusal of settings that are wrong."""
    with pytest.raises(InputRejected) as caught:
        load(path, **overrides)
    assert caught.value.code == "setting_invalid"
    return caught.value


def test_defaults_are_the_contracts() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.nats_url) == ("127.0.0.1", 7400, None)
    assert settings.database == "sqlite:///var/tendril.db"
    assert settings.admin_key is None


def test_flags_beat_the_environment_beats_the_file_beats_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("host: 10.0.0.1\nport: 1\nsession_lease_s: 33\n")
    assert (load(file).host, load(file).port) == ("10.0.0.1", 1)
    monkeypatch.setenv("TENDRIL_PORT", "2")
    monkeypatch.setenv("TENDRIL_HOST", "")  # empty is as good as unset
    settings = load(file, port=3)
    assert (settings.host, settings.port, settings.session_lease_s) == ("10.0.0.1", 3, 33)
    assert load(file).port == 2
    assert load(file, port=None).port == 2


def test_a_wrong_value_names_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("port: 70000\n")
    error = refused(file)
    assert error.field == "port" and error.limit == 65_535 and str(file) in error.message
    assert "--port" in refused(file, port=-1).message
    monkeypatch.setenv("TENDRIL_PORT", "many")
    assert "TENDRIL_PORT" in refused().message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot: 1\n", "prot: is not a known setting"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "line 2: is not YAML"),
        ("port: 'x'\n", "port"),
        ("session_lease_s: 1\n", "session_lease_s"),
        ("database_url: mysql://x\n", "must start with"),
        ("nats_url: nats://x\n", "not available"),
        ("log_level: loud\n", "log_level"),
        ("port: .nan\n", "port"),
    ],
)
def test_a_wrong_file_names_the_file_and_the_rule(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    error = refused(file)
    assert str(file) in error.message and expected in error.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "missing.yaml").message
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert str(binary) in refused(binary).message


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("# nothing\n")
    assert load(file).port == 7400


def test_secrets_are_neither_shown_nor_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENDRIL_ADMIN_KEY", "secret")
    assert "secret" not in refused().message
    monkeypatch.setenv("TENDRIL_ADMIN_KEY", "secretsecretsecret")
    monkeypatch.setenv("TENDRIL_DATABASE_URL", "postgresql+psycopg://tendril:secret@db/tendril")
    settings = load()
    assert "secret" not in str(settings.shown()) and "secret" not in str(settings.admin_key)
    assert settings.shown()["database_url"] == "postgresql+psycopg://tendril:***@db/tendril"
    assert settings.database.endswith(":secret@db/tendril")


def test_the_schema_describes_every_setting() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert all(part.get("description") for part in schema["properties"].values())
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_practice_drains_are_checked_where_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENDRIL_PRACTICE_DRAINS", "tue 03:30 data_center=gcp-ams")
    settings = load(practice_blocked="fri 16:00 - mon 06:00")
    assert [practice.minute for practice in settings.practice.practices] == [1_650] and len(
        settings.practice.blocked
    ) == 2
    monkeypatch.setenv("TENDRIL_PRACTICE_DRAINS", "sometimes")
    error = refused()
    assert error.field == "practice_drains" and "must be like 'tue 03:30 data_center=ID'" in error.message
