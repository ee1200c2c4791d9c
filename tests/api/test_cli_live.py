"""The operator CLI against a real control plane over real sockets: what people and scripts see."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli import app
from tests.api.conftest import ADMIN_KEY, World, listening


class Terminal:
    """Runs commands in a thread, as the loop of this test serves them."""

    def __init__(self, url: str) -> None:
        self.env = {"TENDRIL_URL": url, "TENDRIL_KEY": ADMIN_KEY}

    async def try_(self, *arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner(env=self.env).invoke, app, list(arguments))

    async def __call__(self, *arguments: str) -> str:
        """Run a command that must succeed and return what it printed on stdout."""
        result = await self.try_(*arguments)
        assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
        return result.stdout

    async def json(self, *arguments: str) -> dict[str, object]:
        """Run a command with ``-o json``."""
        found = json.loads(await self(*arguments, "-o", "json"))
        assert isinstance(found, dict)
        return found

    async def refused(self, *arguments: str) -> str:
        """Run a command that must end with exit code 1 and return what it printed on stderr."""
        result = await self.try_(*arguments)
        assert result.exit_code == 1, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result.stderr


def words(table: str) -> list[list[str]]:
    """Lines of a table as lists of words."""
    return [line.split() for line in table.splitlines() if line.strip()]


@pytest.fixture
async def tendril(world: World) -> AsyncIterator[Terminal]:
    async with listening(world.app) as url:
        yield Terminal(url)


async def test_route_shows_both_ways_the_saving_and_the_reasons(tendril: Terminal) -> None:
    shown = await tendril("route", "linode-fra", "oracle-iad")
    assert "linode-fra → gcp-ams → oracle-iad" in shown
    assert "oracle-iad → gcp-ams → linode-fra" in shown
    assert "rtt 80.0 ms, direct 120.0 ms, saves 40.0 ms (33.3 %)" in shown
    assert "gcp-ams" in "".join(line for line in shown.splitlines() if line.startswith("  "))
    answer = await tendril.json("route", "linode-fra", "oracle-iad", "--class", "bulk")
    assert answer["class"] == "bulk"


async def test_explain_shows_why_candidates_lost(tendril: Terminal) -> None:
    shown = await tendril("explain", "linode-fra", "oracle-iad")
    assert [line[:2] for line in words(shown) if line[0] == "in"] == [["in", "force"], ["in", "force"]]
    assert "linode-fra → oracle-iad " in shown
    assert "± " in shown
    rule = (await tendril.json("explain", "linode-fra", "oracle-iad"))["rule"]
    for said in ("0.75 ms", "2 %", "34 % times", "16 ms for a second", "doubles", "too many pairs", "left to gain"):
        assert said in rule


async def test_links_and_matrix_agree(tendril: Terminal) -> None:
    lines = words(await tendril("links", "--from", "linode-fra", "--to", "oracle-iad"))
    head, row = lines[0], lines[-1]
    assert head[:4] == ["from", "to", "transport", "state"]
    assert row[:4] == ["linode-fra", "oracle-iad", "internet", "up"]
    assert float(row[5]) == pytest.approx(120, rel=0.02)
    table = {line[0]: line[1:] for line in words(await tendril("matrix"))}
    assert float(table["linode-fra"][2]) == pytest.approx(120, rel=0.02)
    assert table["linode-fra"][1] == "—"
    losses = {line[0]: line[1:] for line in words(await tendril("matrix", "--show", "loss"))}
    assert losses["linode-fra"] == ["0.0", "—", "0.0", "0.0"]


async def test_regions_and_health_show_state_in_words(tendril: Terminal) -> None:
    cells = words(await tendril("regions"))
    assert ["amsterdam", "gcp", "up", "gcp-ams"] in [line[:4] for line in cells]
    health = {line[0]: line for line in words(await tendril("health"))}
    assert health["oracle-iad"][:7] == ["oracle-iad", "oracle", "ashburn", "edge,", "hub", "serving", "up"]
    assert "generation" in health


async def test_a_fleet_file_is_planned_applied_and_pruned(tendril: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "managed_by: night\npools:\n  - {id: night, class: voice}\n"
        "policies:\n  - {id: no-ams, match: {class: bulk}, deny_regions: [amsterdam]}\n",
        encoding="utf-8",
    )
    planned = await tendril("fleet", "plan", str(path))
    assert "+ pools/night" in planned and "+ policies/no-ams" in planned
    assert planned.endswith("Plan: 2 to create, 0 to update, 0 to delete. Nothing was changed.\n")
    assert words(await tendril("pool", "list"))[-1][0] == "tutors"

    assert (await tendril("fleet", "apply", str(path))).endswith("Applied: 2 created, 0 updated, 0 deleted.\n")
    assert await tendril("fleet", "apply", str(path)) == "Applied: no changes.\n"
    path.write_text("managed_by: night\npools:\n  - {id: night, class: video}\n", encoding="utf-8")
    assert "    class: voice -> video" in await tendril("fleet", "plan", str(path))

    path.write_text("managed_by: night\n", encoding="utf-8")
    changes = (await tendril.json("fleet", "apply", str(path), "--prune"))["changes"]
    assert [(c["action"], c["id"]) for c in changes] == [("delete", "night")]  # type: ignore[attr-defined]


async def test_a_fleet_with_one_bad_reference_changes_nothing_and_names_the_line(
    tendril: Terminal, tmp_path: Path
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "providers:\n  - id: vultr\ndata_centers:\n  - id: vultr-nrt\n    provider: vultr\n    region: tokyo\n",
        encoding="utf-8",
    )
    told = await tendril.refused("fleet", "apply", str(path))
    assert f"{path}:6: " in told
    assert "code: unknown_reference" in told
    assert "vultr" not in await tendril("regions")
    assert "tokyo" in told


async def test_a_session_is_started_shown_listed_and_ended(tendril: Terminal, world: World) -> None:
    await world.agent()
    place = ("--lat", "50", "--lon", "8", "--pool", "tutors", "--metadata", "room=blue")
    assert "gcp-ams" in await tendril("session", "start", *place, "--dry-run")
    shown = await tendril("session", "start", *place, "--idempotency-key", "k1")
    facts = dict(line.split(maxsplit=1) for line in shown.splitlines() if not line.startswith("  "))
    assert facts["agent"] == "ai-1 in oracle-iad"
    assert "→ oracle-iad" in facts["forward"]
    assert facts["metadata"] == "room=blue"
    id = facts["session"]

    assert [line[0] for line in words(await tendril("session", "list", "--metadata", "room=blue"))[2:]] == [id]
    assert await tendril("session", "list", "--metadata", "room=red") == "none\n"
    life = await tendril("session", "show", id)
    assert "  session.started  agent=ai-1 " in life and "\n    chose gcp-ams: access " in life
    assert "session.started" not in await tendril("session", "show", id, "--no-events")
    assert [e["kind"] for e in (await tendril.json("session", "show", id))["events"]] == ["session.started"]
    assert "ai-1: 0 of 1" not in (pool := await tendril("pool", "show", "tutors"))
    assert "tutors: 0 of 1 agents ready\n" in pool
    assert pool.endswith("oracle-iad: 0 idle, 1 busy, 0 warming\n")
    assert await tendril("session", "end", id) == f"ended {id}\n"
    assert (await tendril.json("session", "show", id))["end_reason"]


async def test_a_session_nobody_can_take_is_refused_with_what_was_tried(tendril: Terminal) -> None:
    told = await tendril.refused("session", "start", "--lat", "50", "--lon", "8", "--pool", "tutors")
    assert "code: no_idle_agent" in told
    assert "override: " in told


async def test_a_drain_is_planned_started_and_undone(tendril: Terminal) -> None:
    target = "data_center=gcp-ams"
    plan = await tendril("drain", target, "--hard", "--dry-run")
    assert "a hard drain would go like this:" in plan
    assert "dry run: nothing was changed; no rule refuses this plan" in plan
    assert await tendril("drains") == "none\n"
    started = await tendril.json("drain", target, "--hard", "--reason", "works", "--deadline", "10m")
    for _ in range(200):
        line = words(await tendril("drains"))[-1]
        if line[1] == "drained":
            break
        await asyncio.sleep(0.05)
    assert line[:5] == [started["id"], "drained", "hard", target, "gcp-ams"]
    assert "gcp-ams" not in (await tendril("route", "linode-fra", "oracle-iad")).splitlines()[3]
    assert words(await tendril("undrain", target))[-1][1] == "undone"
    assert "code: unknown_drain" in await tendril.refused("undrain", target)
    assert "code: unknown_drain" in await tendril.refused("undrain", "d-none")


async def test_an_unsafe_drain_is_refused_with_the_number_the_limit_and_the_override(tendril: Terminal) -> None:
    await tendril("drain", "provider=oracle")
    for more in ((), ("--dry-run",)):  # three of four edges would be out of rotation
        told = await tendril.refused("drain", "data_center=gcp-ams", *more)
        assert "rule max_drained_share, value 0.75, limit 0.5" in told
        assert "override" in told
    assert len(words(await tendril("drains"))) == 3
    assert "drain d-" in await tendril("drain", "data_center=gcp-ams", "--force")


async def test_keys_are_printed_alone_so_that_scripts_can_take_them(tendril: Terminal, world: World) -> None:
    text = (await tendril("keys", "create", "viewer", "--name", "wall")).strip()
    assert text.startswith("tk_") and "\n" not in text
    assert (await tendril.try_("health", "--key", text)).exit_code == 0
    refused = await tendril.refused("keys", "list", "--key", text)
    assert "code: scope_insufficient" in refused
    id = text.split("_")[1]
    assert id in await tendril("keys", "list")
    assert await tendril("keys", "revoke", id) == f"revoked {id}\n"
    assert "code: key_invalid" in await tendril.refused("health", "--key", text)
    token = (await tendril("keys", "join-token", "gcp-ams", "--expires-in", "15m")).strip()
    assert token and " " not in token


async def test_events_are_printed_oldest_first(tendril: Terminal) -> None:
    lines = words(await tendril("events", "--kind", "data_center.created"))[2:]
    assert len(lines) == 4
    assert lines == sorted(lines, key=lambda line: line[:2])
    assert "code: range_empty" in await tendril.refused(
        "events", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"
    )


async def test_the_support_bundle_has_the_view_and_no_secrets(tendril: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    config = tmp_path / "settings.yaml"
    config.write_text("admin_key: very-secret-admin-key\n", encoding="utf-8")
    assert await tendril("support-bundle", "--file", str(path), "--config", str(config)) == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        parts = {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]
    assert json.loads(parts["tendril-support/problems.json"]) == {}
    assert len(json.loads(parts["tendril-support/intent/data-centers.json"])) == 4
    assert json.loads(parts["tendril-support/view/matrix.json"])["data_centers"][0] == "gcp-ams"
    assert json.loads(parts["tendril-support/settings.json"])["admin_key"] == "***"
    assert not any("very-secret" in text or ADMIN_KEY in text for text in parts.values())


async def test_the_support_bundle_of_a_dead_control_plane_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    result = await Terminal("http://127.0.0.1:9").try_("support-bundle", "--file", str(path))
    assert result.exit_code == 0
    assert "left out view/health.json: unreachable" in result.stderr
    with tarfile.open(path) as archive:
        assert "tendril-support/versions.json" in archive.getnames()


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        (("route", "nowhere", "gcp-ams"), "unknown_data_center", "from"),
        (("explain", "gcp-ams", "nowhere"), "unknown_data_center", "to"),
        (("links", "--transport", "moon"), "unknown_transport", "transport"),
        (("drain", "region=atlantis"), "selector_matches_nothing", None),
        (("session", "show", "s-none"), "unknown_session", None),
        (("pool", "show", "none"), "unknown_pool", None),
        (("session", "start", "--country", "Norway"), "invalid_field", "client.country"),
        (("keys", "create", "king", "--name", "x"), "invalid_field", "scope"),
    ],
)
async def test_refusals_name_code_and_field(
    tendril: Terminal, arguments: tuple[str, ...], code: str, field: str | None
) -> None:
    told = await tendril.refused(*arguments)
    assert f"  code: {code}\n" in told
    assert field is None or f"  field: {field}\n" in told


async def test_what_if_shows_routes_sessions_room_and_what_is_predicted(tendril: Terminal) -> None:
    new = "id=vultr-lhr,provider=vultr,region=london,sessions=50,at=51.5/-0.1,roles=edge+hub"
    shown = await tendril("simulate", "--remove", "provider=gcp", "--remove", "linode-fra:oracle-sin", "--add", new)
    assert shown.startswith("0 of 0 sessions would move; ") and "rules would be broken" not in shown.splitlines()[0]
    assert "room per region" in shown and "vultr-lhr at 51.5, -0.1 (the question): predicted, one way" in shown
    found = await tendril.json("simulate", "--remove", "data_center=gcp-ams", "--named", "0")
    assert found["removed"] == {"data_centers": ["gcp-ams"], "nodes": [], "links": []}
    assert "selector_matches_nothing" in await tendril.refused("simulate", "--remove", "provider=nobody")
    for wrong in ((), ("--add", "id=x"), ("--add", "id=x,provider=x,region=x,at=here")):
        assert (await tendril.try_("simulate", *wrong)).exit_code == 2
