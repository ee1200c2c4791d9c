"""The life of every resource: made, planned empty, changed, drifted, imported, used up, and gone."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from tests.terraform.conftest import HEAD, Plane, Work, wait_for

FLEET = (
    HEAD
    + """
data "tendril_catalog_region" "fra" {
  provider_id = "oracle"
  code        = "eu-frankfurt-1"
}
resource "tendril_provider" "oracle" {
  id   = "oracle"
  name = "Oracle"
}
resource "tendril_region" "fra" {
  id      = data.tendril_catalog_region.fra.area
  name    = data.tendril_catalog_region.fra.city
  country = data.tendril_catalog_region.fra.country
}
resource "tendril_data_center" "dc" {
  for_each          = toset(["a", "b", "c"])
  id                = "oracle-fra-${each.key}"
  provider_id       = tendril_provider.oracle.id
  region            = tendril_region.fra.id
  roles             = ["hub", "edge"]
  latitude          = data.tendril_catalog_region.fra.latitude
  longitude         = data.tendril_catalog_region.fra.longitude
  capacity          = { sessions = SESSIONS }
  egress_usd_per_gb = 0.0085
  labels            = { managed_by = "terraform", each = each.key }
}
resource "tendril_node" "n" {
  id          = "fra-a-1"
  data_center = tendril_data_center.dc["a"].id
  labels      = { managed_by = "terraform" }
}
resource "tendril_link" "l" {
  id               = "a-to-b"
  from             = tendril_data_center.dc["a"].id
  to               = tendril_data_center.dc["b"].id
  transport        = "backbone"
  capacity_mbps    = 10000
  price_usd_per_gb = 0.02
}
resource "tendril_pool" "tutors" {
  id         = "tutors"
  max_rtt_ms = 50.1
}
resource "tendril_policy" "eu" {
  id              = "eu"
  match           = { class = "voice" }
  allow_providers = [tendril_provider.oracle.id]
}
resource "tendril_join_token" "t" {
  data_center = tendril_data_center.dc["a"].id
  name        = "fra-a-1"
}
resource "tendril_drain" "d" {
  selector   = { data_center = tendril_data_center.dc["c"].id }
  reason     = "rack work"
  depends_on = [tendril_data_center.dc] # a drain of the only edge so far would be refused
}
"""
)
TOKENS = """
resource "tendril_join_token" "late" {
  data_center  = tendril_data_center.dc["b"].id
  name         = "late"
  expires_in_s = 600
}
resource "tendril_join_token" "gone" {
  data_center = tendril_data_center.dc["b"].id
  name        = "gone"
}
"""
# What somebody did behind Terraform's back: path of the object, what of it, and what a plan then wants.
DRIFTS: tuple[tuple[str, dict[str, object], dict[str, str]], ...] = (
    ("providers/oracle", {"name": "Larry"}, {"tendril_provider.oracle": "update"}),
    ("regions/frankfurt", {"name": "Mainhattan", "country": "DE"}, {"tendril_region.fra": "update"}),
    ("data-centers/oracle-fra-a", {"capacity": {"sessions": 7}}, {'tendril_data_center.dc["a"]': "update"}),
    ("data-centers/oracle-fra-b", {"intent": "cordoned"}, {}),  # an intent that nobody configured is nobody's drift
    ("nodes/fra-a-1", {"labels": {"managed_by": "hand"}}, {"tendril_node.n": "update"}),
    ("links/a-to-b", {"capacity_mbps": 1}, {"tendril_link.l": "update"}),
    ("pools/tutors", {"max_rtt_ms": 80}, {"tendril_pool.tutors": "update"}),
)
READ = """
data "tendril_provider" "p" { name = "Oracle" }
data "tendril_region" "r" { id = "frankfurt" }
data "tendril_data_center" "d" { id = "oracle-fra-a" }
data "tendril_node" "n" { id = "fra-a-1" }
data "tendril_link" "l" { id = "a-to-b" }
data "tendril_policy" "p" { id = "eu" }
data "tendril_pool" "p" { id = "tutors" }
data "tendril_join_token" "t" { id = tendril_join_token.t.id }
data "tendril_drain" "d" { id = tendril_drain.d.id }
data "tendril_health" "h" {}
data "tendril_route" "r" {
  from = "oracle-fra-a"
  to   = "oracle-fra-b"
}
output "read" {
  value = [
    data.tendril_provider.p.id, data.tendril_region.r.country, data.tendril_data_center.d.capacity.sessions,
    data.tendril_node.n.data_center, data.tendril_link.l.to, data.tendril_policy.p.match.class,
    data.tendril_pool.p.max_rtt_ms, data.tendril_join_token.t.state, data.tendril_drain.d.selector,
    length(data.tendril_health.h.data_centers), length(data.tendril_route.r.reasons) > 0,
  ]
}
"""
IMPORTS = {
    "tendril_provider.oracle": "name:Oracle",
    "tendril_region.fra": "frankfurt",
    'tendril_data_center.dc["a"]': "oracle-fra-a",
    'tendril_data_center.dc["b"]': "name:oracle-fra-b",
    'tendril_data_center.dc["c"]': "oracle-fra-c",
    "tendril_node.n": "fra-a-1",
    "tendril_link.l": "oracle-fra-a:oracle-fra-b:backbone",
    "tendril_pool.tutors": "tutors",
    "tendril_policy.eu": "eu",
    "tendril_drain.d": "data_center=oracle-fra-c",
}
# The same by the other of both: id where the first is a name, name where it is an id.
OTHERWISE = {
    "tendril_provider.oracle": "oracle",
    "tendril_region.fra": "name:Frankfurt",
    'tendril_data_center.dc["a"]': "name:oracle-fra-a",
    'tendril_data_center.dc["b"]': "oracle-fra-b",
    'tendril_data_center.dc["c"]': "name:oracle-fra-c",
    "tendril_node.n": "name:fra-a-1",
    "tendril_link.l": "a-to-b",
    "tendril_pool.tutors": "name:tutors",
    "tendril_policy.eu": "name:eu",
}


def joined(plane: Plane, token: str) -> None:
    """A node joins, and says about itself what no configuration says."""
    node = {"id": "fra-a-1", "addresses": {"internet": "192.0.2.7"}, "reflector_port": 7421, "relay_port": 7422}
    plane.call("POST", "/v1/join", {"token": token, "node": node}, 201)


def resources(work: Work) -> dict[str, dict[str, Any]]:
    """What Terraform's state has, by address."""
    shown = json.loads(work.run("show", "-json").stdout)["values"]["root_module"]["resources"]
    return {one["address"]: one["values"] for one in shown}


def changed(plane: Plane, path: str, part: dict[str, object]) -> None:
    """Somebody changes a part of an object."""
    there = plane.call("GET", f"/v1/{path}")
    plane.call("PUT", f"/v1/{path}", {name: value for name, value in (there | part).items() if name != "revision"})


def expired(plane: Plane, data_center: str, lasts_us: int) -> None:
    """The time of the unused token that lasts so long is over; the control plane must be down."""
    assert plane.process is None
    with sqlite3.connect(plane.folder / "tendril.db") as database:
        of = "data_center = ? AND used_at IS NULL AND expires_at - created_at = ?"
        done = database.execute(f"UPDATE join_tokens SET expires_at = created_at WHERE {of}", (data_center, lasts_us))
        assert done.rowcount == 1


def test_a_whole_fleet_from_apply_to_destroy(plane: Plane, work: Work) -> None:
    work.write(FLEET.replace("SESSIONS", "50") + TOKENS)
    work.run("init", "-no-color")
    assert "13 added, 0 changed, 0 destroyed" in work.apply()
    assert work.empty()

    # Drift: changed and deleted behind Terraform's back, a revoked token; and what nobody configured is left alone.
    gone = resources(work)["tendril_join_token.gone"]["id"]
    for path, part, _ in DRIFTS:
        changed(plane, path, part)
    plane.call("DELETE", "/v1/policies/eu")
    plane.call("DELETE", f"/v1/join-tokens/{gone}")
    wanted = {"tendril_policy.eu": "create", "tendril_join_token.gone": "create"}
    for _, _, plan in DRIFTS:
        wanted |= plan
    assert work.changes() == wanted
    assert "2 added, 6 changed, 0 destroyed" in work.apply()
    assert work.empty()
    assert plane.call("GET", "/v1/nodes/fra-a-1")["labels"] == {"managed_by": "terraform"}
    assert plane.call("GET", "/v1/data-centers/oracle-fra-a")["capacity"]["sessions"] == 50

    # A token that is used or has expired, a node that has spoken for itself, a drain that is done: no difference.
    held = resources(work)
    secret = held["tendril_join_token.t"]["token"]
    joined(plane, secret)
    drain = held["tendril_drain.d"]["id"]
    wait_for("the drain's end", lambda: plane.call("GET", f"/v1/drains/{drain}")["state"] == "drained")
    assert work.empty()
    plane.call("POST", f"/v1/drains/{drain}/undo")
    plane.stop()
    expired(plane, "oracle-fra-b", 600_000_000)
    plane.start()
    tokens = {
        one["id"]: one["state"] for one in plane.call("GET", "/v1/data-centers/oracle-fra-b/join-tokens")["items"]
    }
    assert tokens[held["tendril_join_token.late"]["id"]] == "expired"
    assert work.empty()
    assert secret not in work.run("show", "-no-color").stdout

    # Update in place, replace only what is another thing, and read everything back.
    text = FLEET.replace("SESSIONS", "60").replace('"backbone"', '"fibre"')
    work.write(text)
    assert "1 added, 3 changed, 3 destroyed" in work.apply()
    work.write(text + READ)
    assert "0 added, 0 changed, 0 destroyed" in work.apply()
    assert plane.call("GET", "/v1/data-centers/oracle-fra-b")["intent"] == "cordoned"
    assert plane.call("GET", "/v1/nodes/fra-a-1")["addresses"] == {"internet": "192.0.2.7"}
    assert work.outputs()["read"] == [
        "oracle", "DE", 60, "oracle-fra-a", "oracle-fra-b", "voice", 50.1, "used", "data_center=oracle-fra-c", 3, True,
    ]  # fmt: skip
    assert work.empty()

    assert "11 destroyed" in work.run("destroy", "-auto-approve", "-no-color").stdout
    kinds = ("providers", "regions", "data-centers", "nodes", "policies", "pools")
    assert {kind: plane.ids(kind) for kind in kinds} == {kind: [] for kind in kinds}


def test_everything_can_be_imported_by_id_and_by_name(plane: Plane, work: Work) -> None:
    fleet = FLEET.replace("SESSIONS", "50")
    work.write(fleet)
    work.run("init", "-no-color")
    work.apply()
    joined(plane, plane.call("POST", "/v1/data-centers/oracle-fra-a/join-tokens", {})["token"])
    (made,) = [t for t in plane.call("GET", "/v1/data-centers/oracle-fra-a/join-tokens")["items"] if not t["used_by"]]
    (drain,) = [one["id"] for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    token = {"tendril_join_token.t": f"{made['id']}/fra-a-1/1"}
    for ids in (IMPORTS | token, OTHERWISE | token | {"tendril_drain.d": drain}):
        (work.folder / "terraform.tfstate").unlink()
        work.write(fleet + "".join(f'import {{\n  to = {to}\n  id = "{id}"\n}}\n' for to, id in ids.items()))
        assert "11 imported, 0 added, 0 changed, 0 destroyed" in work.apply()
        work.write(fleet)
        assert work.empty()
    for address, id in (("tendril_region.fra2", "atlantis"), ("tendril_region.fra2", "name:Atlantis")):
        work.write(fleet + 'resource "tendril_region" "fra2" { id = "atlantis" }\n')
        failed = work.run("import", "-no-color", address, id, ok=False)
        assert failed.returncode == 1 and f"There is no region {id}" in failed.stderr
    work.write(fleet)
    work.run("destroy", "-auto-approve", "-no-color")


def test_a_state_of_an_older_version_is_brought_up_to_date(plane: Plane, work: Work) -> None:
    """Every resource at once: what is no more is left out, what came later starts at its default."""
    work.write(FLEET.replace("SESSIONS", "50"))
    work.run("init", "-no-color")
    work.apply()
    path = work.folder / "terraform.tfstate"
    state = json.loads(path.read_text())
    rows = [row for one in state["resources"] if one["mode"] == "managed" for row in one["instances"]]
    assert len(rows) == 11
    for row in rows:
        row["schema_version"] = 0
        later = ("shared", "drain", "wait", "rotation", "wait_s", "max_relays")
        row["attributes"] = {"notes": "an attribute that is no more"} | {
            name: value for name, value in row["attributes"].items() if name not in later
        }
    path.write_text(json.dumps(state | {"serial": state["serial"] + 1}))
    assert work.empty()
    work.apply("-refresh-only")
    now = {one["type"]: one["instances"][0] for one in json.loads(path.read_text())["resources"]}
    assert {row["schema_version"] for name, row in now.items() if name != "tendril_catalog_region"} == {1}
    assert now["tendril_region"]["attributes"]["shared"] is False
    assert now["tendril_data_center"]["attributes"]["drain"]["timeout_s"] == 600
    assert now["tendril_join_token"]["attributes"]["rotation"] == "1"
    assert not any("notes" in row["attributes"] for row in now.values())
    work.run("destroy", "-auto-approve", "-no-color")


def test_what_several_share_is_adopted_and_the_last_one_deletes_it(plane: Plane, work: Work) -> None:
    shared = HEAD + 'resource "tendril_region" "r" {\n  id     = "oslo"\n  shared = true\n}\n'
    plane.call("PUT", "/v1/regions/oslo", {"name": "Oslo", "country": "NO"})
    plane.call("PUT", "/v1/providers/gcp", {})
    work.write(shared)
    work.run("init", "-no-color")
    work.apply()
    assert work.empty()
    assert plane.call("GET", "/v1/regions/oslo")["name"] == "Oslo"
    plane.call("PUT", "/v1/data-centers/gcp-osl", {"provider": "gcp", "region": "oslo"})
    assert "Left in place" in work.run("destroy", "-auto-approve", "-no-color").stdout
    plane.call("DELETE", "/v1/data-centers/gcp-osl")
    work.apply()
    work.run("destroy", "-auto-approve", "-no-color")
    assert "oslo" not in plane.ids("regions")
