"""Every screen of the dashboard, its actions, and what it says when something is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import axe

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Watch, World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=20_000)

LIMIT_BYTES = 180_000
SCREENS = {
    "#/": "Overview",
    "#/routes": "Find a route",
    "#/matrix": "Matrix",
    "#/matrix?show=gain&order=region": "Matrix",
    "#/links/own-gru/own-sin": "own-gru → own-sin",
    "#/data-centers": "Data centers",
    "#/providers/own": "own",
    "#/drains": "Drains",
    "#/sessions": "Sessions",
    "#/pools": "Pools",
    "#/clients?by=country": "Clients",
    "#/clients?ip=198.51.100.7": "198.51.100.0/24",
    "#/networks/as64500": "AS64500",
    "#/nodes": "Nodes",
    "#/nodes/own-fra-n1": "own-fra-n1",
    "#/events?kind=data_center": "Events and audit",
    "#/keys": "Keys",
}


def turn(page: Page, path: str) -> None:
    """Go to another screen as a link would."""
    page.evaluate("path => { location.hash = path }", path)


def started(world: World, **metadata: str) -> str:
    """Start a session from Lisbon to Singapore; returns its id."""
    body = {"client": {"latitude": 38.7, "longitude": -9.1}, "class": "voice", "to": "own-sin", "metadata": metadata}
    return str(world.post("/v1/sessions", body)["id"])


def test_every_screen_opens_clean_and_accessible(open_page: OpenPage, watch: Watch) -> None:
    page = open_page(scheme="light")
    found = {}
    for path, title in SCREENS.items():
        turn(page, path)
        expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile(title.replace(" → ", r"\s*→\s*")))
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_text("Asking for")).to_have_count(0)
        if said := axe(page):
            found[path] = said
    assert found == {}
    assert (watch.errors, watch.foreign) == ([], [])


def test_the_whole_page_is_small(open_page: OpenPage) -> None:
    page = open_page()
    turn(page, "#/matrix")  # whatever is fetched only when it is opened counts, too
    expect(page.get_by_test_id("cells")).to_be_visible()
    sizes = page.evaluate(
        """Object.fromEntries(
             ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
           .filter(e => !new URL(e.name).pathname.startsWith('/v1/')).map(e => [e.name, e.encodedBodySize]))"""
    )
    assert any("/pages-" in name for name in sizes) and min(sizes.values()) > 0, sizes
    assert sum(sizes.values()) <= LIMIT_BYTES, sizes


def test_a_whole_drain_and_its_undo_by_keyboard_alone(world: World, open_page: OpenPage, watch: Watch) -> None:
    page = open_page("#/drains?selector=data_center=own-lab")
    form = page.locator("form.form")
    expect(form.get_by_label("Which")).to_have_value("own-lab")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.closest('label')?.innerText ?? ''").startswith("Reason"):
            break
    page.keyboard.type("practice by keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("plan")).to_contain_text("own-lab")
    expect(page.get_by_test_id("to-move")).to_have_text(re.compile(r"\d"))
    expect(page.get_by_role("button", name="Start draining own-lab")).to_be_enabled()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/drains/d-[0-9a-f]+$"))
    expect(page.get_by_test_id("left")).to_have_text("0")
    drains: Any = world.get("/v1/drains")
    assert (drains["items"][0]["targets"], drains["items"][0]["reason"]) == (["own-lab"], "practice by keyboard")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.innerText ?? ''").startswith("Undo"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("drain-state")).to_have_text("undone")
    expect(page.get_by_text("by key:")).not_to_have_count(0)
    center: Any = world.get("/v1/data-centers/own-lab")
    assert center["intent"] == "serving"
    assert watch.errors == []


def test_cordon_and_uncordon(world: World, open_page: OpenPage) -> None:
    page = open_page("#/data-centers/own-lab")
    page.get_by_role("button", name="Cordon", exact=True).click()
    expect(page.locator(".three")).to_contain_text("cordoned")
    page.get_by_role("button", name="Uncordon").click()
    expect(page.locator(".three")).to_contain_text("serving")
    center: Any = world.get("/v1/data-centers/own-lab")
    assert center["intent"] == "serving"


def test_pointing_at_a_cell_names_the_pair_and_clicking_opens_the_link(open_page: OpenPage) -> None:
    page = open_page("#/matrix?order=name")
    cells = page.get_by_test_id("cells")
    expect(cells).to_be_visible()
    cells.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    pair = page.get_by_role("region", name="The pair pointed at")
    expect(pair).to_contain_text(re.compile(r"own-fra → own-(lab|sin)"))
    expect(pair).to_contain_text(re.compile(r"Round trip\s*[\d.]+ ms"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/links/own-fra/own-"))
    expect(page.locator(".link-now")).to_contain_text(re.compile(r"[\d.]+ ms"))


def test_a_session_is_found_by_metadata_and_tells_its_story(world: World, open_page: OpenPage) -> None:
    id = started(world, user="anna")
    started(world, user="bert")
    page = open_page("#/sessions?metadata=user%3Danna")
    table = page.get_by_role("region", name="Sessions found")
    expect(table).to_contain_text(id)
    expect(table).not_to_contain_text("bert")
    table.get_by_role("link", name=id).click()
    expect(page).to_have_url(re.compile(rf"#/sessions/{id}$"))
    expect(page.get_by_test_id("story")).to_contain_text("started")
    expect(page.locator(".facts-list")).to_contain_text("anna")


def test_a_new_version_of_agents_is_steered_from_its_pool(world: World, open_page: OpenPage) -> None:
    world.post("/v1/fleet", {"pools": [{"id": "tutors", "ramp_versions": True}]})
    agent = {"data_center": "own-fra", "address": "127.0.0.1:7424"}
    for id, version in (("old-1", "1.0"), ("new-1", "2.0")):
        world.post("/v1/pools/tutors/agents", agent | {"id": id, "version": version})
    page = open_page("#/pools/tutors")
    pool = page.get_by_role("region", name="Pool tutors")
    ramp = pool.get_by_test_id("ramp")
    expect(ramp).to_contain_text("Version 2.0")
    expect(ramp).to_contain_text("1.0 % of users of tutors")
    expect(ramp).to_contain_text("With it 0 sessions")
    ramp.get_by_role("button", name="Next step now").click()
    expect(ramp).to_contain_text("5.0 % of users of tutors")
    assert axe(page) == ""
    ramp.get_by_role("button", name="Roll back").click()
    expect(ramp).to_contain_text("rolled back")
    expect(ramp).to_contain_text("0.0 % of users of tutors")
    turn(page, "#/pools")
    expect(page.get_by_role("region", name="Pool tutors").get_by_test_id("ramp")).to_contain_text("Version 2.0")


def test_without_a_purchasing_file_it_says_that_nothing_is_bought(open_page: OpenPage) -> None:
    page = open_page("#/pools")
    expect(page.get_by_test_id("buying")).to_have_text("Nothing is bought: there is no purchasing file.")


def test_a_viewer_looks_and_does_nothing_else(world: World, open_page: OpenPage) -> None:
    key = str(world.post("/v1/keys", {"scope": "viewer", "name": "wall screen"})["key"])
    page = open_page("#/drains", key=key)
    expect(page.get_by_text("that needs the scope operator")).to_be_visible()
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    turn(page, "#/data-centers/own-fra")
    expect(page.locator(".three")).to_contain_text("serving")
    expect(page.get_by_role("button", name="Cordon")).to_have_count(0)
    turn(page, "#/keys")
    expect(page.get_by_text("Keys are for the scope admin")).to_be_visible()


def test_a_key_is_made_shown_once_and_revoked(open_page: OpenPage) -> None:
    page = open_page("#/keys")
    page.get_by_label("Name").fill("media server 7")
    page.get_by_role("button", name="Make key").click()
    shown = page.locator(".cli code")
    expect(shown).to_have_text(re.compile(r"^tk_[0-9a-f]{12}_"))
    page.get_by_role("button", name="I have kept it").click()
    expect(shown).to_have_count(0)
    page.get_by_role("button", name="Revoke media server 7…").click()
    page.get_by_role("button", name="Revoke media server 7", exact=True).click()
    expect(page.get_by_role("row", name=re.compile("media server 7"))).to_contain_text("revoked")


def test_a_revoked_key_is_said_plainly_and_one_comes_back_to_the_same_screen(world: World, open_page: OpenPage) -> None:
    made = world.post("/v1/keys", {"scope": "viewer", "name": "leaver"})
    page = open_page("#/data-centers?q=own-fra", key=str(made["key"]))
    expect(page.get_by_role("region", name="All data centers")).to_contain_text("own-fra")
    world.delete(f"/v1/keys/{made['id']}")
    expect(page.get_by_role("alert")).to_contain_text("revoked")
    field = page.get_by_label("Key", exact=True)
    field.fill(world.key)
    field.press("Enter")
    expect(page.get_by_role("region", name="All data centers")).to_contain_text("own-fra")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("#/drains/d-000000000000", "no drain d-000000000000"),
        ("#/sessions/s-000000000000", "s-000000000000"),
        ("#/providers/nobody", "provider called nobody"),
        ("#/pools/nobody", "no pool called nobody"),
        ("#/links/own-fra/own-nowhere", "no data center called own-nowhere"),
        ("#/somewhere/else", "no screen at"),
    ],
)
def test_unknown_ids_in_the_address_are_answers(open_page: OpenPage, path: str, said: str) -> None:
    page = open_page(path)
    expect(page.get_by_role("alert").first).to_contain_text(said)


def test_a_clock_that_is_off_is_said_and_ages_stay_right(open_page: OpenPage) -> None:
    page = open_page("#/events")
    page.context.add_init_script("const now = Date.now.bind(Date); Date.now = () => now() + 3_600_000")
    page.reload()
    expect(page.get_by_test_id("skew")).to_contain_text(re.compile(r"60 min ahead"))
    turn(page, "#/data-centers")
    expect(page.get_by_role("row", name=re.compile("own-fra"))).to_contain_text(re.compile(r"\d(\.\d)? s"))


def test_the_finder_goes_anywhere(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_test_id("verdict")).to_contain_text("6 data centers")
    page.keyboard.press("/")
    page.get_by_role("combobox", name=re.compile("^Find")).fill("gru sin")
    expect(page.get_by_role("option").first).to_contain_text("own-gru → own-sin")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/routes/own-gru/own-sin"))
    page.keyboard.press("g")
    page.keyboard.press("m")
    expect(page).to_have_url(re.compile(r"#/matrix$"))
