"""One instant of a simulated world, looked at on every screen: which numbers are there is known beforehand.

Oracle Frankfurt began to lose packets, was blamed for it and drained by itself; an operator has begun to drain Vultr
Tokyo softly. Nothing moves any more, so what a screen says can be compared word by word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import PHONE, axe, expect_thumb, fits, tab_to

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Still

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=20_000)

VERDICT = (
    "Provider, one place Oracle Frankfurt (oracle-frankfurt) is losing 12.1 % of packets or delivering them late, "
    "seen from 10 of 18 vantages; 18 sessions moved; drained by itself, nothing to do"
)
SCREENS = [
    "#/",
    "#/matrix?show=gain&order=region",
    "#/links/oracle-frankfurt/gcp-tokyo",
    "#/routes/azure-london/linode-sydney?class=voice",
    "#/data-centers",
    "#/data-centers/oracle-frankfurt",
    "#/nodes",
    "#/nodes/oracle-frankfurt-1",
    "#/networks/203.0.113.7",
    "#/networks/as64500",
    "#/providers/oracle",
    "#/regions/frankfurt",
    "#/drains",
    "#/drains/d-2",
    "#/sessions",
    "#/pools",
    "#/pools/agents",
    "#/clients",
    "#/clients?by=country",
    "#/events",
    "#/keys",
]

LEAST_BYTES = 50_000  # an empty page makes a smaller picture
POOL_NUMBERS = [
    "Busy232",
    "Idle168",
    "Buffer, wanted idle564",
    "Expected in 90 s442.8 sessions",
    "Coming up0",
    "Queue0 sessions",
    "Pending launches36",
    "Price of bought machines22.68 USD/h",
]
BY_COLD_START = "arrivals during a cold start"
POOL_ROWS = [
    ("region", ["bahrain", "45", "5", "83", BY_COLD_START, "68.4", "83", "144", "0", "0", "0"]),
    ("region", ["mumbai", "0", "0", "21", BY_COLD_START, "14.4", "21", "48", "0", "0", "0"]),
    ("provider", ["oracle", "26", "24", "0", "12", "0", "5.04 USD/h"]),
    ("provider", ["vultr", "7", "43", "0", "0", "0", "—"]),
]
POOL_PLAN = [
    "6 agents for frankfurt: azure/azure-bahrain/d16s, 0.1514 USD/h each with egress and 59.9 ms of delay",
    "not azure/azure-london/d16s: quota (0, limit 0) the provider lets us have no more",
    "not oracle/oracle-ashburn/e5-8: diversity (772,727, limit 500,000) share of the region in ppm",
    "not linode/linode-mumbai/g6-16: diversity (1,000,000, limit 500,000) share of the region in ppm",
    "azure has 242 of 242 agents in bahrain: others had no room",
]


def settled(page: Page) -> None:
    """The screen has its title and waits for nothing."""
    expect(page.get_by_role("heading", level=1)).not_to_be_empty()
    expect(page.get_by_test_id("verdict")).to_contain_text("Oracle Frankfurt")
    expect(page.get_by_text(re.compile("^Asking for"))).to_have_count(0)


def test_the_verdict_says_who_what_and_that_it_is_done(open_frozen: OpenPage) -> None:
    page = open_frozen()
    verdict = page.get_by_test_id("verdict")
    expect(verdict).to_have_text(VERDICT)
    expect(verdict).to_have_attribute("data-tone", "warn")
    fault = page.locator(".faults li")
    expect(fault).to_have_count(1)
    expect(fault).to_contain_text("18 sessions moved; drained by itself, nothing to do.")
    expect(fault).to_contain_text("99 % sure for")
    expect(fault).to_contain_text("117 probes, 2 session outcomes")
    assert fault.inner_text().count("drained by itself") == 1


def test_the_picture_of_the_readme_can_be_taken_again(open_frozen: OpenPage, tmp_path: Path) -> None:
    folder = Path(os.environ.get("TENDRIL_PICTURES", tmp_path))
    page = open_frozen()
    settled(page)
    expect(page.get_by_test_id("flow")).not_to_have_count(0)
    page.screenshot(path=folder / "dashboard.png")
    assert (folder / "dashboard.png").stat().st_size > LEAST_BYTES


def test_the_grid_tells_blame_and_evidence(open_frozen: OpenPage) -> None:
    page = open_frozen()
    cell = page.get_by_role("link", name=re.compile("^oracle frankfurt: degraded"))
    expect(cell).to_have_attribute("data-state", "degraded")
    told = page.locator(".told")
    expect(told).to_have_text(
        "oracle frankfurt: degraded, at fault: edge region oracle-frankfurt, 99 % sure, "
        "1 degraded; oracle-frankfurt: 11.7 % of probes to it are lost, 0 sessions, 100 % headroom"
    )
    page.get_by_role("link", name=re.compile("^gcp frankfurt: up")).focus()
    expect(told).to_have_text("gcp frankfurt: up, 1 up, 33 sessions, 73 % headroom")
    page.get_by_role("link", name="frankfurt", exact=True).click()
    expect(page).to_have_url(re.compile("#/regions/frankfurt$"))


def test_the_map_shows_flows_and_who_is_out(open_frozen: OpenPage) -> None:
    page = open_frozen()
    expect(page.get_by_role("button", name="oracle-frankfurt, degraded, drained, 0 sessions")).to_be_visible()
    expect(page.get_by_role("button", name="vultr-tokyo, up, draining, 14 sessions")).to_be_visible()
    expect(page.locator(".ring[data-intent=drained]")).to_have_count(1)
    expect(page.get_by_test_id("flow")).not_to_have_count(0)


def test_a_cell_of_the_matrix_is_the_measured_pair(open_frozen: OpenPage) -> None:
    page = open_frozen("#/matrix?order=name")
    cells = page.get_by_test_id("cells")
    expect(page.locator(".beside-matrix li .num").first).to_have_text("311.1 ms")
    row, column, side = 11, 6, 16  # oracle-frankfurt, gcp-tokyo
    box = cells.bounding_box()
    assert box is not None
    cells.hover(position={"x": box["width"] * (column + 0.5) / side, "y": box["height"] * (row + 0.5) / side})
    pair = page.get_by_role("region", name="The pair pointed at")
    for said in ("oracle-frankfurt → gcp-tokyo", "129.4 ms", "59.3 ms", "0.26 ms", "11.77 %", "0.62"):
        expect(pair).to_contain_text(said)
    expect(page.get_by_role("img", name="oracle-frankfurt and gcp-tokyo on the map")).to_be_visible()
    page.get_by_role("button", name="Loss").click()
    expect(page.locator(".beside-matrix li").first).to_contain_text("oracle-frankfurt")


def test_the_ledger_tells_every_candidate(open_frozen: OpenPage) -> None:
    page = open_frozen("#/routes/azure-london/linode-sydney?class=voice")
    expect(page.get_by_test_id("rtt")).to_contain_text("218.1 ms")
    expect(page.get_by_test_id("saved")).to_contain_text("71.4 ms (24.7 %)")
    ledger = page.get_by_test_id("ledger")
    ledger.get_by_role("button", name="return").click()
    rows = ledger.locator("li")
    expect(rows.nth(0)).to_contain_text(re.compile(r"via linode-london\s*in force\s*116\.7"))
    expect(rows.nth(1)).to_contain_text(re.compile(r"via azure-johannesburg\s*lost\s*123\.2\s*\+6\.4"))
    expect(rows.nth(3)).to_contain_text("15.25 ms worse than the path in force")


def test_three_facts_of_a_data_center_and_of_a_provider(open_frozen: OpenPage) -> None:
    page = open_frozen("#/data-centers/oracle-frankfurt")
    expect(page.locator(".three")).to_contain_text(re.compile(r"drained.*degraded.*100 % free", re.DOTALL))
    page = open_frozen("#/providers/oracle")
    facts = page.locator(".three")
    for said in ("2 of 3 serving", "2 of 3 up", "90 % free", "35 sessions, 15 % of all", "24 idle", "26 busy"):
        expect(facts).to_contain_text(said)
    expect(page.locator(".plain-rows li").first).to_contain_text("oracle-frankfurt → oracle-singapore")


def test_three_facts_of_a_node(open_frozen: OpenPage) -> None:
    page = open_frozen("#/nodes?q=oracle")
    table = page.get_by_role("region", name="All nodes")
    expect(table.locator("tbody tr")).to_have_count(3)
    table.get_by_role("link", name="oracle-frankfurt-1").click()
    facts = page.get_by_test_id("three")
    expect(facts).to_contain_text(re.compile(r"Intent\s*serving\s*its data center is drained"))
    expect(facts).to_contain_text(re.compile(r"Health\s*up\s*its probe agent reports, [\d.]+ s old"))
    expect(facts).to_contain_text(re.compile(r"Capacity\s*\d+ sessions?"))
    page.get_by_role("link", name="Drain…").click()
    expect(page.locator("form.form select").first).to_have_value("node")
    expect(page.get_by_label("Which")).to_have_value("oracle-frankfurt-1")


def test_three_facts_of_a_client_network(open_frozen: OpenPage) -> None:
    page = open_frozen("#/clients?by=prefix&sort=loss")
    page.get_by_role("link", name="203.0.113.0/24").click()
    facts = page.get_by_test_id("three")
    expect(facts).to_contain_text(re.compile(r"Intent\s*nearest: linode-mumbai"))
    expect(facts).to_contain_text(re.compile(r"Health\s*degraded\s*suffers: loss, [\d.]+ s old"))
    expect(facts).to_contain_text(re.compile(r"Capacity\s*\d+ sessions?\s*linode-mumbai is \d+ % free"))
    edges = page.get_by_role("region", name="Edges for 203.0.113.0/24")
    expect(edges.get_by_role("row").nth(1)).to_contain_text(re.compile(r"linode-mumbai.*61\.6 ms.*4\.20 %.*measured"))
    page.get_by_role("link", name="All of AS64501").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("AS64501")
    expect(page.get_by_test_id("three")).to_contain_text("suffers: loss")


def test_blame_leads_to_who_is_blamed(open_frozen: OpenPage) -> None:
    page = open_frozen()
    fault = page.locator(".faults li")
    expect(fault.get_by_test_id("whose")).to_have_text("Provider, one place")
    fault.get_by_role("link").click()
    expect(page).to_have_url(re.compile("#/data-centers/oracle-frankfurt$"))


def test_a_drain_says_what_it_waits_for(open_frozen: OpenPage) -> None:
    page = open_frozen("#/drains/d-2")
    expect(page.get_by_test_id("left")).to_have_text("14")
    expect(page.get_by_text("14 sessions must end by themselves: there is no deadline")).to_be_visible()


def test_the_slider_takes_the_busiest_away_and_says_what_follows(open_frozen: OpenPage) -> None:
    page = open_frozen("#/drains")
    slider = page.get_by_role("slider")
    slider.press("ArrowRight")
    answer = page.get_by_test_id("what-if-answer")
    expect(page.get_by_role("list", name="Removed")).to_have_text(re.compile(r"^\s*gcp-frankfurt ×\s*$"))
    expect(answer.locator(".numbers")).to_contain_text(re.compile(r"Sessions to move\s*33"))
    expect(page).to_have_url(re.compile(r"out=gcp-frankfurt"))
    slider.press("ArrowRight")
    expect(answer.locator(".numbers")).to_contain_text(re.compile(r"Sessions to move\s*57"))
    expect(page.get_by_text("tendril simulate --remove data_center=gcp-frankfurt --remove")).to_be_visible()
    page.reload()
    expect(answer.locator(".numbers")).to_contain_text(re.compile(r"Sessions to move\s*57"))
    page.get_by_role("button", name="Keep azure-bahrain").click()
    expect(answer.locator(".numbers")).to_contain_text(re.compile(r"Sessions to move\s*33"))


def test_a_whole_emergency_drain_and_its_undo_on_a_phone(going: Still, open_going: OpenPage) -> None:
    page = open_going("#/data-centers/oracle-singapore", width=PHONE, height=844)
    expect(page.get_by_test_id("verdict")).to_contain_text("Oracle Frankfurt")
    page.get_by_role("link", name="Drain…").click()
    page.get_by_label("How").select_option("hard")
    page.get_by_label("Reason").fill("from a phone, at night")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_test_id("to-move")).to_have_text("19")
    expect_thumb(page, "Start draining oracle-singapore")
    page.get_by_role("button", name="Start draining oracle-singapore").click()
    expect(page).to_have_url(re.compile(r"#/drains/d-[0-9a-f]+$"))
    expect(page.get_by_text("left of 19")).to_be_visible()
    going.let_pass(12)
    expect(page.get_by_test_id("left")).to_have_text("0")
    expect(page.get_by_test_id("drain-state")).to_have_text("drained")
    expect_thumb(page, "Undo: put it back in service")
    page.get_by_role("button", name="Undo: put it back").click()
    expect(page.get_by_test_id("drain-state")).to_have_text("undone")
    expect(page.get_by_text("by key:")).not_to_have_count(0)
    assert going.call("GET", "/v1/data-centers/oracle-singapore")["intent"] in ("canary", "serving")


def test_a_whole_drain_and_its_undo_at_phone_size_by_keyboard_alone(going: Still, open_going: OpenPage) -> None:
    page = open_going("#/data-centers/linode-mumbai", width=PHONE, height=844)
    expect(page.get_by_role("link", name="Drain…")).to_be_visible()
    tab_to(page, "Drain…")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Which")).to_have_value("linode-mumbai")
    tab_to(page, "How")
    page.keyboard.type("hard")
    tab_to(page, "Reason")
    page.keyboard.type("no mouse")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("to-move")).to_have_text(re.compile(r"[1-9]"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/drains/d-[0-9a-f]+$"))
    tab_to(page, "Pause")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("drain-state")).to_have_text("paused")
    tab_to(page, "Resume")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("drain-state")).not_to_have_text("paused")
    going.let_pass(12)
    expect(page.get_by_test_id("left")).to_have_text("0")
    tab_to(page, "Undo")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("drain-state")).to_have_text("undone")
    assert fits(page)


def test_an_unsafe_undo_is_refused_with_its_number_and_can_be_forced(going: Still, open_going: OpenPage) -> None:
    drain = next(one for one in going.call("GET", "/v1/drains")["items"] if one["targets"] == ["oracle-frankfurt"])
    page = open_going(f"#/drains/{drain['id']}")
    page.get_by_role("button", name="Undo: put it back").click()
    refusals = page.get_by_role("list", name="Refusals")
    expect(refusals).to_contain_text(re.compile(r"[\d.]+ against the limit [\d.]+"))
    assert axe(page) == ""
    page.get_by_role("button", name="Leave it out").click()
    expect(refusals).to_have_count(0)
    page.get_by_role("button", name="Undo: put it back").press("Enter")
    page.get_by_role("button", name="Undo anyway").press("Enter")
    expect(page.get_by_test_id("drain-state")).to_have_text("undone")
    assert going.call("GET", "/v1/data-centers/oracle-frankfurt")["intent"] == "serving"


def test_a_pool_says_what_it_will_need_and_what_is_bought_for_it(open_frozen: OpenPage) -> None:
    page = open_frozen("#/pools")
    expect(page.get_by_test_id("buying")).to_contain_text(
        re.compile(r"Machines are bought\.\s*36 of 60 machines, 22\.68 USD/h of 44\.00 USD/h\.\s*counted [\d.]+ s ago")
    )
    pool = page.get_by_role("region", name="Pool agents")
    expect(pool.locator(".numbers.four > div")).to_have_text(POOL_NUMBERS)
    expect(pool).to_contain_text(
        re.compile(r"Buffer and forecast were counted [\d.]+ s ago; all else was asked [\d.]+ s ago")
    )
    for table, cells in POOL_ROWS:
        row = page.get_by_role("region", name=f"agents by {table}").get_by_role("row", name=re.compile(f"^{cells[0]}"))
        expect(row.locator("th, td")).to_have_text(cells)
    plan = page.get_by_test_id("purchase-plan")
    expect(plan).to_contain_text(re.compile(r"Last plan, by programme: 0\.76 USD/h, [\d.]+ s old"))
    for number, said in enumerate(POOL_PLAN):
        expect(plan.get_by_role("listitem").nth(number)).to_have_text(said)
    page.get_by_role("link", name="agents", exact=True).click()
    launches = page.get_by_role("region", name="Launches for agents")
    expect(launches.locator("tbody tr")).to_have_count(36)
    launch = launches.get_by_role("row").nth(1)
    expect(launch).to_contain_text(re.compile(r"l-000036\s*pending.*azure/azure-bahrain/d16s\s*24\s*0\.760 USD/h"))
    launch.get_by_text("Why this one").click()
    expect(launch.get_by_text("not azure/azure-london/d16s: quota (0, limit 0)")).to_be_visible()


def test_who_suffers(open_frozen: OpenPage) -> None:
    page = open_frozen("#/clients?sort=loss")
    expect(page.get_by_role("row").nth(1)).to_contain_text(
        re.compile(r"AS64501\s*IN\s*loss\s*linode-mumbai\s*61\.5 ms")
    )


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_on_any_screen(open_frozen: OpenPage, scheme: str) -> None:
    page = open_frozen(scheme=scheme)
    found = {}
    for path in SCREENS:
        page.evaluate("path => { location.hash = path }", path)
        settled(page)
        if said := axe(page, colours_only=scheme == "light"):
            found[path] = said
    assert found == {}


def test_every_screen_fits_a_phone(open_frozen: OpenPage) -> None:
    page = open_frozen(width=PHONE, height=844)
    expect(page.get_by_test_id("verdict")).to_have_text(VERDICT)
    wide = []
    for path in SCREENS:
        page.evaluate("path => { location.hash = path }", path)
        settled(page)
        if not fits(page):
            wide.append(path)
    assert wide == []
