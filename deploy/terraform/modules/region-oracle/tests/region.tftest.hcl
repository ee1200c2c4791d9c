# The cloud is mocked; Tendril's provider and control plane are real (TENDRIL_URL, TENDRIL_KEY).
mock_provider "oci" {
  mock_data "oci_identity_availability_domains" {
    defaults = { availability_domains = [{ name = "x:AD-1", id = "1", compartment_id = "x" }, { name = "x:AD-2", id = "2", compartment_id = "x" }] }
  }
  mock_data "oci_core_images" {
    defaults = { images = [{ id = "ocid1.image" }] }
  }
  mock_resource "oci_core_vcn" {
    defaults = { ipv6cidr_blocks = ["2001:db8:1::/56"] }
  }
  mock_resource "oci_core_instance" {
    defaults = { public_ip = "203.0.113.9" }
  }
}

provider "tendril" {}

variables {
  code                  = "t-oracle"
  region                = "eu-frankfurt-1"
  account               = "an-account"
  control_url           = "https://tendril.example.org"
  capacity              = { sessions = 500, mbps = 4000 }
  ingress               = [{ port = 443, proto = "tcp", cidrs = ["0.0.0.0/0", "::/0"] }]
  bootstrap             = { ssh_keys = ["ssh-ed25519 AAAA x"] }
  labels                = { tier = "edge" }
  machine_usd_per_month = 20
  nodes = {
    a = { zone = "1", address = "a.t-oracle.example.org", media_url = "wss://a.t-oracle.example.org" }
    b = { zone = "2", address = "b.t-oracle.example.org", media_url = "wss://b.t-oracle.example.org" }
  }
}

run "region" {
  command = apply

  assert {
    condition     = output.data_center_id == "t-oracle" && output.node_ids == { a = "t-oracle-a", b = "t-oracle-b" }
    error_message = "the data center and its nodes are named after code"
  }

  assert {
    condition     = tendril_data_center.this.provider_id == "oracle" && tendril_data_center.this.region == data.tendril_catalog_region.this.area && tendril_data_center.this.latitude == data.tendril_catalog_region.this.latitude && tendril_data_center.this.longitude == data.tendril_catalog_region.this.longitude
    error_message = "it stands where the catalogue says"
  }

  assert {
    condition     = tendril_data_center.this.capacity.sessions == 500 && tendril_data_center.this.capacity.mbps == 4000 && tendril_data_center.this.labels == tomap({ managed_by = "terraform", tier = "edge" }) && tendril_data_center.this.drain.timeout_s == 600
    error_message = "capacity, labels and drain arrive"
  }

  assert {
    condition     = alltrue([for name, one in tendril_node.this : one.media_url == var.nodes[name].media_url && one.labels["managed_by"] == "terraform"]) && tendril_node.this["a"].addresses == tomap({ internet = "a.t-oracle.example.org" })
    error_message = "nodes are reached where their machines are"
  }

  assert {
    condition     = toset(concat([for one in oci_core_network_security_group_security_rule.this : "udp-${one.udp_options[0].destination_port_range[0].min}" if one.protocol == "17"], [for one in oci_core_network_security_group_security_rule.this : "tcp-${one.tcp_options[0].destination_port_range[0].max}" if one.protocol == "6"])) == toset(["tcp-443", "udp-7420", "udp-7422", "udp-7423", "udp-7430", "udp-7431", "udp-7432", "udp-862"])
    error_message = "the firewall opens what the nodes use, and nothing else"
  }

  assert {
    condition     = length([for one in oci_core_network_security_group_security_rule.this : one if one.source == "::/0"]) == 8 && length([for one in oci_core_network_security_group_security_rule.this : one if one.source == "0.0.0.0/0"]) == 8
    error_message = "every port is open in both address families, to the world"
  }

  assert {
    condition     = alltrue([for one in oci_core_network_security_group_security_rule.this : one.direction == "INGRESS" && one.network_security_group_id == oci_core_network_security_group.this.id]) && alltrue([for one in oci_core_instance.this : one.create_vnic_details[0].nsg_ids == toset([oci_core_network_security_group.this.id])]) && length(oci_core_security_list.this.ingress_security_rules) == 0
    error_message = "the firewall is the machines' own"
  }

  assert {
    condition     = alltrue([for name, one in oci_core_instance.this : one.display_name == "t-oracle-${name}" && one.availability_domain == "x:AD-${var.nodes[name].zone}" && one.shape == "VM.Standard.E5.Flex" && one.shape_config[0].memory_in_gbs == 8 && one.freeform_tags["managed_by"] == "terraform" && one.create_vnic_details[0].assign_ipv6ip])
    error_message = "the machines are what was asked for"
  }

  assert {
    condition     = base64decode(oci_core_instance.this["a"].metadata["user_data"]) == output.user_data["a"]
    error_message = "a machine boots with its own cloud-init"
  }

  assert {
    condition     = alltrue([for name, text in output.user_data : strcontains(base64decode(jsondecode(trimprefix(text, "#cloud-config\n")).write_files[0].content), "TENDRIL_NODE=t-oracle-${name}\nTENDRIL_URL=https://tendril.example.org\nTENDRIL_JOIN_TOKEN=${tendril_join_token.this[name].token}\n")])
    error_message = "cloud-init carries the node's name and token"
  }

  assert {
    condition     = output.addresses["b"] == { v4 = "203.0.113.9", v6 = null } && keys(output.native_ids) == ["a", "b"]
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
    condition     = length(local.openings) == 8 && alltrue([for key in keys(local.openings) : endswith(key, "-v4")]) && alltrue([for one in oci_core_instance.this : !one.create_vnic_details[0].assign_ipv6ip]) && !oci_core_vcn.this.is_ipv6enabled
    error_message = "without IPv6 nothing of it is made, and nothing is opened for it"
  }
}

run "wrong_zone" {
  command = plan

  variables {
    nodes = { a = { zone = "9", address = "a.t-oracle.example.org" } }
  }

  expect_failures = [oci_core_instance.this]
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
