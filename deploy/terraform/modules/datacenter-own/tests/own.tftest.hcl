# Nothing is mocked: Tendril's provider and control plane are real (TENDRIL_URL, TENDRIL_KEY).
provider "tendril" {}

variables {
  code                  = "t-own"
  region                = "frankfurt"
  location              = { latitude = 50.11, longitude = 8.68 }
  control_url           = "https://tendril.example.org"
  capacity              = { sessions = 2000, mbps = 20000 }
  labels                = { tier = "core" }
  machine_usd_per_month = 100
  nodes = {
    a = { address = "198.51.100.10", media_url = "wss://a.t-own.example.org" }
    b = { address = "2001:db8::b" }
  }
}

run "racks" {
  command = apply

  assert {
    condition     = output.data_center_id == "t-own" && output.node_ids == { a = "t-own-a", b = "t-own-b" }
    error_message = "the data center and its nodes are named after code"
  }

  assert {
    condition     = tendril_data_center.this.provider_id == "own" && tendril_data_center.this.region == "frankfurt" && tendril_data_center.this.latitude == 50.11 && tendril_data_center.this.longitude == 8.68
    error_message = "it stands where it was said to"
  }

  assert {
    condition     = tendril_data_center.this.capacity.sessions == 2000 && tendril_data_center.this.capacity.mbps == 20000 && tendril_data_center.this.labels == tomap({ managed_by = "terraform", tier = "core" }) && tendril_data_center.this.drain.timeout_s == 600
    error_message = "capacity, labels and drain arrive"
  }

  assert {
    condition     = alltrue([for name, one in tendril_node.this : one.addresses["internet"] == var.nodes[name].address && one.media_url == var.nodes[name].media_url && one.data_center == "t-own"])
    error_message = "nodes are reached where they stand"
  }

  assert {
    condition     = alltrue([for name, text in output.user_data : strcontains(base64decode(jsondecode(trimprefix(text, "#cloud-config\n")).write_files[0].content), "TENDRIL_NODE=t-own-${name}\nTENDRIL_URL=https://tendril.example.org\nTENDRIL_JOIN_TOKEN=${tendril_join_token.this[name].token}\nTENDRIL_ADDRESS=${var.nodes[name].address}\n")])
    error_message = "cloud-init carries the node's name, token and address"
  }

  assert {
    condition     = output.addresses["a"].v4 == "198.51.100.10" && output.addresses["a"].v6 == null && output.addresses["b"].v4 == null && output.addresses["b"].v6 == "2001:db8::b" && keys(output.native_ids) == ["a", "b"]
    error_message = "addresses are told by family"
  }

  assert {
    condition     = output.estimated_monthly_usd == 200 && alltrue([for name, one in output.join_state : one.token_id == tendril_join_token.this[name].id && one.expires_at != ""])
    error_message = "money and tokens are told"
  }
}

run "second_plan" {
  command = plan

  assert {
    condition     = output.node_ids == run.racks.node_ids && output.join_state == run.racks.join_state
    error_message = "a second plan changes nothing"
  }
}

run "wrong_names" {
  command = plan

  variables {
    code  = "No Such Name"
    nodes = {}
  }

  expect_failures = [var.code, var.nodes]
}
