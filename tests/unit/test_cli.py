"""The operator CLI without a control plane: what it reads, what it prints, how it fails, how fast it starts."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import router
from router.cli import app, show
from router.cli.options import Format, duration_s, pairs, selector, selector_text
from router.client import ApiProblem
from router.core.errors import InputRejected, Unsafe

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def run(code: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, check=False, timeout=60)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2d", 172_800), ("1d2h3m4s", 93_784), ("0s", 0)],
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_s(text, "--deadline") == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5m", "5m10h", "1.5h", "m", "5 m"])
def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        duration_s(text, "--deadline")


def test_selectors_are_read_and_written_in_one_order() -> None:
    parts = selector("region=singapore, provider=oracle")
    assert parts == {"region": "singapore", "provider": "oracle"}
    assert selector_text(parts) == "provider=oracle,region=singapore"


@pytest.mark.parametrize(
    "text", ["", "oracle-sin1", "provider=", "cloud=oracle", "provider=a,provider=b", "provider=a,"]
)
def test_what_is_no_selector_is_wrong_usage(text: str) -> None:
    result = call("drain", text, "--url", NOBODY)
    assert result.exit_code == 2
    assert "SELECTOR" in result.stderr


def test_metadata_is_key_value() -> None:
    assert pairs(["a=1", "b=x=y", "c="], "--metadata") == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(typer.BadParameter, match="is not KEY=VALUE"):
        pairs(["a"], "--metadata")


# --- printing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value_ms", "text"),
    [(None, "—"), (0, "0 ms"), (140.4, "140 ms"), (2_500, "2.5 s"), (600_000, "10 min"), (7.2e6, "2 h"), (3e8, "3 d")],
)
def test_ages(value_ms: float | None, text: str) -> None:
    assert show.age(value_ms) == text


def test_unknown_is_a_dash_and_zero_is_zero() -> None:
    assert [show.text(value) for value in (None, "", [], 0, False, ["a", "b"])] == ["—", "—", "—", "0", "no", "a, b"]
    assert [show.number(value) for value in (None, 0, 12.34)] == ["—", "0.0", "12.3"]


def test_a_path_names_transports_other_than_the_presumed_one() -> None:
    way = {"path": ["a", "b", "c"], "transports": ["internet", "backbone"]}
    assert show.path(way) == "a → b →[backbone]→ c"
    assert show.path({"path": ["a"], "transports": []}) == "a"
    assert show.path(None) == "no path"


def test_tables_are_never_cut_in_a_pipe_and_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    long = "[bold]" + "x" * 150
    show.rows(Format.TABLE, {}, ("name", ">number"), [[long, 1.5], ["b", None]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "number"]
    assert lines[2].split() == [long, "1.5"]
    assert lines[3].split() == ["b", "—"]
    assert "\x1b" not in "".join(lines)


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show.rows(Format.TABLE, {}, ("name",), [])
    assert capsys.readouterr().out == "none\n"


def test_a_problem_names_code_field_rule_limit_and_override(capsys: pytest.CaptureFixture[str]) -> None:
    show.problem(Unsafe("drain_unsafe", "too full", field="selector", rule="headroom", limit=15, override="--force"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "tendril: too full",
        "  code: drain_unsafe",
        "  field: selector",
        "  rule: headroom",
        "  limit: 15",
        "  override: --force",
    ]


def test_a_problem_tells_all_that_the_answer_told(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "errors": [{"field": "a", "rule": "first"}, {"field": "b", "rule": "second"}],
        "refusals": [{"rule": "headroom", "message": "full", "value": 4.0, "limit": 15, "override": "--force"}],
        "rejected": [{"data_center": f"dc{i}", "rule": "drained", "detail": "by key:1"} for i in range(12)],
    }
    show.problem(ApiProblem(422, "invalid_field", "a: first", document))
    lines = capsys.readouterr().err.splitlines()
    assert "  also: b: second" in lines
    assert "  refused: full (rule headroom, value 4, limit 15; override: --force)" in lines
    assert "  not dc9: drained: by key:1" in lines
    assert lines[-1] == "  not 2 others"


# --- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("route", "a", "b"), ("explain", "a", "b"), ("links",), ("matrix",), ("regions",), ("health",), ("events",),
        ("drains",), ("drain", "provider=oracle"), ("undrain", "d-1"), ("session", "list"), ("session", "show", "s"),
        ("session", "start"), ("session", "end", "s"), ("pool", "list"), ("pool", "show", "p"), ("keys", "list"),
        ("keys", "create", "viewer", "--name", "me"), ("keys", "revoke", "k"), ("keys", "join-token", "dc"),
    ],
)  # fmt: skip
def test_no_control_plane_is_exit_code_1_with_a_reason_and_no_traceback(arguments: tuple[str, ...]) -> None:
    result = call(*arguments, "--url", NOBODY)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"no control plane answers at {NOBODY}" in result.stderr
    assert "override: name it by --url or TENDRIL_URL" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("route", "a"), ("drain", "provider=a", "--deadline", "soon"), ("regions", "-o", "xml"), ("no-such-command",),
        ("session", "start", "--metadata", "x"), ("session", "start", "--lat", "north"), ("matrix", "--show", "colour"),
        ("fleet", "plan", "no-such-file.yaml"), ("events", "--limit", "0"), ("route", "a", "b", "--class", "smell"),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:7400", "ftp://host", "http://", "http://[::1", "http://host:99999"])
def test_a_bad_address_is_refused_by_name(url: str) -> None:
    result = call("regions", "--url", url)
    assert result.exit_code == 1
    assert "field: --url" in result.stderr


def test_a_bad_key_is_refused_and_not_repeated() -> None:
    result = call("regions", "--url", NOBODY, "--key", "schlüssel")
    assert result.exit_code == 1
    assert "code: key_invalid" in result.stderr
    assert "schlüssel" not in result.stderr


def test_a_broken_fleet_file_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("providers:\n  - id: Oracle!\n", encoding="utf-8")
    for command in ("plan", "apply"):
        result = call("fleet", command, str(path), "--url", NOBODY)
        assert result.exit_code == 1
        assert f"{path}:2: providers[0].id " in result.stderr
        assert "fleet_file_invalid" in result.stderr


def test_pruning_needs_to_know_what_it_owns(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("providers: []\n", encoding="utf-8")
    result = call("fleet", "apply", str(path), "--prune", "--url", NOBODY)
    assert result.exit_code == 1
    assert "field: managed_by" in result.stderr


# --- scenarios -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_scenarios_are_listed_and_run() -> None:
    names = [item["name"] for item in json.loads(call("sim", "list", "-o", "json").stdout)["items"]]
    assert "calm" in names
    outcome = call("sim", "run", "calm", "--seed", "7", "-o", "json")
    assert outcome.exit_code == 0, outcome.stderr
    first = json.loads(outcome.stdout)
    assert first["seed"] == 7
    assert first["violations"] == [] and len(first["digest"]) == 64


def test_an_unknown_scenario_is_refused() -> None:
    result = call("sim", "run", "no-such-scenario")
    assert result.exit_code == 1
    assert "code: unknown_scenario" in result.stderr


def test_a_broken_flight_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    path.write_bytes(b"not a recording")
    result = call("sim", "replay", str(path))
    assert result.exit_code == 1
    assert "code: unreadable_flight_file" in result.stderr


# --- starting --------------------------------------------------------------------------------------------------------


def test_the_help_lists_every_room_of_the_house() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for name in ("agent", "demo", "serve", "route", "drain", "session", "fleet", "sim", "keys", "db", "config"):
        assert f"\n  {name} " in result.stdout
    assert "..." not in result.stdout.partition("\n")[2]  # every command says in one line what it does


def test_the_version_is_that_of_the_distribution() -> None:
    result = call("--version")
    assert result.stdout == f"tendril {router.__version__}\n"
    assert router.__version__[0].isdigit()


def test_help_is_quick() -> None:
    def once() -> float:
        """Processor time, which neighbours on a busy machine do not lengthen as they do the time on the wall."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(["-m", "router", "--help"]).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.5


def test_the_cli_starts_without_the_heavy_rooms() -> None:
    heavy = (
        "numpy",
        "fastapi",
        "sqlalchemy",
        "pydantic",
        "httpx",
        "yaml",
        "networkx",
        "rich",
        "router.demo",
        "router.sim",
    )
    code = f"import sys, router.cli; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(["-c", code]).stdout.strip() == "[]"


def test_agent_starts_without_the_control_plane() -> None:
    code = (
        "import sys\n"
        "from router.__main__ import main\n"
        "try:\n    main(['agent', '--help'])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = ('numpy', 'typer', 'fastapi', 'pydantic', 'sqlalchemy', 'networkx', 'yaml', 'router.cli')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = run(["-c", code])
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert done.stderr.strip() == "[]"


def test_a_missing_control_extra_is_said_plainly() -> None:
    code = (
        "import sys\n"
        "sys.modules['typer'] = None\n"  # what an import finds in a base install
        "from router.__main__ import main\n"
        "sys.exit(main(['regions']))\n"
    )
    done = run(["-c", code])
    assert done.returncode == 1
    assert "typer is not installed" in done.stderr
    assert "pip install 'tendril[control]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_installation_of_our_own_is_not_called_a_missing_extra() -> None:
    code = "import sys; sys.modules['router.cli'] = None; from router.__main__ import main; main(['regions'])"
    done = run(["-c", code])
    assert "ModuleNotFoundError" in done.stderr


def test_expected_failures_of_the_core_are_messages() -> None:
    quick = typer.Typer(cls=type(typer.main.get_command(app)))

    @quick.callback()
    def root() -> None: ...

    @quick.command()
    def fail() -> None:
        raise InputRejected("broken", "it is broken")

    result = CliRunner().invoke(quick, ["fail"])
    assert result.exit_code == 1
    assert result.stderr == "tendril: it is broken\n  code: broken\n"
