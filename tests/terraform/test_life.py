"""The life of every resource: made, planned empty, changed, drifted, imported, used up, and gone."""

from __future__ import annotations

import json

from tests.terraform.conftest import HEAD, Plane, Work

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
  selector = { data_center = tendril_data_center.dc["c"].id }
  reason   = "rack work"
}
"""
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


def joined(plane: Plane, token: str) -> None:
    """A node joins, and says about itself what no configuration says."""
    node = {"id": "fra-a-1", "addresses": {"internet": "192.0.2.7"}, "reflector_port": 7421, "relay_port": 7422}
    plane.call("POST", "/v1/join", {"token": token, "node": node}, 201)


def test_a_whole_fleet_from_apply_to_destroy(plane: Plane, work: Work) -> None:
    work.write(FLEET.replace("SESSIONS", "50"))
    work.run("init", "-no-color")
    assert "11 added, 0 changed, 0 destroyed" in work.apply()
    assert work.empty()

    # A token that is used, a node that has spoken for itself and a drain that has ended are no difference.
    token = json.loads(work.run("show", "-json").stdout)["values"]["root_module"]["resources"]
    secret = next(one["values"]["token"] for one in token if one["type"] == "tendril_join_token")
    joined(plane, secret)
    plane.call("POST", f"/v1/drains/{plane.ids('drains')[0]}/undo")
    plane.stop()
    plane.start()
    assert work.empty()
    assert secret not in work.run("show", "-no-color").stdout

    # Drift: changed and deleted behind Terraform's back, a revoked token; and what nobody configured is left alone.
    plane.call("PUT", "/v1/regions/frankfurt", {"name": "Mainhattan", "country": "DE"})
    plane.call("DELETE", "/v1/policies/eu")
    body = plane.call("GET", "/v1/data-centers/oracle-fra-b") | {"intent": "cordoned"}
    plane.call("PUT", "/v1/data-centers/oracle-fra-b", body)
    assert work.changes() == {"tendril_region.fra": "update", "tendril_policy.eu": "create"}

    # Update in place, replace only what is another thing, and read everything back.
    text = FLEET.replace("SESSIONS", "60").replace('"backbone"', '"fibre"')
    work.write(text)
    assert "2 added, 4 changed, 1 destroyed" in work.apply()
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


def test_everything_can_be_imported_by_id_or_name(plane: Plane, work: Work) -> None:
    fleet = FLEET.replace("SESSIONS", "50")
    work.write(fleet)
    work.run("init", "-no-color")
    work.apply()
    joined(plane, plane.call("POST", "/v1/data-centers/oracle-fra-a/join-tokens", {})["token"])
    (made,) = [t for t in plane.call("GET", "/v1/data-centers/oracle-fra-a/join-tokens")["items"] if not t["used_by"]]
    (work.folder / "terraform.tfstate").unlink()
    ids = IMPORTS | {"tendril_join_token.t": f"{made['id']}/fra-a-1/1"}
    work.write(fleet + "".join(f'import {{\n  to = {to}\n  id = "{id}"\n}}\n' for to, id in ids.items()))
    assert "11 imported, 0 added, 0 changed, 0 destroyed" in work.apply()
    work.write(fleet)
    assert work.empty()
    failed = work.run("import", "-no-color", "tendril_region.fra2", "atlantis", ok=False)
    assert failed.returncode == 1
    work.run("destroy", "-auto-approve", "-no-color")


def test_a_state_of_an_older_version_is_brought_up_to_date(plane: Plane, alone: Work) -> None:
    alone.write(HEAD + 'resource "tendril_region" "r" {\n  id   = "bergen"\n  name = "Bergen"\n}\n')
    alone.run("init", "-no-color")
    alone.apply()
    path = alone.folder / "terraform.tfstate"
    state = json.loads(path.read_text())
    (row,) = state["resources"][0]["instances"]
    row["schema_version"] = 0
    row["attributes"] = {"id": "bergen", "name": "Bergen", "notes": "an attribute that is no more", "revision": 1}
    path.write_text(json.dumps(state | {"serial": state["serial"] + 1}))
    assert alone.empty()
    alone.apply("-refresh-only")
    (row,) = json.loads(path.read_text())["resources"][0]["instances"]
    assert (row["schema_version"], row["attributes"]["shared"], "notes" in row["attributes"]) == (1, False, False)


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
