"""Incident histories become scenarios: both forms, bad files, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.core.errors import InputRejected
from router.sim.document import read_document
from router.sim.incidents import SEVERITIES, as_yaml, read, scenario, scenario_of
from router.sim.scenario import parse

ARCHIVE = """first_notice_utc,last_update_utc,duration_min,service,region,severity_0to3,n_updates,summary,text_600ch
2022-04-06T01:00:00Z,,93,ec2,ap-southeast-1,3,4,[RESOLVED] Power,All instances lost power
2022-04-06T01:00:00Z,,33,ec2,us-east-1,2,2,Delays,in a single Availability Zone
2022-04-06T01:00:00Z,,0,iam,global,1,1,Errors,Increased error rates
"""
STATUSPAGE = """started_utc,resolved_utc,last_update_seen_utc,impact,update_states,title,components
2020-11-12T20:24:48Z,,2020-11-12T21:15:48Z,critical,identified,SGP1 network,Regions / SGP1
2020-11-12T20:24:48Z,,2020-11-12T20:25:18Z,minor,identified,API,Regions / Global; Services / API
"""
DATA = Path(__file__).parents[4] / "shared" / "data"


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_an_archive_row_says_what_happens(tmp_path: Path) -> None:
    path = written(tmp_path, "aws.csv", ARCHIVE)
    whole, partial, soft = (scenario_of(path, row)["faults"][0] for row in (1, 2, 3))
    assert (whole["kind"], whole["target"], whole["for_s"]) == ("outage", "data_center=linode-syd1", 120)
    assert (partial["kind"], partial["share_percent"]) == ("gray", 40.0)
    assert (soft["kind"], soft["target"], soft["for_s"]) == ("brownout", "provider=oracle", 10)
    assert "93 min" in scenario_of(path, 1)["about"]


def test_a_statuspage_row_says_what_happens(tmp_path: Path) -> None:
    found = read(written(tmp_path, "digitalocean.csv", STATUSPAGE))
    assert [(i.provider, i.region, i.minutes, i.partial) for i in found] == [
        ("digitalocean", "sgp1", 51, False),
        ("digitalocean", "global", 0, True),
    ]
    assert scenario(found[0])["faults"][0]["kind"] == "outage"


def test_the_same_row_gives_the_same_scenario_which_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, "aws.csv", ARCHIVE)
    assert scenario_of(path, 3) == scenario_of(path, 3)
    text = as_yaml(scenario_of(path, 2))
    assert parse(read_document(text.encode()), None) == parse(scenario_of(path, 2), None)


def test_bad_files_and_rows_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "aws.csv", ARCHIVE)
    for row in (0, 4):
        with pytest.raises(InputRejected, match="rows 1 to 3") as caught:
            scenario_of(path, row)
        assert (caught.value.code, caught.value.limit) == ("bad_incidents", 3)
    with pytest.raises(InputRejected, match="no columns that are known"):
        read(written(tmp_path, "other.csv", "a,b\n1,2\n"))
    with pytest.raises(InputRejected, match="cannot be read"):
        read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("name", ["incidents_aws_2018-2023.csv", "incidents_digitalocean_2020-2023.csv"])
def test_every_row_of_the_real_histories_is_a_valid_scenario(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    found = read(DATA / name)
    assert len(found) > 400 and {i.severity for i in found} <= set(SEVERITIES)
    kinds = {parse(scenario(incident), None).faults[0].kind.value for incident in found}
    assert {"gray", "brownout"} <= kinds <= {"outage", "gray", "brownout"}
