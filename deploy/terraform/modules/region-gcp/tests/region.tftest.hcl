# The cloud is mocked; Tendril's provider and control plane are real (TENDRIL_URL, TENDRIL_KEY).
mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = { address = "203.0.113.9" }
  }
  mock_resource "google_compute_instance" {
    defaults = { network_interface = { ipv6_access_config = { external_ipv6 = "2001:db8::9" } } }
  }
}

provider "tendril" {}

variables {
  code                  = "t-gcp"
  region                = "europe-west3"
  account               = "an-account"
  control_url           = "https://tendril.example.org"
  capacity              = { sessions = 500, mbps = 4000 }
  ingress               = [{ port = 443, proto = "tcp", cidrs = ["0.0.0.0/0", "::/0"] }]
  bootstrap             = { ssh_keys = ["ssh-ed25519 AAAA x"] }
  labels                = { tier = "edge" }
  machine_usd_per_month = 20
  nodes = {
    a = { zone = "europe-west3-a", media_url = "wss://a.t-gcp.example.org" }
    b = { zone = "europe-west3-b", media_url = "wss://b.t-gcp.example.org" }
  }
}

run "region" {
  command = apply

  assert {
    condition     = output.data_center_id == "t-gcp" && output.node_ids == { a = "t-gcp-a", b = "t-gcp-b" }
    error_message = "the data center and its nodes are named after code"
  }

  assert {
    condition     = tendril_data_center.this.provider_id == "gcp" && tendril_data_center.this.region == data.tendril_catalog_region.this.area && tendril_data_center.this.latitude == data.tendril_catalog_region.this.latitude && tendril_data_center.this.longitude == data.tendril_catalog_region.this.longitude
    error_message = "it stands where the catalogue says"
  }

  assert {
    condition     = tendril_data_center.this.capacity.sessions == 500 && tendril_data_center.this.capacity.mbps == 4000 && tendril_data_center.this.labels == tomap({ managed_by = "terraform", tier = "edge" }) && tendril_data_center.this.drain.timeout_s == 600
    error_message = "capacity, labels and drain arrive"
  }

  assert {
    condition     = alltrue([for name, one in tendril_node.this : one.media_url == var.nodes[name].media_url && one.labels["managed_by"] == "terraform"]) && tendril_node.this["a"].addresses == tomap({ internet = "203.0.113.9" })
    error_message = "nodes are reached where their machines are"
  }

  assert {
    condition     = toset(flatten([for one in google_compute_firewall.this : [for rule in one.allow : [for port in rule.ports : "${rule.protocol}-${port}"]]])) == toset(["tcp-443", "udp-7420", "udp-7422", "udp-7423", "udp-7430", "udp-7431", "udp-7432", "udp-862"])
    error_message = "the firewall opens what the nodes use, and nothing else"
  }

  assert {
    condition     = length([for one in google_compute_firewall.this : one if one.source_ranges == toset(["::/0"])]) == 8 && length([for one in google_compute_firewall.this : one if one.source_ranges == toset(["0.0.0.0/0"])]) == 8
    error_message = "every port is open in both address families, to the world"
  }

  assert {
    condition     = alltrue([for one in google_compute_firewall.this : one.network == google_compute_network.this.id && one.target_tags == toset([var.code])]) && alltrue([for one in google_compute_instance.this : contains(one.tags, var.code)])
    error_message = "the firewall is the machines' own"
  }

  assert {
    condition     = alltrue([for name, one in google_compute_instance.this : one.name == "t-gcp-${name}" && one.zone == var.nodes[name].zone && one.machine_type == "e2-standard-2" && one.labels["managed_by"] == "terraform" && one.network_interface[0].stack_type == "IPV4_IPV6" && one.shielded_instance_config[0].enable_secure_boot])
    error_message = "the machines are what was asked for"
  }

  assert {
    condition     = google_compute_instance.this["a"].metadata["user-data"] == output.user_data["a"]
    error_message = "a machine boots with its own cloud-init"
  }

  assert {
    condition     = alltrue([for name, text in output.user_data : strcontains(base64decode(jsondecode(trimprefix(text, "#cloud-config\n")).write_files[0].content), "TENDRIL_NODE=t-gcp-${name}\nTENDRIL_URL=https://tendril.example.org\nTENDRIL_JOIN_TOKEN=${tendril_join_token.this[name].token}\n")])
    error_message = "cloud-init carries the node's name and token"
  }

  assert {
    condition     = output.addresses["b"] == { v4 = "203.0.113.9", v6 = "2001:db8::9" } && keys(output.native_ids) == ["a", "b"]
    error_message = "the addresses are the machines'"
  }

  assert {
    condition     = output.estimated_monthly_usd == 40 && alltrue([for name, one in output.join_state : one.token_id == tendril_join_token.this[name].id && one.expires_at != ""])
    error_message = "money and tokens are told"
  }
}

run "second_plan" {
  command = plan

  assert {
    condition     = output.node_ids == run.region.node_ids && output.native_ids == run.region.native_ids && output.join_state == run.region.join_state && output.addresses == run.region.addresses
    error_message = "a second plan changes nothing"
  }
}

run "without_ipv6" {
  command = plan

  variables {
    networks = { ipv6 = false }
  }

  assert {
    condition     = length(local.openings) == 8 && alltrue([for key in keys(local.openings) : endswith(key, "-v4")]) && google_compute_subnetwork.this.stack_type == "IPV4_ONLY" && alltrue([for one in google_compute_instance.this : length(one.network_interface[0].ipv6_access_config) == 0])
    error_message = "without IPv6 nothing of it is made, and nothing is opened for it"
  }
}

run "wrong_zone" {
  command = plan

  variables {
    nodes = { a = { zone = "europe-west4-a" } }
  }

  expect_failures = [google_compute_instance.this]
}

run "wrong_names" {
  command = plan

  variables {
    code   = "No Such Name"
    labels = { "Tier" = "edge" }
    drain  = { timeout_s = 1 }
    ports  = { reflector = 70000 }
    nodes  = {}
  }

  expect_failures = [var.code, var.labels, var.ports, var.nodes]
}
