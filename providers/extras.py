"""The clouds' own SDKs: imported when an adapter is opened, never before, and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from providers.base import NotConfigured


def sdk(provider: str, module: str) -> Any:
    """Return a module of a cloud's SDK. Raises :class:`NotConfigured`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = f"{error.name or module} is not installed; install the extra: pip install 'tendril[{provider}]'"
        raise NotConfigured(provider, "open", missing) from None
