"""The dashboard in a real browser, on a real control plane."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.looking import axe

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Watch, World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=20_000)

FORWARD = ["own-gru", "own-iad", "own-fra", "own-sin"]
RETURN = ["own-sin", "own-fra", "own-gru"]


def mark(page: Page, id: str) -> Locator:
    """The button of a data center on the map."""
    return page.get_by_role("button", name=re.compile(rf"^{id}, "))


def hops(page: Page, way: str) -> list[str]:
    """The data centers of the path on the panel."""
    return page.get_by_test_id(way).locator("ol.hops .badge").all_inner_texts()


def in_ms(shown: Locator) -> float:
    """The number in a text such as ``−12.4 ms (3.0 %)``."""
    found = re.search(r"([\d.]+) ms", shown.inner_text())
    assert found is not None, shown.inner_text()
    return float(found[1])


def expect_route(world: World, page: Page) -> None:
    """The panel shows São Paulo to Singapore with both ways and their numbers."""
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"own-gru\s*→\s*own-sin"))
    expect(page.get_by_test_id("rtt")).to_contain_text("ms")
    best = world.length_ms(FORWARD) + world.length_ms(RETURN)
    direct = world.length_ms(["own-gru", "own-sin", "own-gru"])
    assert in_ms(page.get_by_test_id("rtt")) == pytest.approx(best, abs=1)
    assert in_ms(page.get_by_test_id("saved")) == pytest.approx(direct - best, abs=1)
    assert hops(page, "forward") == FORWARD
    assert hops(page, "return") == RETURN
    expect(page.get_by_test_id("lane-forward")).to_have_count(len(FORWARD) - 1)
    expect(page.get_by_test_id("lane-return")).to_have_count(len(RETURN) - 1)


def test_sign_in_says_what_is_wrong_and_then_lets_in(world: World, open_page: OpenPage) -> None:
    page = open_page(signed_in=False)
    expect(page.get_by_text("cat var/admin.key")).to_be_visible()
    field = page.get_by_label("Key", exact=True)
    field.fill("tk_000000000000_" + "x" * 43)
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    field.fill(world.key)
    field.press("Enter")
    expect(page.get_by_test_id("verdict")).to_contain_text("All 6 data centers up")


def test_an_agents_key_may_not_look(world: World, open_page: OpenPage) -> None:
    page = open_page(signed_in=False)
    field = page.get_by_label("Key", exact=True)
    field.fill(world.reporter.keys["own-fra"])
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("scope")
    expect(page.locator(".map")).to_have_count(0)


def test_losing_the_sign_in_is_said_plainly(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_test_id("verdict")).to_contain_text("6 data centers")
    page.context.clear_cookies()
    expect(page.get_by_role("alert")).to_contain_text("sign-in has expired")


def test_map_shows_every_data_center_and_a_verdict(world: World, open_page: OpenPage, watch: Watch) -> None:
    page = open_page()
    expect(page.get_by_test_id("verdict")).to_contain_text(
        re.compile(r"All 6 data centers up; best route table [\d.]+ s old")
    )
    for id in world.on_map():
        expect(mark(page, id)).to_be_visible()
        expect(mark(page, id)).to_have_attribute("data-state", "up")
    strip = page.get_by_role("navigation", name="Data centers without a position")
    expect(strip.get_by_role("button")).to_have_count(1)
    expect(strip.get_by_role("button")).to_contain_text("own-lab")
    assert watch.errors == []


def test_generation_advances_without_reloading(open_page: OpenPage) -> None:
    page = open_page()
    shown = page.get_by_test_id("generation")
    expect(shown).to_contain_text(re.compile(r"\d"))
    before = shown.inner_text()
    expect(shown).not_to_have_text(before)


def test_clicking_two_shows_both_ways_against_direct(world: World, open_page: OpenPage, watch: Watch) -> None:
    page = open_page()
    mark(page, "own-gru").click()
    expect(page.get_by_test_id("data-center")).to_contain_text("own-gru")
    mark(page, "own-sin").click()
    expect_route(world, page)
    answer: Any = world.get("/v1/routes/own-gru/own-sin?class=voice")
    assert in_ms(page.get_by_test_id("rtt")) == pytest.approx(answer["rtt_ms"], abs=1)
    forward = page.get_by_test_id("forward")
    expect(forward).to_contain_text(re.compile(r"measured [\d.]+ s ago"))
    expect(page.get_by_text("tendril route own-gru own-sin", exact=True)).to_be_visible()
    ledger = page.get_by_test_id("ledger")
    expect(ledger.locator("li").first).to_contain_text("in force")
    assert ledger.locator("li").count() > 2
    assert watch.errors == []


def test_permalink_reproduces_class_and_map(world: World, open_page: OpenPage) -> None:
    page = open_page("#/routes/own-gru/own-sin?class=video&map=pacific")
    expect_route(world, page)
    expect(page.get_by_role("button", name="video")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Pacific")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("tendril route own-gru own-sin --class video", exact=True)).to_be_visible()


def test_swap_and_class_change_the_address(world: World, open_page: OpenPage) -> None:
    page = open_page("#/routes/own-gru/own-sin?class=voice")
    expect_route(world, page)
    page.get_by_role("button", name="Swap from and to").click()
    expect(page).to_have_url(re.compile(r"#/routes/own-sin/own-gru\?class=voice$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"own-sin\s*→\s*own-gru"))
    page.get_by_role("button", name="bulk").click()
    expect(page).to_have_url(re.compile(r"#/routes/own-sin/own-gru\?class=bulk$"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"class=voice$"))


def test_keyboard_alone_selects_a_route(open_page: OpenPage, watch: Watch) -> None:
    page = open_page()
    expect(mark(page, "own-gru")).to_be_visible()
    focused = "document.activeElement?.getAttribute('data-id') ?? ''"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(focused):
            break
    assert page.evaluate(focused) == "own-fra", "the map is one tab stop, at its first data center"
    page.keyboard.press("ArrowLeft")
    first = page.evaluate(focused)
    assert first in ("own-iad", "own-gru")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"#/data-centers/{first}$"))
    page.keyboard.press("ArrowRight")
    second = page.evaluate(focused)
    assert second != first
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile(rf"#/routes/{first}/{second}\?class=voice$"))
    expect(page.get_by_test_id("rtt")).to_contain_text("ms")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/$"))
    assert watch.errors == []


def test_a_data_center_going_down_is_seen_and_healing_too(world: World, open_page: OpenPage) -> None:
    page = open_page("#/data-centers/own-syd")
    panel = page.locator(".panel")
    expect(panel.locator(".badge[data-state=up]")).to_be_visible()
    world.reporter.silent.add("own-syd")
    try:
        # At first that it is down, then, when somebody is blamed, who: it is the only one either way.
        expect(page.get_by_test_id("verdict")).to_contain_text(re.compile("syd", re.IGNORECASE))
        expect(page.get_by_test_id("verdict")).to_contain_text(re.compile(r"\d of \d vantages?"))
        expect(mark(page, "own-syd")).to_have_attribute("data-state", "down")
        expect(panel.locator(".badge[data-state=down]")).to_be_visible()
    finally:
        world.reporter.silent.discard("own-syd")
        world.wait_for(lambda: world.states()["own-syd"] == "up", "own-syd is up again")
    expect(mark(page, "own-syd")).to_have_attribute("data-state", "up")


def test_unknown_data_center_in_the_address_is_an_answer(open_page: OpenPage) -> None:
    page = open_page("#/data-centers/own-nowhere")
    expect(page.get_by_role("alert")).to_contain_text("There is no data center called own-nowhere")
    page = open_page("#/routes/own-gru/own-nowhere?class=voice")
    expect(page.get_by_role("alert")).to_contain_text("own-nowhere")


def test_a_lost_stream_is_said_and_found_again(open_page: OpenPage) -> None:
    page = open_page()
    page.context.route("**/v1/stream", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("Live stream lost")
    expect(page.get_by_role("alert")).to_contain_text("reconnecting")
    expect(page.get_by_test_id("verdict")).to_contain_text(re.compile(r"As of \d+ s ago"))
    page.context.unroute("**/v1/stream")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_test_id("verdict")).to_contain_text(re.compile("^\\s*All 6 data centers up"))


def test_no_request_leaves_the_host(world: World, open_page: OpenPage, watch: Watch) -> None:
    page = open_page("#/routes/own-gru/own-sin?class=voice")
    expect_route(world, page)
    page.get_by_role("button", name="Events").click()
    expect(page.get_by_role("region", name="Event list")).to_be_visible()
    assert watch.foreign == []
    assert watch.errors == []
    streams = page.evaluate("performance.getEntriesByType('resource').map(e => new URL(e.name).host)")
    assert set(streams) == {watch.host}


def test_phone_width_needs_no_sideways_scrolling(world: World, open_page: OpenPage) -> None:
    page = open_page("#/routes/own-gru/own-sin?class=voice", width=380)
    expect_route(world, page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_on_the_sign_in(open_page: OpenPage, scheme: str) -> None:
    page = open_page("#/", signed_in=False, scheme=scheme)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert axe(page) == ""
