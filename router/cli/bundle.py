"""The support bundle: one archive with what somebody else needs to see what is wrong, and nothing secret.

It is made when things are broken, so a part that cannot be had is noted in ``problems.json`` and the rest is kept. Left
out on purpose: sessions (client networks are personal data; their counts are in the health), keys, tokens, passwords.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from router.client import Client
from router.core.errors import TendrilError

_KINDS = ("providers", "regions", "data-centers", "nodes", "links", "policies", "pools")
_EVENTS = 1_000


def write(path: Path, client: Client, settings: Callable[[], Mapping[str, Any]], now_s: int) -> dict[str, str]:
    """Write the archive, readable by its owner alone, and return what could not be had: part -> reason."""
    parts: dict[str, Callable[[], object]] = {
        "versions.json": versions,
        "settings.json": settings,
        "view/health.json": client.health,
        "view/matrix.json": client.matrix,
        "view/links.json": client.links,
        "view/flows.json": client.flows,
        "view/drains.json": client.drains,
        "view/events.json": lambda: client.events(limit=_EVENTS),
        "view/metrics.txt": lambda: client.request("GET", "/metrics").text,
        "view/readyz.txt": lambda: client.request("GET", "/readyz").text,
    }
    for kind in _KINDS:
        parts[f"intent/{kind}.json"] = lambda kind=kind: client.resources(kind)  # type: ignore[misc]
    problems: dict[str, str] = {}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, make in parts.items():
            try:
                content = make()
            except TendrilError as error:
                problems[name] = f"{error.code}: {error.message}"
            else:
                _add(archive, name, content, now_s)
        _add(archive, "problems.json", problems, now_s)
    return problems


def versions() -> dict[str, object]:
    """Return the versions of Tendril, Python, the platform, and everything installed beside it."""
    installed = {str(d.metadata["Name"]): d.version for d in metadata.distributions()}
    return {
        "tendril": installed.get("tendril", "not installed"),
        "python": sys.version,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "distributions": dict(sorted(installed.items())),
    }


def _add(archive: tarfile.TarFile, name: str, content: object, now_s: int) -> None:
    text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False)
    data = text.encode()
    entry = tarfile.TarInfo(f"tendril-support/{name}")
    entry.size, entry.mtime, entry.mode = len(data), now_s, 0o600
    archive.addfile(entry, io.BytesIO(data))
