"""The file of vantage targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.core.errors import InputRejected
from router.core.vantage import Vantages, VantageTarget
from router.vantages import read_vantages

HEAD = "target,kind,host,port,asn,country,latitude,longitude\n"


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "vantage.csv"
    path.write_text(HEAD + "\n".join(lines), encoding="utf-8")
    return path


def test_lines_become_targets(tmp_path: Path) -> None:
    path = file_of(tmp_path, "kz-1,tcp,192.0.2.1,443,AS9198,kz,43.2,76.9", "de-1,icmp,192.0.2.2,,0,DE,,")
    found = read_vantages(path, "noc@example.net")
    assert found.contact == "noc@example.net"
    assert found.targets[0] == VantageTarget("kz-1", "tcp", "192.0.2.1", 443, 9198, "KZ", 43.2, 76.9)
    assert found.targets[1].latitude is not None  # the country's centre
    assert read_vantages(None, "") == Vantages()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,icmp,h,0,1", "is not target,kind"),
        ("a,udp,h,1,1,DE", "not icmp or tcp"),
        ("a,tcp,h,0,1,DE", "tcp needs a port"),
        ("a,icmp,h,7,1,DE", "icmp has none"),
        ("a,icmp,h,0,,", "belong to nobody"),
        ("a,icmp,h,0,4294967296,", "asn is"),
        ("a,icmp,h,0,1,DEU", "two letters"),
        ("a,icmp,h,0,1,DE,91,0", "no place on earth"),
        ("a,icmp,h,0,1,DE,north,0", "north"),
        ("a,icmp,,0,1,DE", "host must have"),
        ("ok,icmp,other,0,1,DE", "target ok is there twice"),
        ("b,icmp,first,0,1,DE", "host first is there twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputRejected) as refused:
        read_vantages(file_of(tmp_path, "ok,icmp,first,0,1,DE", line), "noc@example.net")
    assert refused.value.code == "setting_invalid" and refused.value.field == "vantage_file"
    assert "line 3" in str(refused.value) and said in str(refused.value)


def test_nobody_is_asked_without_a_contact(tmp_path: Path) -> None:
    with pytest.raises(InputRejected) as refused:
        read_vantages(file_of(tmp_path, "a,icmp,h,0,1,DE"), "")
    assert refused.value.field == "vantage_contact"
    with pytest.raises(InputRejected, match="cannot be read"):
        read_vantages(tmp_path / "none.csv", "x")
