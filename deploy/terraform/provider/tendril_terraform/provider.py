"""The provider: its settings, and what it offers."""

from __future__ import annotations

import threading
from typing import Any

from tf.iface import Config, DataSource, Resource
from tf.schema import Attribute, Schema
from tf.types import Number, String, Unknown
from tf.utils import Diagnostics

from tendril_terraform import ADDRESS, data
from tendril_terraform.client import DEFAULT_URL, Client, from_env
from tendril_terraform.drain import Drain
from tendril_terraform.join_token import JoinToken
from tendril_terraform.kinds import kind_of, names
from tendril_terraform.resource import InventoryResource

_URL = "Where the control plane is; else `TENDRIL_URL`, else `http://127.0.0.1:7400`."
_KEY = "API key with the scope `operator`; else `TENDRIL_KEY`."
_TIMEOUT = "How long one call may take; default 30."


class TendrilProvider:
    """Everything that Terraform asks for once."""

    def __init__(self) -> None:
        self.client = Client(DEFAULT_URL, "", stopping=self.stopping)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let nothing wait any longer."""
        self._stop.set()

    def stopping(self) -> bool:
        """Whether Terraform was interrupted."""
        return self._stop.is_set()

    def get_model_prefix(self) -> str:
        """What every name begins with."""
        return "tendril_"

    def full_name(self) -> str:
        """Where it comes from."""
        return ADDRESS

    def get_provider_schema(self, diags: Diagnostics) -> Schema:
        """Settings of the provider block."""
        return Schema(
            [
                Attribute("url", String(), optional=True, description=_URL),
                Attribute("key", String(), optional=True, sensitive=True, description=_KEY),
                Attribute("timeout_s", Number(), optional=True, description=_TIMEOUT),
            ]
        )

    def validate_config(self, diags: Diagnostics, config: Config) -> None:
        """Say what is wrong before anybody is called."""
        url, timeout_s = config.get("url"), config.get("timeout_s")
        if isinstance(url, str) and not url.startswith(("http://", "https://")):
            diags.add_error("Wrong url", "url must begin with http:// or https://.", ["url"])
        if timeout_s not in (None, Unknown) and not 0 < float(timeout_s) <= 3_600:
            diags.add_error("Wrong timeout_s", "timeout_s must be above 0 and at most 3600.", ["timeout_s"])

    def configure_provider(self, diags: Diagnostics, config: Config) -> None:
        """Take the settings; nobody is called yet."""
        given = {name: None if config.get(name) is Unknown else config.get(name) for name in ("url", "key")}
        url = from_env("TENDRIL_URL", given["url"], DEFAULT_URL)
        key = from_env("TENDRIL_KEY", given["key"])
        if not key and config.get("key") is not Unknown:
            diags.add_error("No key", "Set key in the provider block, or TENDRIL_KEY in the environment.", ["key"])
        self.client = Client(url, key, float(config.get("timeout_s") or 30), self.stopping)

    def live_sessions(self, data_center: str) -> int:
        """Live sessions on an edge now."""
        places: list[dict[str, Any]] = self.client.get("/v1/health")["data_centers"]
        return sum(int(place["sessions"]) for place in places if place["id"] == data_center)

    def get_resources(self) -> list[type[Resource]]:
        """All resources."""
        made = [type(f"Of_{name}", (InventoryResource,), {"kind": kind_of(name)}) for name in names()]
        return [*made, JoinToken, Drain]

    def get_data_sources(self) -> list[type[DataSource]]:
        """All data sources."""
        return data.every([kind_of(name) for name in names()])

    def get_functions(self) -> list[Any]:
        """None yet."""
        return []

    def new_resource(self, klass: Any) -> Resource:
        """For one call."""
        return klass(self)  # type: ignore[no-any-return]

    def new_data_source(self, klass: Any) -> DataSource:
        """For one call."""
        return klass(self)  # type: ignore[no-any-return]
