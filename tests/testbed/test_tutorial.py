"""The dashboard's tutorial, walked in a real demo world: every step works, and every picture can be taken again.

With ``TENDRIL_PICTURES=docs/images`` the pictures of the documentation are replaced by those of this walk.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from tests.testbed.conftest import LiveWorld

pytestmark = [pytest.mark.world, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
DOCS = Path(__file__).parents[2] / "docs"
LEAST_BYTES = 20_000  # an empty page makes a smaller picture


def pictures() -> ModuleType:
    """``docs/pictures.py``, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_walk_of_the_tutorial_gives_its_pictures(live_world: LiveWorld, tmp_path: Path) -> None:
    walker = pictures()
    folder = Path(os.environ.get("TENDRIL_PICTURES", tmp_path)).resolve()
    url, emulator = live_world.note["url"], live_world.note["emulator_url"]
    live_world.until(lambda: _lively(live_world), 180, "every data center is up, all is measured and users talk")
    providers = Counter(dc.provider for dc in live_world.truth.data_centers)
    provider = min(providers, key=lambda id: (id != walker.PROVIDER, -providers[id], id))
    foreign: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        context.set_default_timeout(walker.PATIENCE_MS)
        host = urlsplit(url).netloc
        context.on("request", lambda r: foreign.append(r.url) if urlsplit(r.url).netloc != host else None)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.goto(f"{url}/#/")
        page.get_by_label("Key", exact=True).fill(live_world.key)
        page.keyboard.press("Enter")
        walker.walk(page, url, emulator, provider, folder)
        browser.close()
    wanted = set(re.findall(r"images/(dashboard-[a-z-]+\.jpg)", (DOCS / "tutorial" / "dashboard.md").read_text()))
    taken = {path.name: path.stat().st_size for path in folder.glob("dashboard-*.jpg")}
    assert wanted and wanted <= taken.keys()
    assert {name for name, size in taken.items() if size < LEAST_BYTES} == set()
    assert (foreign, errors) == ([], [])


def _lively(world: LiveWorld) -> bool:
    """Whether the world is as a newcomer finds it after a minute."""
    found = world.api("GET", "/v1/health")["data_centers"]
    whole = len(found) == len(world.truth.data_centers) and all(dc["state"] == "up" for dc in found)
    matrix = world.api("GET", "/v1/matrix")["rtt_ms"]
    measured = all(cell is not None for i, row in enumerate(matrix) for j, cell in enumerate(row) if i != j)
    return whole and measured and bool(world.api("GET", "/v1/flows")["links"])
