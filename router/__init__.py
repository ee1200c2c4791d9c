"""The control plane of Tendril: measures every leg, finds the fastest path each way, places and keeps sessions."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Compute ``__version__`` on demand: reading package metadata costs start-up time that most commands do not owe."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import metadata

    try:
        return metadata.version("tendril")
    except metadata.PackageNotFoundError:
        return "0+unknown"
