"""Mistakes: an error on the right line, before anything is made; nothing half-made when the control plane says no."""

from __future__ import annotations

import json

from tests.terraform.conftest import HEAD, Plane, Work

# Each marked line is a mistake; what follows the mark is part of what the error says.
WRONG = (
    HEAD
    + """
data "tendril_catalog_region" "wrong_provider" {
  provider_id = "oracle"
  code        = "europe-west3"                       # MARK It is a region of gcp
}
data "tendril_catalog_region" "misspelt" {
  provider_id = "oracle"
  code        = "eu-frankfort-1"                     # MARK eu-frankfurt-1
}
resource "tendril_region" "r" {
  id        = "Frankfurt"                            # MARK does not match
  country   = "de"                                   # MARK does not match
  latitude  = 50.1                                   # MARK longitude is missing
}
resource "tendril_data_center" "d" {
  id          = "d"
  provider_id = "oracle"
  region      = "r"
  roles       = ["edge", "router"]                   # MARK must be one of edge, hub
  capacity    = { sessions = -1 }                    # MARK at least 0
  latitude    = 500                                  # MARK at most 90
  longitude   = 1
  intent      = "gone"                               # MARK must be one of
  labels      = { "a b" = "x" }                      # MARK the key
  drain       = { mode = "gently" }                  # MARK soft, hard
}
resource "tendril_node" "n" {
  id             = "n"
  data_center    = "d"
  reflector_port = 70000                             # MARK at most 65535
  addresses      = { internet = "not a host" }       # MARK does not match
}
resource "tendril_link" "l" {
  id   = "l"
  from = "a"
  to   = "a"                                         # MARK must differ
}
resource "tendril_policy" "p" {
  id         = "p"
  max_relays = 9                                     # MARK at most 3
  pin        = ["a", "a"]                            # MARK repeat
  match      = { class = "smoke" }                   # MARK must be one of
}
resource "tendril_pool" "p" {
  id      = "p"
  queue_s = 0.5                                      # MARK whole number
}
resource "tendril_join_token" "t" {
  data_center  = "d"
  name         = "n"
  expires_in_s = 1                                   # MARK at least 10
}
resource "tendril_drain" "d" {
  selector = {}                                      # MARK must name one of
}
"""
)


def marks(text: str) -> dict[int, str]:
    """Line -> what its error must say."""
    lines = enumerate(text.splitlines(), 1)
    return {number: line.split("MARK", 1)[1].strip() for number, line in lines if "MARK" in line}


def test_every_mistake_is_an_error_of_its_own_line(work: Work) -> None:
    work.write(WRONG)
    work.run("init", "-no-color")
    found = json.loads(work.run("validate", "-json", ok=False).stdout)["diagnostics"]
    said: dict[int, str] = {}
    for one in found:
        line = one.get("range", {}).get("start", {}).get("line", 0)
        assert one["range"]["filename"] == "main.tf"
        said[line] = f"{said.get(line, '')} {one['summary']} {one.get('detail', '')}"
    expected = marks(WRONG)
    assert {line: text for line, text in expected.items() if text not in said.get(line, "")} == {}
    assert set(said) == set(expected)
    used = 'resource "tendril_region" "r" { id = "r" }\n'
    work.write(HEAD + 'provider "tendril" {\n  url = "ftp://nowhere"\n}\n' + used)  # alone: Terraform looks no further
    (one,) = json.loads(work.run("validate", "-json", ok=False).stdout)["diagnostics"]
    assert (one["range"]["start"]["line"], one["summary"]) == (HEAD.count("\n") + 2, "Wrong url")


def test_what_terraform_itself_sees(work: Work) -> None:
    text = HEAD + 'resource "tendril_pool" "p" {\n  queue_s = "much"\n  size = 3\n}\n'
    work.write(text)
    work.run("init", "-no-color")
    found = json.loads(work.run("validate", "-json", ok=False).stdout)["diagnostics"]
    first = text.splitlines().index('resource "tendril_pool" "p" {') + 1
    assert sorted(one["range"]["start"]["line"] for one in found) == [first, first + 1, first + 2]


def test_a_refusal_points_at_its_line_and_what_was_made_stays(plane: Plane, work: Work) -> None:
    text = (
        HEAD
        + """
resource "tendril_provider" "gcp" { id = "gcp" }
resource "tendril_data_center" "d" {
  id          = "gcp-d"
  provider_id = tendril_provider.gcp.id
  region      = "atlantis"
}
"""
    )
    work.write(text)
    work.run("init", "-no-color")
    done = work.run("apply", "-auto-approve", "-json", ok=False)
    ((line, said),) = work.errors(done)
    assert text.splitlines()[line - 1].strip() == 'region      = "atlantis"'
    assert "unknown_reference" in said and "atlantis" in said
    assert plane.ids("providers") == ["gcp"] and plane.ids("data-centers") == []

    # Corrected, it goes on from there; then a capacity below what is in use is an error of the plan.
    whole = text.replace('"atlantis"', "tendril_region.r.id").replace(
        '  id          = "gcp-d"\n', '  id          = "gcp-d"\n  capacity    = { sessions = 9 }\n'
    ) + 'resource "tendril_region" "r" { id = "r" }\n'  # fmt: skip
    work.write(whole)
    assert "2 added" in work.apply()
    sessions = [plane.call("POST", "/v1/sessions", {"client": {"country": "DE"}})["id"] for _ in range(3)]
    work.write(whole.replace("sessions = 9", "sessions = 2"))
    ((line, said),) = work.errors(work.run("plan", "-json", ok=False))
    assert "sessions = 2" in (work.folder / "main.tf").read_text().splitlines()[line - 1] and "3 live sessions" in said
    for id in sessions:
        plane.call("DELETE", f"/v1/sessions/{id}")

    # Somebody else's resource is not taken over.
    plane.call("PUT", "/v1/pools/theirs", {"queue_s": 5})
    work.write(whole + 'resource "tendril_pool" "p" { id = "theirs" }\n')
    ((_, said),) = work.errors(work.run("apply", "-auto-approve", "-json", ok=False))
    assert "terraform import tendril_pool.NAME theirs" in said
    assert plane.call("GET", "/v1/pools/theirs")["queue_s"] == 5


def test_what_does_not_come_in_time_is_an_error_of_its_line_and_is_taken_up_by_the_next_apply(
    plane: Plane, work: Work
) -> None:
    node = """
resource "tendril_provider" "own" { id = "own" }
resource "tendril_region" "lab" { id = "lab" }
resource "tendril_data_center" "d" {
  for_each    = toset(["one", "two"])
  id          = "own-${each.key}"
  provider_id = tendril_provider.own.id
  region      = tendril_region.lab.id
}
resource "tendril_node" "n" {
  id          = "own-n"
  data_center = tendril_data_center.d["one"].id
  wait        = { until = "reported", timeout_s = 1 } # nobody has started the machine
}
"""
    work.write(HEAD + node)
    work.run("init", "-no-color")
    ((line, said),) = work.errors(work.run("apply", "-auto-approve", "-json", ok=False))
    assert "nobody has started" in (HEAD + node).splitlines()[line - 1] and "has not reported in 1 s" in said
    assert plane.ids("nodes") == ["own-n"]
    node = node.replace("reported", "declared")
    work.write(HEAD + node)
    assert "1 added" in work.apply() and work.empty()

    # A drain that apply waits for: the session stays, so the time runs out, and the drain goes on.
    session = plane.call("POST", "/v1/sessions", {"client": {"country": "DE"}})
    on = session["edge"]["data_center"]
    drain = f"""
resource "tendril_drain" "d" {{
  selector = {{ data_center = "{on}" }}
  wait_s   = 1 # too short
}}
"""
    work.write(HEAD + node + drain)
    ((line, said),) = work.errors(work.run("apply", "-auto-approve", "-json", ok=False))
    assert "too short" in (HEAD + node + drain).splitlines()[line - 1] and "1 sessions are left on " + on in said
    (going,) = [one["id"] for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    plane.call("DELETE", f"/v1/sessions/{session['id']}")
    work.write(HEAD + node + drain.replace("= 1", "= 30"))
    assert "1 added" in work.apply() and work.empty()
    assert [one["id"] for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"] == [going]
    work.run("destroy", "-auto-approve", "-no-color")


def test_without_a_key_or_a_control_plane_there_is_a_clear_error(plane: Plane, alone: Work) -> None:
    alone.write(HEAD + 'resource "tendril_region" "z" { id = "zz" }\n')
    alone.run("init", "-no-color")
    for env, said in (
        ({"TENDRIL_KEY": ""}, "No key"),
        ({"TENDRIL_KEY": "wrong-key-of-a-stranger"}, "key_"),
    ):
        done = alone.run("apply", "-auto-approve", "-json", ok=False, **env)
        told = {text for _, text in alone.errors(done)}
        assert done.returncode == 1 and any(said in one for one in told)
    assert "zz" not in plane.ids("regions")
