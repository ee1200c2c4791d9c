"""What browser tests ask of a page beside its words."""

from __future__ import annotations

from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SCRIPT = Axe().axe_script
PHONE = 390  # CSS pixels


def axe(page: Page, colours_only: bool = False) -> str:
    """What axe-core finds on a page, in words; a page that was looked at in one scheme differs in colours only."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(SCRIPT)
    options = {"resultTypes": ["violations"]} | ({"runOnly": ["color-contrast"]} if colours_only else {})
    found = AxeResults(page.evaluate("options => axe.run(options)", options))
    assert found.response["passes"], "axe looked at nothing"
    return str(found.generate_report()) if found.violations_count else ""


def fits(page: Page) -> bool:
    """Whether nothing sticks out sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth")) <= page.evaluate("innerWidth")


def expect_thumb(page: Page, name: str) -> None:
    """A button can be hit on a phone: large enough, and not outside of the screen."""
    button = page.get_by_role("button", name=name)
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= PHONE
    assert fits(page)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is called so has the focus."""
    said = "(e => e.labels?.[0]?.innerText ?? e.innerText ?? '')(document.activeElement)"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(said).strip().startswith(name):
            return
    raise AssertionError(f"no Tab leads to {name}")
