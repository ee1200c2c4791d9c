"""Opening a cloud by its name: settings from a mapping, credentials from the environment or the SDK's own chain.

No credential is a setting, so none can end in a file, a log or an answer of the API. The table says which variable
each adapter reads; Oracle, GCP and Azure use what their SDKs use (a profile, the default credentials, an identity).
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from typing import Any

from providers.azure import Azure, AzureConfig
from providers.base import CloudProvider, NotConfigured
from providers.gcp import Gcp, GcpConfig
from providers.linode import Linode, LinodeConfig
from providers.oracle import Oracle, OracleConfig
from providers.own import Own, OwnConfig
from providers.vultr import Vultr, VultrConfig

_ADAPTERS: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "azure": (
        Azure,
        AzureConfig,
        {"tenant": "AZURE_TENANT_ID", "client": "AZURE_CLIENT_ID", "secret": "AZURE_CLIENT_SECRET"},
    ),
    "gcp": (Gcp, GcpConfig, {"token": "GOOGLE_OAUTH_ACCESS_TOKEN"}),
    "linode": (Linode, LinodeConfig, {"token": "LINODE_TOKEN"}),
    "oracle": (Oracle, OracleConfig, {"profile_file": "OCI_CONFIG_FILE", "profile": "OCI_CLI_PROFILE"}),
    "own": (Own, OwnConfig, {"token": "TENDRIL_OWN_TOKEN"}),
    "vultr": (Vultr, VultrConfig, {"api_key": "VULTR_API_KEY"}),
}


def adapter_names() -> tuple[str, ...]:
    """Return the clouds that can be opened."""
    return tuple(sorted(_ADAPTERS))


def open_provider(name: str, config: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> CloudProvider:
    """Return the adapter of a cloud. Raises :class:`NotConfigured`, which names the setting, variable or extra."""
    if name not in _ADAPTERS:
        raise NotConfigured(name, "open", f"there is no such adapter; there are {', '.join(adapter_names())}")
    adapter, settings, variables = _ADAPTERS[name]
    fields = {f.name: f for f in dataclasses.fields(settings) if f.name not in variables}
    optional = {f.name for f in dataclasses.fields(settings) if f.default is not dataclasses.MISSING}
    hints = typing.get_type_hints(settings)
    values: dict[str, object] = {}
    for key, value in config.items():
        if key not in fields:
            raise NotConfigured(name, "open", f"setting {key} is unknown; there are {', '.join(sorted(fields))}")
        values[key] = _checked(name, key, value, hints[key])
    for key, field in fields.items():
        if key not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise NotConfigured(name, "open", f"setting {key} is missing")
    for key, variable in variables.items():
        if environ.get(variable):
            values[key] = environ[variable]
        elif key not in optional:
            raise NotConfigured(name, "open", f"the environment variable {variable} is not set")
    try:
        opened: CloudProvider = adapter(settings(**values))
    except ValueError as error:
        raise NotConfigured(name, "open", str(error)) from None
    return opened


def _checked(name: str, key: str, value: object, hint: Any) -> object:
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if origin is not tuple and isinstance(origin, type) and isinstance(value, origin):
        return value
    plain = hint if origin is None else typing.get_args(hint)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None or not isinstance(origin, type):
        kinds = plain if isinstance(plain, tuple) else (plain,)
        if type(value) in kinds:
            return value
    raise NotConfigured(name, "open", f"setting {key} must be {hint if origin else hint.__name__}, not {value!r}")
