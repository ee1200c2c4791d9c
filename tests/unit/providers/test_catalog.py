"""The region catalogue: complete, strict, and agreeing with positions that others published."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from providers import catalog
from providers.catalog import CatalogError, CatalogRegion, distance_km, find_position, load

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
MAX_APART_KM = 150.0

# Where the other list is wrong or gives the middle of a state or country; the named city is the provider's word.
DISPUTED = {
    ("aws", "ca-central-1"): "is in Montréal; the list says Toronto",
    ("aws", "eu-south-2"): "is in Aragón (Zaragoza); the list says Madrid",
    ("aws", "us-gov-east-1"): "is in Ohio; the list gives the middle of the United States",
    ("aws", "us-gov-west-1"): "is in Oregon; the list gives the middle of the United States",
    ("aws", "us-west-2"): "is in eastern Oregon (Boardman); the list says Portland",
    ("azure", "eastus"): "is in northern Virginia; the list gives the middle of the state",
    ("azure", "francecentral"): "is in Paris; the list gives the middle of the country",
    ("azure", "francesouth"): "is in Marseille; the list gives the middle of the south",
    ("azure", "germanynorth"): "is in Berlin; the list says Bremen",
    ("azure", "jioindiacentral"): "is in Nagpur; the list says Pune",
    ("azure", "jioindiawest"): "is in Jamnagar; the list says Mumbai",
    ("azure", "mexicocentral"): "is in Querétaro; the list says Mexico City",
    ("azure", "ukwest"): "is in Cardiff; the list says Liverpool",
    ("azure", "westcentralus"): "is in Cheyenne; the list says western Wyoming",
    ("gcp", "europe-west4"): "is in Eemshaven; the list says Amsterdam",
    ("gcp", "us-central1"): "is in Council Bluffs; the list gives the middle of Iowa",
    ("gcp", "us-east4"): "is in Ashburn; the list gives the middle of Virginia",
    ("gcp", "us-west1"): "is in The Dalles; the list gives the middle of Oregon",
    ("linode", "ap-south"): "is Singapore; the list swaps it with ap-west",
    ("linode", "ap-west"): "is Mumbai; the list swaps it with ap-south",
}
ENTRY = '{code: x1, city: Oslo, country: "NO", latitude: 59.9, longitude: 10.7}'


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"measured data is not on this machine: {name}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def document(*entries: str) -> str:
    return "provider: own\nname: Own\nregions:\n" + "".join(f"  - {entry}\n" for entry in entries)


def test_the_catalogue_covers_the_providers_and_at_least_100_regions() -> None:
    counts = {name: sum(r.provider == name for r in load()) for name in catalog.provider_names()}
    assert sum(counts[p] for p in ("oracle", "gcp", "azure", "linode", "vultr")) >= 100
    assert min(counts[p] for p in ("oracle", "gcp", "azure", "linode", "vultr", "aws")) >= 30
    assert counts["own"] == 0


def test_regions_are_in_order_and_unique() -> None:
    keys = [(r.provider, r.code) for r in load()]
    assert keys == sorted(set(keys))


def test_norway_is_a_text_and_not_false() -> None:
    assert find_position("azure", "norwayeast").country == "NO"  # type: ignore[union-attr]


def test_regions_of_one_area_lie_together() -> None:
    first: dict[str, CatalogRegion] = {}
    for region in load():
        other = first.setdefault(region.area, region)
        apart = distance_km(region.latitude, region.longitude, other.latitude, other.longitude)
        assert apart <= MAX_APART_KM, (region, other)
        assert region.country == other.country, (region, other)


def test_countries_exist() -> None:
    known = {row["iso2"] for row in rows("country_internet_users.csv")}
    unknown = {r.country for r in load()} - known - {"TW"}  # the World Bank's list of countries has no Taiwan
    assert unknown == set()


def test_positions_agree_with_published_ones_except_where_disputed() -> None:
    ours = {(r.provider, r.code): r for r in load()}
    compared, far = 0, set()
    for row in rows("cloud_regions.csv"):
        key = ("oracle" if row["provider"] == "oci" else row["provider"], row["region"])
        if key not in ours or not row["lat"]:
            continue
        compared += 1
        region = ours[key]
        if distance_km(region.latitude, region.longitude, float(row["lat"]), float(row["lon"])) > MAX_APART_KM:
            far.add(key)
    assert compared >= 180
    assert far == set(DISPUTED)


def test_every_region_of_the_multicloud_matrix_has_a_position() -> None:
    table = rows("rtt_dc_multicloud_2022_clean.csv")
    names = {(r[f"provider_{side}"], r[f"region_{side}"]) for r in table for side in "ab"}
    found = {name: find_position(*name) for name in names}
    assert len(names) == 69
    assert [name for name, region in found.items() if region is None] == []
    assert all(region is not None and region.provider == name[0] for name, region in found.items())


def test_every_region_of_the_azure_matrix_has_a_position_without_naming_the_provider() -> None:
    names = {r[column] for r in rows("rtt_azure_p50_2025.csv") for column in ("src_region", "dst_region")}
    found = {name: find_position(None, name) for name in names}
    assert len(names) == 51
    assert [name for name, region in found.items() if region is None or region.provider != "azure"] == []


@pytest.mark.parametrize(
    ("provider", "name", "code"),
    [
        ("gcp", "asia-east1-a", "asia-east1"),
        ("gcp", "europe-west12", "europe-west12"),
        ("gcp", "europe-west1-b", "europe-west1"),
        ("aws", "us-east-1b", "us-east-1"),
        ("oci", "us-ashburn-1-ad-2", "us-ashburn-1"),
        ("akamai", "us-iad", "us-iad"),
        ("azure", "Australia Central 2", "australiacentral2"),
        (None, "Jio India West", "jioindiawest"),
        (None, "East US 2", "eastus2"),
        (None, "us-west-1", "us-west-1"),
        (None, "us-west1", "us-west1"),
    ],
)
def test_decorated_names_are_found(provider: str | None, name: str, code: str) -> None:
    found = find_position(provider, name)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("azure", "East US 3"),  # not a zone of East US
        ("gcp", "us-east10-a"),
        ("gcp", "ap-south-1"),  # another provider's
        ("nimbus", "us-east-1"),
        (None, "uswest1"),  # Oregon of one provider, California of another
        (None, "us-east-1-bos-1a"),  # a local zone far away from its region
        (None, ""),
        ("own", "rack-7"),
    ],
)
def test_unknown_and_ambiguous_names_have_no_position(provider: str | None, name: str) -> None:
    assert find_position(provider, name) is None


def test_a_good_file_is_read() -> None:
    assert catalog.parse("own.yaml", document(ENTRY)) == (CatalogRegion("own", "x1", "Oslo", "NO", 59.9, 10.7, "oslo"),)


@pytest.mark.parametrize(
    ("text", "entry", "field"),
    [
        (document(ENTRY.replace('"NO"', "NO")), "entry 1 (x1)", "country"),
        (document(ENTRY.replace('"NO"', '"nor"')), "entry 1 (x1)", "country"),
        (document(ENTRY.replace("59.9", "90.5")), "entry 1 (x1)", "latitude"),
        (document(ENTRY.replace("10.7", "-181")), "entry 1 (x1)", "longitude"),
        (document(ENTRY.replace("10.7", ".nan")), "entry 1 (x1)", "longitude"),
        (document(ENTRY.replace("10.7", "true")), "entry 1 (x1)", "longitude"),
        (document(ENTRY.replace("x1", "X 1")), "entry 1 (X 1)", "code"),
        (document(ENTRY, ENTRY), "entry 2 (x1)", "code"),
        (document(ENTRY.replace("city: Oslo, ", "")), "entry 1 (x1)", "city"),
        (document(ENTRY.replace("}", ", zone: a}")), "entry 1 (x1)", "zone"),
        (document(ENTRY.replace("}", ", area: Big City}")), "entry 1 (x1)", "area"),
        (document("text"), "entry 1", "entry"),
        ("provider: own\nname: Own\nregions: {}\n", "file", "regions"),
        ("provider: Own\nname: Own\nregions: []\n", "file", "provider"),
        ("provider: own\nname: ''\nregions: []\n", "file", "name"),
        ("provider: own\n", "file", "top level"),
        ("provider: [", "file", "YAML"),
    ],
)
def test_a_broken_file_is_refused_with_file_entry_field_and_rule(text: str, entry: str, field: str) -> None:
    with pytest.raises(CatalogError) as caught:
        catalog.parse("own.yaml", text)
    assert (caught.value.file, caught.value.entry, caught.value.field) == ("own.yaml", entry, field)
    assert caught.value.rule
    assert str(caught.value).startswith(f"own.yaml: {entry}: {field} ")
