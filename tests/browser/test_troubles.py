"""What goes wrong around the dashboard is said plainly, and recovers without reloading: on a bare control plane."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, Route, expect

if TYPE_CHECKING:
    from tests.browser.conftest import Bare, OpenPage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=30_000)


def verdict_of(page: Page, text: str | re.Pattern[str]) -> None:
    """The first line says this."""
    expect(page.get_by_test_id("verdict")).to_contain_text(text)


def test_an_empty_world_says_what_to_do_and_fills_by_itself(bare: Bare, open_bare: OpenPage) -> None:
    page = open_bare()
    verdict_of(page, "No data centers yet: add some with tendril fleet apply FILE.yaml")
    said = {
        "#/matrix": "No data centers yet, so nothing to compare.",
        "#/data-centers": "No data centers yet.",
        "#/pools": "No pools of agents yet.",
        "#/sessions": "None matches.",
        "#/drains": "None yet.",
        "#/clients": "No client network was measured yet",
    }
    for path, text in said.items():
        page.evaluate("path => { location.hash = path }", path)
        expect(page.locator("main")).to_contain_text(text)
    bare.put_data_center()
    verdict_of(page, "Nothing measured yet: all 1 data center unknown")
    page.evaluate("location.hash = '#/data-centers'")
    row = page.get_by_role("row", name=re.compile("own-fra"))
    expect(row).to_contain_text("unknown")
    expect(row).to_contain_text("—")  # when it was heard: never, not 0 s ago


def test_a_restart_is_said_and_recovered_from(bare: Bare, open_bare: OpenPage) -> None:
    bare.put_data_center()
    page = open_bare("#/data-centers")
    expect(page.get_by_role("row", name=re.compile("own-fra"))).to_be_visible()
    bare.kill()
    expect(page.get_by_role("alert").first).to_contain_text("Live stream lost")
    verdict_of(page, re.compile(r"As of \d+ s ago"))
    bare.start()
    expect(page.get_by_text("The control plane was restarted; what you see is what it knows now.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    verdict_of(page, "Nothing measured yet")


def test_another_version_of_the_control_plane_is_said(bare: Bare, open_bare: OpenPage) -> None:
    bare.put_data_center()
    page = open_bare("#/drains?out=own-fra")
    expect(page.get_by_test_id("what-if-answer")).to_be_visible()

    def older(route: Route) -> None:
        route.continue_(url=f"{bare.url}/v1/not-yet-invented")

    page.route("**/v1/simulations", older)
    page.get_by_role("button", name="Keep own-fra").click()
    page.get_by_role("slider").press("ArrowRight")
    expect(page.get_by_role("alert")).to_contain_text("another version than this page; reload the page")
    page.unroute("**/v1/simulations")
    page.get_by_role("button", name="Keep own-fra").click()
    page.get_by_role("slider").press("ArrowRight")
    expect(page.get_by_test_id("what-if-answer")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_forbidden_action_is_refused_in_words_and_leaves_the_page_alive(bare: Bare, open_bare: OpenPage) -> None:
    bare.put_data_center()
    key = str(bare.call("POST", "/v1/keys", {"scope": "viewer", "name": "wall screen"})["key"])
    page = open_bare("#/", key=key)

    def boast(route: Route) -> None:  # a page that thinks it may: the control plane knows better
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"scope": "operator"})

    page.route("**/v1/sign-in", boast)
    page.reload()
    page.evaluate("location.hash = '#/data-centers/own-fra'")
    page.get_by_role("button", name="Cordon", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Your key may not do this")
    assert bare.call("GET", "/v1/data-centers/own-fra")["intent"] == "serving"
    page.get_by_role("link", name="Overview", exact=True).click()
    verdict_of(page, "Nothing measured yet")


def test_a_clock_that_is_behind_is_said(open_bare: OpenPage) -> None:
    page = open_bare("#/events")
    page.context.add_init_script("const now = Date.now.bind(Date); Date.now = () => now() - 7_200_000")
    page.reload()
    expect(page.get_by_test_id("skew")).to_contain_text("120 min behind the control plane's; ages are by the latter")
