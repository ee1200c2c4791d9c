"""Destroy with live sessions: refused, with everything kept; and carried out as soon as the last one has left."""

from __future__ import annotations

import json
import threading

from tests.terraform.conftest import HEAD, Plane, Work, wait_for

PLACES = (
    HEAD
    + """
resource "tendril_provider" "gcp" { id = "gcp" }
resource "tendril_region" "r" { id = "r" }
resource "tendril_data_center" "dc" {
  for_each    = toset(["one", "two", "three", "four"])
  id          = "gcp-${each.key}"
  provider_id = tendril_provider.gcp.id
  region      = tendril_region.r.id
  latitude    = 50
  longitude   = each.key == "one" ? 8 : 20
  capacity    = { sessions = 100 }
  drain       = { timeout_s = TIMEOUT, mode = "soft" }
}
"""
)


def test_destroy_refuses_while_sessions_live_and_drains_until_they_are_gone(plane: Plane, work: Work) -> None:
    work.write(PLACES.replace("TIMEOUT", "1"))
    work.run("init", "-no-color")
    work.apply()
    session = plane.call("POST", "/v1/sessions", {"client": {"latitude": 50, "longitude": 8}})
    assert session["edge"]["data_center"] == "gcp-one"

    fewer = PLACES.replace('"one", ', "")
    work.write(fewer.replace("TIMEOUT", "1"))
    ((_, said),) = work.errors(work.run("apply", "-auto-approve", "-json", ok=False))
    assert "1 live sessions" in said and session["id"] in said and "tendril undrain" in said
    state = json.loads((work.folder / "terraform.tfstate").read_text())
    kept = [one["attributes"]["id"] for r in state["resources"] for one in r["instances"]]
    assert "gcp-one" in kept and "gcp-one" in plane.ids("data-centers")
    talks = plane.call("GET", f"/v1/sessions/{session['id']}")
    assert talks["state"] not in ("ended", "lost") and talks["edge"]["data_center"] == "gcp-one"  # soft moves nobody
    (drain,) = [one for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    assert (drain["selector"], drain["reason"]) == ("data_center=gcp-one", "terraform destroy")

    # Again, with time: it takes the drain that is open, and deletes when the last session has gone.
    work.write(fewer.replace("TIMEOUT", "120"))
    path = work.folder / "terraform.tfstate"
    path.write_text(path.read_text().replace('"timeout_s": 1', '"timeout_s": 120'))  # the orphan's own block is gone
    said_later: list[str] = []
    applying = threading.Thread(target=lambda: said_later.append(work.apply(ok=False)))
    applying.start()
    wait_for("the destroy to begin", lambda: "still" not in plane.ids("data-centers") and applying.is_alive())
    plane.call("DELETE", f"/v1/sessions/{session['id']}")
    applying.join(timeout=120)
    assert "1 destroyed" in said_later[0]
    assert "gcp-one" not in plane.ids("data-centers")
    (still,) = [one for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    assert still["id"] == drain["id"]
