# The cloud is mocked; Tendril's provider and control plane are real (TENDRIL_URL, TENDRIL_KEY).
mock_provider "azurerm" {
  mock_resource "azurerm_public_ip" {
    defaults = { ip_address = "203.0.113.9" }
  }
}

provider "tendril" {}

variables {
  code                  = "t-azure"
  region                = "germanywestcentral"
  account               = "an-account"
  control_url           = "https://tendril.example.org"
  capacity              = { sessions = 500, mbps = 4000 }
  ingress               = [{ port = 443, proto = "tcp", cidrs = ["0.0.0.0/0", "::/0"] }]
  bootstrap             = { ssh_keys = ["ssh-ed25519 AAAA x"] }
  labels                = { tier = "edge" }
  machine_usd_per_month = 20
  nodes = {
    a = { zone = "1", media_url = "wss://a.t-azure.example.org" }
    b = { zone = "2", media_url = "wss://b.t-azure.example.org" }
  }
}

run "region" {
  command = apply

  assert {
    condition     = output.data_center_id == "t-azure" && output.node_ids == { a = "t-azure-a", b = "t-azure-b" }
    error_message = "the data center and its nodes are named after code"
  }

  assert {
    condition     = tendril_data_center.this.provider_id == "azure" && tendril_data_center.this.region == data.tendril_catalog_region.this.area && tendril_data_center.this.latitude == data.tendril_catalog_region.this.latitude && tendril_data_center.this.longitude == data.tendril_catalog_region.this.longitude
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
    condition     = toset([for one in azurerm_network_security_rule.this : "${lower(one.protocol)}-${one.destination_port_range}"]) == toset(["tcp-443", "udp-7420", "udp-7422", "udp-7423", "udp-7430", "udp-7431", "udp-7432", "udp-862"])
    error_message = "the firewall opens what the nodes use, and nothing else"
  }

  assert {
    condition     = length([for one in azurerm_network_security_rule.this : one if one.source_address_prefixes == toset(["::/0"])]) == 8 && length([for one in azurerm_network_security_rule.this : one if one.source_address_prefixes == toset(["0.0.0.0/0"])]) == 8
    error_message = "every port is open in both address families, to the world"
  }

  assert {
    condition     = alltrue([for one in azurerm_network_security_rule.this : one.network_security_group_name == var.code && one.access == "Allow" && one.direction == "Inbound"]) && alltrue([for name, one in azurerm_network_interface_security_group_association.this : one.network_interface_id == azurerm_network_interface.this[name].id && one.network_security_group_id == azurerm_network_security_group.this.id])
    error_message = "the firewall is the machines' own"
  }

  assert {
    condition     = alltrue([for name, one in azurerm_linux_virtual_machine.this : one.name == "t-azure-${name}" && one.location == var.region && one.zone == var.nodes[name].zone && one.size == "Standard_D2s_v5" && one.tags["managed_by"] == "terraform" && one.disable_password_authentication && one.secure_boot_enabled]) && alltrue([for one in azurerm_network_interface.this : length(one.ip_configuration) == 2 && alltrue([for part in one.ip_configuration : part.subnet_id == azurerm_subnet.this.id])])
    error_message = "the machines are what was asked for"
  }

  assert {
    condition     = base64decode(azurerm_linux_virtual_machine.this["a"].custom_data) == output.user_data["a"]
    error_message = "a machine boots with its own cloud-init"
  }

  assert {
    condition     = alltrue([for name, text in output.user_data : strcontains(base64decode(jsondecode(trimprefix(text, "#cloud-config\n")).write_files[0].content), "TENDRIL_NODE=t-azure-${name}\nTENDRIL_URL=https://tendril.example.org\nTENDRIL_JOIN_TOKEN=${tendril_join_token.this[name].token}\n")])
    error_message = "cloud-init carries the node's name and token"
  }

  assert {
    condition     = output.addresses["b"] == { v4 = "203.0.113.9", v6 = "203.0.113.9" } && keys(output.native_ids) == ["a", "b"]
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
    condition     = length(local.openings) == 8 && alltrue([for key in keys(local.openings) : endswith(key, "-v4")]) && length(azurerm_public_ip.v6) == 0 && alltrue([for one in azurerm_network_interface.this : length(one.ip_configuration) == 1])
    error_message = "without IPv6 nothing of it is made, and nothing is opened for it"
  }
}

run "wrong_zone" {
  command = plan

  variables {
    nodes = { a = { zone = "9" } }
  }

  expect_failures = [azurerm_linux_virtual_machine.this]
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
