"""Settings: environment ``TENDRIL_*`` over a YAML file over defaults, typed, with a JSON Schema.

Precedence: what a caller passes (command line flags), then the environment, then the file, then the default. A wrong
value names the field, the rule, and where the value came from; the value itself is not repeated, since it may be a
secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from router.core.drain import Calendar, read_calendar
from router.core.errors import InputRejected

PREFIX = "TENDRIL_"
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")
_ADMIN_KEY = re.compile(r"[!-~]{16,255}")


class Settings(BaseSettings):
    """Everything an operator may set about a control plane."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    database_url: str = Field(
        default="",
        description="SQLAlchemy URL: `sqlite:///FILE` or `postgresql+psycopg://…`. Empty: SQLite under `state_dir`",
    )
    nats_url: str | None = Field(default=None, description="Many replicas over NATS. Not available yet: must be empty")
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="Address to listen on")
    port: int = Field(default=7400, ge=0, le=65_535, description="Port to listen on; 0 picks a free one")
    admin_key: SecretStr | None = Field(
        default=None,
        description="First admin key, 16 to 255 printable characters. Empty: one is made, see `state_dir/admin.key`",
    )
    state_dir: Path = Field(default=Path("var"), description="Where the database, the admin key and recordings lie")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="How log lines look; `auto`: for people on a terminal, JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged")
    flight_recorder_mb: int = Field(
        default=64, ge=0, le=100_000, description="Size of the ring of recorded inputs in MB; 0 records nothing"
    )
    max_body_bytes: int = Field(
        default=4_194_304, ge=65_536, le=268_435_456, description="Largest request body that is read"
    )
    attach_lease_s: int = Field(
        default=60, ge=5, le=3_600, description="How long a placed or resumed session waits for its user to arrive"
    )
    session_lease_s: int = Field(
        default=120,
        ge=5,
        le=86_400,
        description="How long a node holds its sessions without a heartbeat; then they end",
    )
    user_grace_s: int = Field(
        default=60, ge=5, le=86_400, description="How long a session waits for a user who left its edge to come back"
    )
    session_token_s: int = Field(
        default=86_400, ge=60, le=2_592_000, description="How long a session token may be used to resume"
    )
    move_deadline_s: int = Field(
        default=10,
        ge=1,
        le=3_600,
        description="How long a node has to hand a moving session to its new edge; then the move is taken back",
    )
    ended_sessions_days: int = Field(
        default=7, ge=2, le=3_650, description="How long ended sessions and their events can be looked up"
    )
    agent_lease_s: int = Field(
        default=10, ge=2, le=3_600, description="How long an agent may be silent before it counts as lost"
    )
    agent_suspect_s: int = Field(
        default=3,
        ge=1,
        le=3_600,
        description="How long an agent may be silent before no session is given to it; at most `agent_lease_s` counts",
    )

    node_key_lifetime_s: int = Field(
        default=604_800,
        ge=0,
        le=31_536_000,
        description="How long nodes sign probes and relayed packets with one key, which is taken for as long after; "
        "0: keys never change",
    )

    practice_drains: str = Field(
        default="",
        max_length=4_096,
        description="Drains that are practised for half an hour every week, in UTC, such as "
        "`tue 03:30 data_center=gcp-ams; wed 04:00 provider=oracle,region=fra`",
    )
    practice_blocked: str = Field(
        default="", max_length=4_096, description="When no practice may run, such as `fri 16:00 - mon 06:00`, in UTC"
    )

    webhook_allow_networks: str = Field(
        default="",
        max_length=4_096,
        description="Networks that webhooks may reach although they are not public, such as `10.2.0.0/16,fd00::/8`; "
        "there `http://` will do",
    )
    webhook_timeout_s: int = Field(default=10, ge=1, le=60, description="How long one attempt to deliver may take")
    webhook_disable_after_h: int = Field(
        default=48, ge=1, le=720, description="How long a webhook may take nothing before it is disabled"
    )

    capacity_file: Path | None = Field(
        default=None,
        description="YAML of the machines that may be bought, where and on which terms. Empty: nothing is bought",
    )
    capacity_dry_run: bool = Field(
        default=True, description="Plan purchases and show them, but buy and release nothing"
    )
    capacity_budget_usd_per_hour: float = Field(
        default=10, ge=0, le=1_000_000, description="What all bought machines together may cost an hour"
    )
    capacity_max_machines: int = Field(default=10, ge=0, le=100_000, description="How many may be bought at once")
    capacity_cold_start_s: int = Field(
        default=90,
        ge=5,
        le=3_600,
        description="How long it takes from an order until the agents of a machine are ready",
    )

    asn_file: Path | None = Field(
        default=None, description="CSV of address ranges, `start,end,asn` (may be .gz): whose network an address is of"
    )
    location_file: Path | None = Field(
        default=None,
        description="CSV of address ranges, `start,end,country[,latitude,longitude]` (may be .gz): where an address is",
    )
    vantage_file: Path | None = Field(
        default=None,
        description="CSV of machines in client networks that nodes may ask, "
        "`target,kind,host,port,asn,country[,latitude,longitude]` (may be .gz)",
    )
    vantage_contact: str = Field(
        default="",
        max_length=120,
        description="Travels in echo requests to these machines: whom to ask about them; needed with `vantage_file`",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; no .env files, which would be found by accident."""
        return init_settings, env_settings

    @field_validator("nats_url")
    @classmethod
    def _no_nats(cls, value: str | None) -> str | None:
        if value is not None:
            raise PydanticCustomError(
                "nats_unavailable", "a cluster over NATS is not available in this version; leave it empty"
            )
        return value

    @field_validator("webhook_allow_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            _networks_in(value)
        except ValueError as error:
            raise PydanticCustomError("networks", "must be networks such as 10.2.0.0/16, divided by commas") from error
        return value

    @field_validator("practice_drains", "practice_blocked")
    @classmethod
    def _practice(cls, value: str, info: ValidationInfo) -> str:
        try:
            read_calendar(value, "") if info.field_name == "practice_drains" else read_calendar("", value)
        except ValueError as error:
            raise PydanticCustomError("calendar", "{rule}", {"rule": str(error)}) from error
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise PydanticCustomError("database", "must start with sqlite:/// or postgresql+psycopg://")
        return value

    @field_validator("admin_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _ADMIN_KEY.fullmatch(value.get_secret_value()):
            raise PydanticCustomError("admin_key", "must be 16 to 255 printable ASCII characters without spaces")
        return value

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.state_dir / 'tendril.db'}"

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of ``webhook_allow_networks``."""
        return _networks_in(self.webhook_allow_networks)

    @property
    def practice(self) -> Calendar:
        """The calendar of ``practice_drains`` and ``practice_blocked``."""
        return read_calendar(self.practice_drains, self.practice_blocked)

    def shown(self) -> dict[str, Any]:
        """All settings for people's eyes, secrets struck out."""
        values: dict[str, Any] = self.model_dump(mode="json")
        values["admin_key"] = None if self.admin_key is None else "***"
        values["database_url"] = _PASSWORD.sub(r"\1***@", self.database)
        return values


def _networks_in(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a settings file. Raises ``setting_invalid`` naming the file, and the line where YAML is broken."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputRejected("setting_invalid", f"{path}: cannot be read: {error}", field="--config") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}"
        raise InputRejected("setting_invalid", f"{path}{line}: is not YAML", field="--config") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputRejected("setting_invalid", f"{path}: must be a mapping of settings", field="--config")
    return {str(name): value for name, value in found.items()}


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings in force: overrides (``None``: not given), environment, file, defaults. Raises ``setting_invalid``."""
    given = {name: value for name, value in overrides.items() if value is not None}
    from_file = {} if config is None else read_yaml(config)

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            *sources: PydanticBaseSettingsSource,
            **named: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            every = [*sources, *named.values()]
            return every[0], every[1], InitSettingsSource(settings_cls, init_kwargs=from_file)

    try:
        return Settings.model_construct(**dict(FromFile(**given)))
    except ValidationError as error:
        raise _rejected(error, given, os.environ, from_file, config) from error


def _rejected(
    error: ValidationError, given: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, Any], path: Path | None
) -> InputRejected:
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0])
    variable = f"{PREFIX}{name.upper()}"
    if name in given:
        source = f"--{name.replace('_', '-')}"
    elif variable in env:
        source = variable
    elif name in file:
        source = str(path)
    else:
        source = "default"
    context = first.get("ctx", {})
    limit = next((context[part] for part in ("le", "ge", "max_length", "min_length") if part in context), None)
    rule = "is not a known setting" if first["type"] == "extra_forbidden" else first["msg"]
    return InputRejected("setting_invalid", f"{source}: {name}: {rule}", field=name, rule=rule, limit=limit)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the settings file."""
    return Settings.model_json_schema()
