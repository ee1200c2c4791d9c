"""``tendril agent``: usage, exit codes, a reflector and a one-shot measurement as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import httpx
import pytest

from probes.agent import Backoff
from probes.cli import _bind, _json, _nearest_first, _parser, _table, main
from probes.once import OnceError, Place, Result, fetch_places, find, measure, nearest_candidates

COMMAND = [sys.executable, "-c", "import sys; from probes.cli import main; sys.exit(main(sys.argv[1:]))"]
PLACES = [
    Place("ams-1", "gcp-ams", "192.0.2.1", 7421, 7422, {"bind_host": "127.1.0.1"}),
    Place("fra-1", "linode-fra", "192.0.2.2", 7421, 7422),
    Place("fra-2", "linode-fra", "192.0.2.3", 7421),
]


def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def reflecting() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A reflector process and its port."""
    command = [*COMMAND, "reflect", "--bind", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split()[-1]), process
        finally:
            process.kill()


def test_once_measures_a_reflector_and_says_so_in_json() -> None:
    with reflecting() as (port, process):
        done = agent("once", f"127.0.0.1:{port}", "--count", "5", "--interval", "10", "-o", "json")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        assert (result["sent"], result["received"], result["loss_pct"], result["via"]) == (5, 5, 0.0, [])
        assert 0 <= result["rtt_min_ms"] <= result["rtt_ms"] < 1_000
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(rest)["reflected"] == 5


def test_once_without_an_answer_fails_and_shows_the_loss() -> None:
    done = agent("once", "127.0.0.1:9", "--count", "2", "--interval", "10", "--timeout", "100")
    assert done.returncode == 1
    assert "100.0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required"),
        (["once", "--count", "0"], "from 1 to 100000"),
        (["once", "--via", "a,,b"], "joined by commas"),
        (["reflect", "--port", "70000"], "0 to 65535"),
        (["run", "--address", "198.51.100.7"], "TRANSPORT=HOST"),
        (["once", "-o", "yaml"], "invalid choice"),
    ],
)
def test_wrong_usage_is_2(arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["once", "somewhere"], "neither a known node"),
        (["once"], "need a control plane"),
        (["once", "--via", "a", "b"], "need a control plane"),
        (["run"], "--node and --url"),
        (["run", "--node", "n", "--url", "http://127.0.0.1:9"], "--address"),
        (["reflect", "--bind", "203.0.113.9"], "cannot listen"),
    ],
)
def test_what_fails_is_1_with_a_reason(
    arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TENDRIL_URL", "TENDRIL_NODE", "TENDRIL_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_help_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["once", "--help"]) == 0
    assert "--via" in capsys.readouterr().out


def test_names_are_nodes_first_then_data_centers_then_addresses() -> None:
    assert find(PLACES, "fra-2") is PLACES[2]
    assert find(PLACES, "linode-fra") is PLACES[1]
    assert find(PLACES, "192.0.2.9:862") == Place("192.0.2.9:862", "192.0.2.9:862", "192.0.2.9", 862)
    assert find(PLACES, "[2001:db8::1]:862").host == "2001:db8::1"
    for name in ("nowhere", "host:0", "host:99999", "host:http"):
        with pytest.raises(OnceError, match="neither a known node"):
            find(PLACES, name)
    assert nearest_candidates(PLACES) == PLACES[:2]


def test_as_binds_the_nodes_local_address_and_its_own_port() -> None:
    parse = _parser().parse_args
    assert _bind(parse(["once", "--as", "ams-1"]), PLACES) == (("127.1.0.1", 7426), PLACES[0])
    assert _bind(parse(["once", "--from", "fra-1", "--port", "0"]), PLACES) == (("192.0.2.2", 0), PLACES[1])
    assert _bind(parse(["once", "--bind", "127.0.0.5"]), PLACES) == (("127.0.0.5", 0), None)


def test_results_are_nearest_first_with_what_a_relay_saves() -> None:
    fast = Result(PLACES[0], (), 10, 10, 20_000, 19_000, 100)
    direct = Result(PLACES[1], (), 10, 9, 96_500, 96_000, 300)
    relayed = Result(PLACES[1], ("ams-1",), 10, 10, 84_100, 84_000, 200)
    silent = Result(PLACES[2], (), 10, 0, None, None, None)
    results = [silent, direct, relayed, fast]
    assert _nearest_first(results) == [fast, direct, relayed, silent]
    found = json.loads(_json(results))["results"]
    assert [one["saved_ms"] for one in found] == [None, None, 12.4, None]
    assert found[1]["loss_pct"] == 10.0
    lines = _table(results).splitlines()
    assert "+12.40" in lines[3]
    assert lines[4].split()[3:] == ["-", "-", "-", "100.0"]


async def test_nodes_are_read_page_by_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer tk_x"
        second = request.url.params.get("after") == "c1"
        node = {"id": "b" if second else "z", "data_center": "dc", "addresses": {"internet": "192.0.2.1"},
                "reflector_port": 7421, "relay_port": 0, "labels": {}}  # fmt: skip
        bare = {"id": "bare", "data_center": "dc", "addresses": {}, "labels": {}}
        return httpx.Response(200, json={"items": [node, bare], "next": None if second else "c1"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        places = await fetch_places(client, "http://control/", "tk_x")
    assert [place.node for place in places] == ["b", "z"]


@pytest.mark.parametrize(
    "answer", [httpx.Response(403, json={"detail": "needs viewer"}), httpx.Response(200, text="?")]
)
async def test_a_control_plane_that_refuses_is_named(answer: httpx.Response) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer)) as client:
        with pytest.raises(OnceError, match="http://control"):
            await fetch_places(client, "http://control", "tk_x")


@pytest.mark.parametrize(
    ("via", "said"),
    [((PLACES[2],), "fra-2 does not relay"), ((PLACES[0],) * 4, "at most 4 hops"), ((), "cannot resolve")],
)
async def test_impossible_paths_are_refused(via: tuple[Place, ...], said: str) -> None:
    target = PLACES[1] if via else Place("x", "x", "no-such-host.invalid", 7421)
    with pytest.raises(OnceError, match=said):
        await measure(("127.0.0.1", 0), [(target, via)], count=1, interval_s=0.01, timeout_s=0.01)


def test_backoff_doubles_up_to_its_limit_and_is_jittered() -> None:
    backoff = Backoff(Random(1), first_s=10.0, last_s=80.0)
    assert backoff.over()
    for limit_s in (10, 20, 40, 80, 80, 80):
        backoff.fail()
        assert limit_s / 2 - 1 < backoff.wait_s() <= limit_s
        assert not backoff.over()
    assert backoff.failures == 6
    backoff.reset()
    assert backoff.over()
