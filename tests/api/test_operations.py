"""What needs no key, what a start leaves behind, and that no secret gets into a log line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import structlog

from router.api.gate import key_text
from router.api.reference import metrics_of
from router.bootstrap import ADMIN_KEY_FILE, build, ensure_admin_key, serve
from router.core.errors import Unavailable
from router.core.kernel import COMPILED
from router.core.tables import HeldBack, View
from router.settings import Settings
from router.store import Store
from router.telemetry import redacted, set_up_logs
from tests.api.conftest import ADMIN_KEY, World, report_of

ROOT = Path(__file__).parents[2]


async def test_alive_ready_and_the_dashboard_need_no_key(bare: World) -> None:
    del bare.http.headers["Authorization"]
    for path in ("/healthz", "/readyz"):
        assert await bare.get(path) == {"status": "ok"}
    page = await bare.http.get("/")
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")


async def test_metrics_show_the_view_and_label_by_data_center_reason_kind_and_state_alone(world: World) -> None:
    await world.agent()
    await world.session()
    await world.http.post("/v1/reports", content=b"{", headers=world.node_headers("gcp-ams-1"))
    text = (await world.http.get("/metrics", headers={"Authorization": ""})).text
    values = {name: float(value) for name, value in re.findall(r"^(tendril_\S+) (\S+)$", text, re.MULTILINE)}
    assert values['tendril_data_center_state{data_center="gcp-ams"}'] == 1
    assert values['tendril_data_center_serving{data_center="gcp-ams"}'] == 1
    assert sum(value for name, value in values.items() if name.startswith("tendril_data_center_sessions")) == 1
    assert values['tendril_data_center_agents_busy{data_center="oracle-iad"}'] == 1
    assert values["tendril_generation"] == world.app.runtime.view.generation
    assert values["tendril_reports_accepted_total"] >= 4 and values["tendril_reports_rejected_total"] == 1
    assert values["tendril_solves_total"] >= 1 and values["tendril_solve_seconds_total"] > 0
    assert values["tendril_links_up"] == 12 and values["tendril_link_age_seconds_max"] >= 0
    labels = {label for name in values for label in re.findall(r'(\w+)="', name)}
    assert labels == {"data_center", "reason", "kind", "state"}
    assert all(
        'kind="' not in name or name.startswith(("tendril_blamed{", "tendril_links_doubted{")) for name in values
    )


async def test_metrics_count_what_was_not_believed_and_what_was_held_back(world: World) -> None:
    now, headers = world.app.runtime.now(), world.node_headers("gcp-ams-1")
    await world.post("/v1/reports", report_of("gcp-ams", world.sequence, now), headers=headers)  # once more
    liar = report_of("gcp-ams", world.sequence + 1, now)
    liar["rows"]["rtt_min_us"][0] = liar["rows"]["forward_min_us"][0] = liar["rows"]["backward_min_us"][0] = 1
    await world.post("/v1/reports", liar, headers=headers)
    await world.app.runtime.routes_settled()
    text = (await world.http.get("/metrics")).text
    refused = dict(re.findall(r'^tendril_evidence_refused_total{reason="(\w+)"} (\S+)$', text, re.MULTILINE))
    assert refused == {"duplicate": "1.0", "faster_than_light": "1.0"}
    view = world.app.runtime.view
    assert view.routes is not None
    table = replace(view.routes, held_back=view.routes.held_back.copy())
    table.held_back[...] = HeldBack.NOT
    table.held_back[0, 0, 1] = table.held_back[1, 0, 1] = HeldBack.RISK
    table.held_back[0, 1, 0] = HeldBack.DWELL
    seen = next(m for m in metrics_of(_Looked(replace(view, routes=table))) if m.name == "tendril_routes_held_back")
    held = {sample.labels["reason"]: sample.value for sample in seen.samples}
    assert held == {"absolute": 0, "relative": 0, "windows": 0, "risk": 2, "dwell": 1, "herd": 0, "regret": 0}
    assert f"tendril_kernel_compiled {float(COMPILED)}" in text


class _Looked:
    """A control plane that shows one view."""

    solves, solve_seconds, failures, inbox_depth, batches, requests = 0, 0.0, 0, 0, 0, 0

    def __init__(self, view: View) -> None:
        self.view = view
        self.counts = self.turnstile = self

    def now(self) -> int:
        """The time of the view."""
        return self.view.now


def test_every_reason_is_documented() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \| [^|]* \|$", page, re.MULTILINE))
    core = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "router/core").rglob("*.py"))
    refusals = set(re.findall(r'_refuse\("(\w+)"|_?refused\["(\w+)"\]', core))
    refusals |= {(name, "") for name in re.findall(r'return "(beacon_\w+)"', core)}
    wanted = {reason.name.lower() for reason in HeldBack} - {"not"} | {a or b for a, b in refusals}
    assert len(wanted) >= 11 and wanted == documented


async def test_every_metric_is_documented(world: World) -> None:
    text = (await world.http.get("/metrics")).text
    served = dict(re.findall(r"^# TYPE (tendril_\S+) (\S+)$", text, re.MULTILINE))
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(tendril_\S+)` \| (\S+) \|", page, re.MULTILINE))
    assert documented == served


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, flight_recorder_mb=0)
    store = Store(settings.database)
    store.upgrade()
    ensure_admin_key(store, settings, 1)
    path = tmp_path / ADMIN_KEY_FILE
    text = path.read_text().strip()
    assert re.fullmatch(r"tk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ensure_admin_key(store, settings, 2)  # the next start
    assert path.read_text().strip() == text
    stored = store.keys()
    assert [key.scope for key in stored] == ["admin"]
    store.close()
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")  # the file outlived its database
    other.upgrade()
    ensure_admin_key(other, settings, 3)
    let_in = other.keys()
    assert [f"tk_{key.id}" for key in let_in] == [text[:15]]
    other.close()


def test_an_operators_own_key_text_has_one_canonical_form() -> None:
    assert key_text("tk_abc") == "tk_abc"
    assert re.fullmatch(r"tk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key_text(ADMIN_KEY))
    assert key_text(ADMIN_KEY) == key_text(ADMIN_KEY) != key_text(ADMIN_KEY + "x")


async def test_a_restart_keeps_intent_keys_and_the_order_of_generations(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, admin_key=ADMIN_KEY, flight_recorder_mb=1)
    generations = []
    for start in range(2):
        app = build(settings)
        await app.start()
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app.http), base_url="http://t", headers=headers
        ) as http:
            if start == 0:
                assert (await http.put("/v1/providers/gcp", json={"name": "kept"})).status_code == 201
            assert (await http.get("/v1/providers/gcp")).json()["name"] == "kept"
            assert len((await http.get("/v1/keys")).json()["items"]) == 1
        await app.runtime.routes_settled()
        generations.append(app.runtime.view.generation)
        await app.stop()
    assert 0 < generations[0] < generations[1] < 2**53


async def test_serve_listens_tells_where_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(state_dir=tmp_path, port=0, flight_recorder_mb=0)
    told: asyncio.Queue[str] = asyncio.Queue()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    serving = asyncio.ensure_future(serve(settings, told.put_nowait))
    try:
        url = await asyncio.wait_for(told.get(), 30)
        key = (tmp_path / ADMIN_KEY_FILE).read_text().strip()
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as http:
            assert (await http.get("/readyz")).status_code == 200
            assert (await http.get("/v1/keys")).status_code == 200
        taken = Settings(state_dir=tmp_path / "second", port=int(url.rpartition(":")[2]), flight_recorder_mb=0)
        with pytest.raises(Unavailable, match="cannot listen"):
            await serve(taken)
    finally:
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    shown = capsys.readouterr()
    assert f"{url}/" in shown.out and str(tmp_path / ADMIN_KEY_FILE) in shown.out
    assert key not in shown.out + shown.err


SECRETS = (
    "tk_0123456789ab_" + "S" * 43,
    "tj_oracle-sin1_" + "S" * 43,
    "s-0123456789ab.3.1700000000000000." + "S" * 43,
    "Bearer " + "S" * 20,
    "postgresql+psycopg://tendril:SSSSSS@db/tendril",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_struck_out(secret: str) -> None:
    assert "SSSS" not in redacted(f"before {secret} after")
    assert redacted(f"before {secret} after").endswith(" after") or "db/tendril" in redacted(secret)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_gets_into_a_log_line(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    try:
        set_up_logs(log_format, "info")
        log = structlog.get_logger("tendril.test")
        for secret in SECRETS:
            log.info("event", note=f"got {secret}", nested={"list": [secret], "token": secret}, key=secret)
            logging.getLogger("somebody.else").warning("they said %s", secret)
            try:
                raise ValueError(f"bad {secret}")
            except ValueError:
                log.exception("failed")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    text = out.getvalue()
    assert "SSSS" not in text
    assert text.count("they said") == len(SECRETS) and text.count("failed") >= len(SECRETS)
    if log_format == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        assert {line["level"] for line in lines} == {"info", "warning", "error"}
