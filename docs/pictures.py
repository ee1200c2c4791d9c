"""Takes the pictures of the dashboard tutorial from a running demo: ``python docs/pictures.py [URL] [STATE_DIR]``.

It walks the very steps of ``docs/tutorial/dashboard.md``: looks, breaks a provider, heals it, drains a data center,
undoes it; each picture in dark and in light. ``tests/testbed/test_tutorial.py`` takes the same walk in a world of its
own. The pictures are JPEG, since they are many colours and few bytes matter more than single pixels.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
EMULATOR = os.environ.get("EMULATOR", "http://127.0.0.1:7402")
PROVIDER = "vultr"
PATIENCE_MS = 90_000
SETTLE_MS = 1_500


def shot(page: Page, folder: Path, name: str) -> None:
    """Keep what is on screen, in both colours."""
    page.wait_for_timeout(SETTLE_MS)  # let what was just asked for arrive and settle
    for scheme, ending in (("dark", ""), ("light", "-light")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.wait_for_timeout(200)
        page.screenshot(path=folder / f"dashboard-{name}{ending}.jpg", type="jpeg", quality=72)
    page.emulate_media(color_scheme="dark")


def walk(page: Page, url: str, emulator: str, provider: str, folder: Path) -> None:
    """The tutorial, step by step."""
    expect.set_options(timeout=PATIENCE_MS)
    verdict = page.get_by_test_id("verdict")
    page.locator(".mark").first.wait_for()
    expect(page.get_by_test_id("flow")).not_to_have_count(0)
    shot(page, folder, "overview")
    page.goto(f"{url}/#/matrix?order=region")
    page.get_by_test_id("cells").hover(position={"x": 120, "y": 40})
    shot(page, folder, "matrix")
    page.get_by_test_id("cells").click(position={"x": 120, "y": 40})
    page.locator(".chart canvas").first.wait_for()
    shot(page, folder, "link")
    fault = {"target": f"provider={provider}", "kind": "loss", "value": 40}
    httpx.post(f"{emulator}/faults", json=fault, timeout=10).raise_for_status()
    try:
        page.goto(f"{url}/#/")
        expect(verdict).to_contain_text(provider, ignore_case=True)
        shot(page, folder, "broken")
    finally:
        httpx.delete(f"{emulator}/faults", timeout=10).raise_for_status()
    drain(page, url, folder)


def drain(page: Page, url: str, folder: Path) -> None:
    """Preview, start, and undo the drain of whatever carries most."""
    page.goto(f"{url}/#/data-centers")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    counts = [int(text.replace(",", "")) for text in page.locator("tbody tr td:nth-child(7)").all_inner_texts()]
    busiest = page.locator("tbody tr th").nth(counts.index(max(counts))).inner_text()
    page.goto(f"{url}/#/drains?selector=data_center={busiest}")
    page.get_by_label("How").select_option("hard")
    page.get_by_label("Reason").fill("trying it out")
    page.get_by_label("force").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_test_id("plan").wait_for()
    shot(page, folder, "preview")
    page.get_by_role("button", name="Start draining").click()
    page.get_by_test_id("left").wait_for()
    shot(page, folder, "drain")
    page.get_by_role("button", name="Undo: put it back").press("Enter")  # the page moves when it ends
    state, insist = page.get_by_test_id("drain-state"), page.get_by_role("button", name="Undo anyway")
    undone = state.filter(has_text="undone")
    expect(undone.or_(insist)).to_be_visible()
    if insist.is_visible():  # refused so soon after what was broken in step 3
        insist.press("Enter")
    expect(undone).to_be_visible()
    shot(page, folder, "undone")


def main() -> None:
    """Sign in and walk."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7400"
    state = Path(sys.argv[2] if len(sys.argv) > 2 else "var")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, color_scheme="dark", reduced_motion="reduce"
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{url}/#/")
        page.get_by_label("Key", exact=True).fill((state / "admin.key").read_text().strip())
        page.keyboard.press("Enter")
        walk(page, url, EMULATOR, PROVIDER, IMAGES)
        browser.close()


if __name__ == "__main__":
    main()
