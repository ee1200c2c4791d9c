"""The purchasing file: what it comes to, and mistakes that are told with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.bootstrap import Bootstrap, environment, rules, user_data
from router.core.errors import InputRejected
from router.purchasing import load
from router.settings import Settings

MODULE = Path(__file__).parents[2] / "deploy/terraform/modules/bootstrap/files"
COPIES = Path(__file__).parents[2] / "providers/data/bootstrap"
GOOD = """\
deployment: tests
providers:
  own: {adapter: own, settings: {base_url: "https://power.example"}, budget_usd_per_hour: 5}
  linode:
    adapter: linode
offers:
  - {provider: own, data_center: own-fra, cloud_region: a, size: r, agents: 4, max_machines: 9, price_usd_per_hour: 0.1}
  - provider: linode
    data_center: linode-fra
    cloud_region: eu-central
    size: g6-standard-8
    agents: 2
    max_machines: 20
"""


def settings(folder: Path, text: str) -> Settings:
    path = folder / "purchasing.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings(state_dir=folder, capacity_file=path, capacity_budget_usd_per_hour=7.5)


def test_without_a_file_nothing_is_bought() -> None:
    assert load(Settings()) is None


def test_a_file_comes_to_offers_caps_and_terms(tmp_path: Path) -> None:
    found = load(settings(tmp_path, GOOD))
    assert found is not None
    linode, own = found.buying.offers
    assert (own.price_uusd_h, own.agents, own.quota, own.cloud_region) == (100_000, 4, 9, "a")
    assert linode.price_uusd_h < 0  # the adapter is asked
    terms = found.buying.terms
    assert (terms.budget_uusd_h, terms.provider_uusd_h) == (7_500_000, {"own": 5_000_000})
    assert found.buying.dry_run and found.buying.max_machines == 10


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("deployment: tests", "deployment: Tests!", 1, "must match"),
        ("adapter: linode", "adapter: lenode", 5, "there is no adapter lenode"),
        ("budget_usd_per_hour: 5", "budget_usd_per_hour: -5", 3, "greater than or equal to 0"),
        ("max_machines: 9,", "", 7, "Field required"),
        ("agents: 2", "agents: none", 12, "valid integer"),
        ("eu-central", "eu-centrall", 10, "linode has no region eu-centrall"),
        ("provider: linode\n    data", "provider: vultr\n    data", 8, "vultr is not among `providers`"),
        ("max_machines: 20", "max_machines: 20\n    colour: red", 14, "Extra inputs"),
        ("deployment: tests", "deployment: [tests", 2, "is not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    with pytest.raises(InputRejected) as caught:
        load(settings(tmp_path, GOOD.replace(old, new)))
    assert caught.value.code == "setting_invalid"
    assert f"purchasing.yaml line {line}" in str(caught.value)
    assert said in str(caught.value)


def test_the_same_offer_twice_is_refused(tmp_path: Path) -> None:
    offer = GOOD.splitlines()[6]
    with pytest.raises(InputRejected, match=r"line 8: offers\.1\.size: .* offered twice"):
        load(settings(tmp_path, GOOD.replace(offer, f"{offer}\n{offer}")))


def test_the_start_up_files_are_those_of_the_terraform_module() -> None:
    assert {p.name: p.read_text() for p in COPIES.iterdir()} == {p.name: p.read_text() for p in MODULE.iterdir()}


def test_a_script_holds_what_a_node_needs_and_the_firewall_opens_nothing_else() -> None:
    what = Bootstrap("own-fra-1", "https://t.example", "tj_own-fra_x", run=("start it",), about={"TENDRIL_POOL": "p"})
    told = dict(line.split("=", 1) for line in environment(what).splitlines())
    assert (told["TENDRIL_NODE"], told["TENDRIL_JOIN_TOKEN"], told["TENDRIL_POOL"]) == (
        "own-fra-1",
        "tj_own-fra_x",
        "p",
    )
    assert user_data(what).startswith("#cloud-config\n{")
    assert "udp dport { 862, 7420, 7430, 7431, 7432, 7422, 7423 } accept" in rules()
    assert "tcp dport" not in rules() and "${" not in rules() and "%{" not in rules()
