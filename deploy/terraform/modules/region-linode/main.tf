locals {
  cloud = "linode"
  sizes = { small = "g6-standard-2", medium = "g6-dedicated-4", large = "g6-dedicated-8" }
  image = var.image != "" ? var.image : "linode/ubuntu24.04"
  tags  = [for key in sort(keys(local.labels)) : "${key}=${local.labels[key]}"]
  known = { for name in keys(var.nodes) : name => "" } # the machine has its public address on its own interface
  machines = { for name, one in linode_instance.this : name => {
    id = one.id
    v4 = one.ip_address
    v6 = var.networks.ipv6 ? split("/", one.ipv6)[0] : null
  } }
}

resource "linode_firewall" "this" {
  label           = substr(var.code, 0, 32)
  tags            = local.tags
  inbound_policy  = "DROP"
  outbound_policy = "ACCEPT"

  dynamic "inbound" {
    for_each = local.openings
    content {
      label    = inbound.key
      action   = "ACCEPT"
      protocol = upper(inbound.value.proto)
      ports    = tostring(inbound.value.port)
      ipv4     = inbound.value.v6 ? null : inbound.value.cidrs
      ipv6     = inbound.value.v6 ? inbound.value.cidrs : null
    }
  }
}

resource "linode_instance" "this" {
  for_each        = var.nodes
  label           = local.names[each.key]
  region          = var.region
  type            = local.size
  image           = local.image
  tags            = local.tags
  firewall_id     = linode_firewall.this.id
  authorized_keys = var.bootstrap.ssh_keys

  metadata {
    user_data = base64encode(module.bootstrap[each.key].user_data)
  }

  lifecycle {
    ignore_changes       = [metadata, image, type, authorized_keys]
    replace_triggered_by = [terraform_data.generation[each.key]]

    precondition {
      condition     = each.value.zone == ""
      error_message = "Linode has no zones: leave out the zone of node ${each.key}."
    }
  }
}
