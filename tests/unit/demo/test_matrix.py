"""Measured matrices: both forms, real files, and every way to be wrong."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.core.errors import InputRejected
from router.demo.matrix import load_matrix, slug

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
PAIRS = "provider_a,region_a,provider_b,region_b,rtt_ms\n"
DIRECTED = "src_region,dst_region,p50_rtt_ms\n"


def write(folder: Path, text: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout")
    return path


def test_unordered_pairs_give_both_links_half_of_the_row(tmp_path: Path) -> None:
    world = load_matrix(write(tmp_path, PAIRS + "aws,us-east-1,gcp,asia-east1-a,190.5\naws,us-east-1,aws,eu-1,\n"))
    assert [dc.id for dc in world.data_centers] == ["aws-eu-1", "aws-us-east-1", "gcp-asia-east1-a"]
    assert world.one_way_us("aws-us-east-1", "gcp-asia-east1-a") == 95_250
    assert world.one_way_us("gcp-asia-east1-a", "aws-us-east-1") == 95_250
    assert world.one_way_us("aws-us-east-1", "aws-eu-1") is None
    assert world.one_way_us("aws-eu-1", "gcp-asia-east1-a") is None
    assert world.links == 2
    assert [dc.provider for dc in world.data_centers] == ["aws", "aws", "gcp"]
    assert world.data_centers[2].region == "asia-east1-a"


def test_a_directed_row_is_its_own_link(tmp_path: Path) -> None:
    text = DIRECTED + "Australia Central,East US,200\nEast US,Australia Central,210\nEast US,West India,90\n"
    world = load_matrix(write(tmp_path, text))
    assert [dc.id for dc in world.data_centers] == ["australia-central", "east-us", "west-india"]
    assert world.one_way_us("australia-central", "east-us") == 100_000
    assert world.one_way_us("east-us", "australia-central") == 105_000
    assert world.rtt_us("australia-central", "east-us") == 205_000
    assert world.rtt_us("east-us", "west-india") is None
    assert {dc.provider for dc in world.data_centers} == {"measured"}


def test_directed_with_providers_tiers_and_average(tmp_path: Path) -> None:
    text = (
        "src_provider,src_region,src_tier,dst_provider,dst_region,dst_tier,min_rtt_ms,avg_rtt_ms\n"
        "gcp,x,PREMIUM,aws,y,PREMIUM,9,10\ngcp,x,STANDARD,aws,y,PREMIUM,29,30\n"
    )
    world = load_matrix(write(tmp_path, text))
    assert world.one_way_us("gcp-x", "aws-y") == 5_000
    assert world.links == 1


def test_gzip_bom_blank_lines_self_rows_and_harmless_repetition(tmp_path: Path) -> None:
    text = "\ufeff" + DIRECTED + "a,b,10\n\na,a,0\na,b,10.0\n"
    path = tmp_path / "m.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    world = load_matrix(path)
    assert (world.name, world.links, world.one_way_us("a", "b")) == ("m", 1, 5_000)


def test_positions_and_markets_come_from_the_finder(tmp_path: Path) -> None:
    asked: list[tuple[str | None, str]] = []

    def find(provider: str | None, region: str) -> SimpleNamespace | None:
        asked.append((provider, region))
        found = SimpleNamespace(latitude=1.3, longitude=103.8, city="Singapore", country="SG", area="singapore")
        return found if region == "ap-southeast-1" else None

    world = load_matrix(write(tmp_path, PAIRS + "aws,ap-southeast-1,aws,Nowhere 9,10\n"), find_position=find)
    known, unknown = world.data_centers
    assert (known.region, known.city, known.country, known.latitude) == ("singapore", "Singapore", "SG", 1.3)
    assert (unknown.region, unknown.latitude, unknown.longitude) == ("nowhere-9", None, None)
    assert sorted(asked, key=str) == [("aws", "Nowhere 9"), ("aws", "ap-southeast-1")]
    directed = load_matrix(write(tmp_path, DIRECTED + "ap-southeast-1,b,10\n"), find_position=find)
    assert directed.data_centers[0].latitude == 1.3
    assert (None, "b") in asked


@pytest.mark.parametrize(
    ("text", "line", "field", "rule"),
    [
        ("", 1, "header", "must have the columns"),
        ("a,b,c\n1,2,3\n", 1, "header", "must have the columns"),
        ("slice,src,n0\n0,n0,1\n", 1, "header", "must have the columns"),
        ("src_region,src_region,dst_region,rtt_ms\n", 1, "header", "twice"),
        ("src_provider,src_region,dst_region,rtt_ms\n", 1, "header", "or neither"),
        (DIRECTED, 1, "file", "at least two"),
        (DIRECTED + "a,a,3\n", 1, "file", "at least two"),
        (DIRECTED + "a,b,3\na,c\n", 3, "row", "at least 3 columns"),
        (DIRECTED + "a,b,nan\n", 2, "p50_rtt_ms", "between 0 and 60000"),
        (DIRECTED + "a,b,inf\n", 2, "p50_rtt_ms", "between 0 and 60000"),
        (DIRECTED + "a,b,-1\n", 2, "p50_rtt_ms", "between 0 and 60000"),
        (DIRECTED + "a,b,60000.1\n", 2, "p50_rtt_ms", "between 0 and 60000"),
        (DIRECTED + "a,a,-1\na,b,1\n", 2, "p50_rtt_ms", "between 0 and 60000"),
        (DIRECTED + "a,b,fast\n", 2, "p50_rtt_ms", "must be a number"),
        (DIRECTED + "a,b,1\na,b,2\n", 3, "p50_rtt_ms", "an earlier line says"),
        (DIRECTED + "a,b,1\na,b,\n", 3, "p50_rtt_ms", "an earlier line says"),
        (PAIRS + "p,a,p,b,1\np,b,p,a,2\n", 3, "rtt_ms", "an earlier line says"),
        (PAIRS + "p,,p,b,1\n", 2, "region", "letter or digit"),
        (PAIRS + "?,a,p,b,1\n", 2, "provider", "letter or digit"),
        (DIRECTED + f"{'a' * 64},b,1\n", 2, "region", "must match"),
        (DIRECTED + "East US,b,1\neast-us,b,1\n", 3, "region", "the same id"),
        (DIRECTED + '"a,b,1\n', 2, "file", "must be CSV"),
    ],
)
def test_bad_files_name_line_field_and_rule(tmp_path: Path, text: str, line: int, field: str, rule: str) -> None:
    with pytest.raises(InputRejected) as caught:
        load_matrix(write(tmp_path, text))
    error = caught.value
    assert error.code == "bad_matrix"
    assert error.field == f"line {line}: {field}"
    assert rule in (error.rule or "")
    assert error.message.startswith(f"m.csv, line {line}: {field} ")


def test_the_limit_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputRejected) as caught:
        load_matrix(write(tmp_path, DIRECTED + "a,b,60001\n"))
    assert caught.value.limit == 60_000


def test_too_many_data_centers(tmp_path: Path) -> None:
    rows = "".join(f"n{i},n{i + 1},1\n" for i in range(1_000))
    with pytest.raises(InputRejected) as caught:
        load_matrix(write(tmp_path, DIRECTED + rows))
    assert (caught.value.field, caught.value.limit) == ("line 1001: region", 1_000)


@pytest.mark.parametrize(
    ("content", "name", "rule"),
    [
        (DIRECTED.encode() + b"a,b,1\n\xff,b,2\n", "m.csv", "must be UTF-8"),
        (b"not gzip at all", "m.csv.gz", "is broken gzip"),
        (gzip.compress(DIRECTED.encode() + b"a,b,1\n" * 2_000)[:-20], "m.csv.gz", "is broken gzip"),
    ],
    ids=["not UTF-8", "not gzip", "gzip cut short"],
)
def test_unreadable_bytes(tmp_path: Path, content: bytes, name: str, rule: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputRejected) as caught:
        load_matrix(path)
    assert caught.value.code == "bad_matrix"
    assert rule in (caught.value.rule or "")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="cannot be read: No such file"):
        load_matrix(tmp_path / "none.csv")


def test_slug() -> None:
    assert slug("  São Paulo / East (2) ") == "sao-paulo-east-2"


def test_real_multicloud_matrix() -> None:
    path = real("rtt_dc_multicloud_2022_clean.csv")
    world = load_matrix(path)
    assert len(world.data_centers) == 69
    assert world.links == 4_690  # one of the 2,346 pairs has no clean sample
    assert len(world.hubs) == 8
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            a, b = (f"{row[f'provider_{end}']}-{row[f'region_{end}']}" for end in "ab")
            rtt_us = world.rtt_us(a, b)
            if row["rtt_ms"]:
                assert rtt_us is not None
                assert abs(rtt_us - float(row["rtt_ms"]) * 1_000) <= 1
            else:
                assert rtt_us is None


def test_real_azure_matrix() -> None:
    world = load_matrix(real("rtt_azure_p50_2025.csv"))
    assert len(world.data_centers) == 51
    assert world.links == 2_350
    assert world.one_way_us("australia-central", "australia-central-2") == 1_500
    assert all(delay is None for delay in world.delay_us[world.index["west-india"]])


def test_real_directed_multicloud_matrix_takes_the_premium_grid() -> None:
    world = load_matrix(real("rtt_dc_multicloud_2022.csv"))
    assert (len(world.data_centers), world.links) == (69, 69 * 68)
