"""The fleet file: what is wrong is named by file, line, field and rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.cli.fleet_file import SECTIONS, read
from router.core.errors import InputRejected

GOOD = """\
managed_by: base
providers:
  - id: oracle
regions:
  - {id: oslo, country: "NO", latitude: 59.9, longitude: 10.75}
data_centers:
  - id: oracle-osl1
    provider: oracle
    region: oslo
    roles: [edge, hub]
    capacity:
      sessions: 500
links:
  - {id: a-b, from: oracle-osl1, to: oracle-sin1, transport: fibre}
pools:
  - {id: default, class: agent, max_rtt_ms: 250}
policies:
  - {id: eu-only, match: {class: voice}, deny_regions: [singapore]}
"""
# Nine lists of ten aliases each: a thousand million values in 400 bytes.
BOMB = b"x0: &x0 []\n" + b"".join(
    b"x%d: &x%d [%s]\n" % (i, i, b", ".join([b"*x%d" % (i - 1)] * 10)) for i in range(1, 10)
)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "fleet.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_good_file_is_the_body_of_the_api(tmp_path: Path) -> None:
    found = read(write(tmp_path, GOOD))
    assert found.body["data_centers"][0]["capacity"] == {"sessions": 500}
    assert found.body["regions"][0]["country"] == "NO"
    assert sorted(found.body) == ["data_centers", "links", "managed_by", "policies", "pools", "providers", "regions"]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("data_centers[0].capacity.sessions", 12),
        ("data_centers[0].capacity.mbps", 11),  # not written: the line of what would contain it
        ("data_centers.0.roles", 10),
        ("regions[0].latitude", 5),
        ("data_centers.oracle-osl1.provider", 8),
        ("links.a-b.source", 14),  # a name of the core's: the line of the entry
        ("managed_by", 1),
        ("", None),
        ("nodes[3].id", None),
    ],
)
def test_a_field_of_the_api_is_found_in_the_file(tmp_path: Path, field: str, line: int | None) -> None:
    assert read(write(tmp_path, GOOD)).line_of(field) == line


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "rule"),
    [
        ("latitude: 59.9", "latitude: 91", 5, "regions[0].latitude", "less than or equal to 90"),
        ('country: "NO"', "country: NO", 5, "regions[0].country", "put it in quotes"),
        ("sessions: 500", "sessions: -1", 12, "data_centers[0].capacity.sessions", "greater than or equal to 0"),
        ("sessions: 500", "session: 500", 12, "data_centers[0].capacity.session", "is not a known field"),
        ("    region: oslo\n", "", 7, "data_centers[0].region", "is required"),
        ("id: oracle-osl1", "id: Oracle OSL", 7, "data_centers[0].id", "pattern"),
        ("  - id: oracle\n", "  - name: Oracle\n", 3, "providers[0].id", "is required"),
        ("  - id: oracle\n", "  - id: oracle\n  - id: oracle\n", 4, "providers[1].id", "repeats oracle of line 3"),
        ("managed_by: base", "managed_by: [base]", 1, "managed_by", "must be an id"),
        ("pools:\n", "pool:\n", 15, "pool", "is not a known section"),
        ("providers:\n  - id: oracle\n", "providers: oracle\n", 2, "providers", "must be a list"),
        ("    provider: oracle\n", "    provider: oracle\n    provider: gcp\n", 9, "data_centers[0].provider", "twice"),
        ("roles: [edge, hub]", "roles: [edge, hub", 11, "YAML", "flow sequence"),
        ("roles: [edge, hub]", "roles: [core]", 10, "data_centers[0].roles[0]", "'edge' or 'hub'"),
        ("roles: [edge, hub]", "labels: {since: 2024-01-01}", 10, "data_centers[0].labels.since", "valid string"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, line: int, field: str, rule: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(InputRejected) as caught:
        read(path)
    assert caught.value.code == "fleet_file_invalid"
    assert f"{path}:{line}: {field} " in caught.value.message
    assert rule in caught.value.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        (b"", 1, "is empty"),
        (b"- 1\n", 1, "must be a mapping"),
        (b"providers:\n  - id: \xff\n", 2, "must be UTF-8"),
        (b"providers:\n  - id: \x01\n", 2, "not allowed"),
        (b"providers: &all\n  - *all\n", 1, "must not contain itself"),
        (b"providers: *none\n", 1, "undefined alias"),
        (b"{[1]: 2}\n", 1, "a key that is no text"),
        (b"providers: !!python/object:os.system {}\n", 1, "constructor"),
        (b"[" * 20_000, 1, "too deep"),
        (b"a: 1\n---\nb: 2\n", 2, "another document"),
        (BOMB, 1, "must not have more than 1000000 values"),
    ],
)
def test_what_is_no_fleet_file_is_refused(tmp_path: Path, content: bytes, line: int, rule: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputRejected) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert rule in caught.value.message


def test_all_mistakes_are_named_in_the_order_of_lines_but_not_without_end(tmp_path: Path) -> None:
    entries = "".join(f"  - {{id: x{i}, nmae: y}}\n" for i in range(30))
    with pytest.raises(InputRejected) as caught:
        read(write(tmp_path, f"providers:\n{entries}"))
    shown = caught.value.message.splitlines()
    assert [int(line.split(":")[1]) for line in shown[:-1]] == list(range(2, 22))
    assert shown[-1] == "and 10 more"


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=r"missing\.yaml: No such file"):
        read(tmp_path / "missing.yaml")


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "fleet-file.md").read_text(encoding="utf-8")


def test_the_example_of_the_reference_is_a_good_file(tmp_path: Path) -> None:
    example = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert sorted(read(write(tmp_path, example)).body) == sorted([*SECTIONS, "managed_by"])


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_in_the_reference(section: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{section}` |"))
    for name, field in SECTIONS[section].model_fields.items():
        if name != "revision":
            assert re.search(rf"`{field.alias or name}[`:]", row), f"{section}: {field.alias or name}"
