"""The clients benchmark: both forms of input, its log, and that it hides what it says."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.clients.cli import Product, main, spread_edges, task_of
from bench.clients.read import read
from router.core.geography import distance_km

COUNT = 24


def places() -> list[tuple[str, float, float, str]]:
    return [(f"p{i:02d}", -30 + 4.0 * (i * 5 % COUNT), -90 + 12.0 * i, "X" if i % 2 else "Y") for i in range(COUNT)]


@pytest.fixture(params=["matrix", "pairs"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    rtt, locations = tmp_path / "rtt.csv", tmp_path / "locations.csv"
    with locations.open("w", newline="") as file:
        csv.writer(file).writerows([("name", "latitude", "longitude", "country"), *places()])
    ms = {
        (a[0], b[0]): round(10 + 0.017 * distance_km(a[1], a[2], b[1], b[2]), 3)
        for a in places() for b in places() if a != b
    }  # fmt: skip
    with rtt.open("w", newline="") as file:
        names = [p[0] for p in places()]
        rows: list[Any]
        if request.param == "matrix":
            rows = [["", *names], *[[a, *(ms.get((a, b), "") for b in names)] for a in names]]
        else:
            rows = [["source", "destination", "rtt_ms"], *[[a, b, v] for (a, b), v in ms.items() if a < b]]
        csv.writer(file).writerows(rows)
    return rtt, locations


def test_both_forms_say_the_same_and_the_log_has_every_client_twice(files: tuple[Path, Path], tmp_path: Path) -> None:
    world = read(*files)
    assert len(world.places) == COUNT and math.isnan(world.rtt_ms[0, 0]) and world.rtt_ms[0, 1] == world.rtt_ms[1, 0]
    assert len(set(spread_edges(world, 5))) == 5
    log = tmp_path / "log.jsonl"
    edges = "p01,p06,p11,p16,p21"
    arguments = [
        "--rtt",
        str(files[0]),
        "--locations",
        str(files[1]),
        "--edges",
        edges,
        "--log",
        str(log),
        "--hide",
        "8",
    ]
    assert isinstance(main(arguments), bool)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(row["client"], row["evidence"]) for row in rows} == {(p[0], e) for p in places() for e in ("cold", "warm")}
    for row in rows:
        assert row["edge"] in edges and len(row["beacons"]) == (3 if row["evidence"] == "warm" else 0)
        assert len(set(row["beacons"])) == len(row["beacons"]) and set(row) == {"client", "edge", "evidence", "beacons"}


def test_hidden_clients_are_not_in_the_book(files: tuple[Path, Path]) -> None:
    product = Product(task_of(read(*files), ["p01", "p06", "p11"]), [3])
    table = product.view().clients
    assert table is not None
    prefixes = table.networks(5)
    assert product.client(3).prefix not in prefixes and product.client(4).prefix in prefixes


def test_an_unknown_edge_is_named(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="atlantis"):
        task_of(read(*files), ["atlantis"])
