locals {
  cloud = "vultr"
  sizes = { small = "vc2-2c-4gb", medium = "vc2-4c-8gb", large = "vc2-6c-16gb" }
  image = var.image != "" ? var.image : "2284" # Ubuntu 24.04 x64
  tags  = [for key in sort(keys(local.labels)) : "${key}=${local.labels[key]}"]
  known = { for name in keys(var.nodes) : name => "" } # the machine has its public address on its own interface
  machines = { for name, one in vultr_instance.this : name => {
    id = one.id
    v4 = one.main_ip
    v6 = var.networks.ipv6 ? one.v6_main_ip : null
  } }
}

resource "vultr_firewall_group" "this" {
  description = var.code
}

resource "vultr_firewall_rule" "this" {
  for_each          = local.sources
  firewall_group_id = vultr_firewall_group.this.id
  protocol          = each.value.proto
  port              = tostring(each.value.port)
  ip_type           = each.value.v6 ? "v6" : "v4"
  subnet            = split("/", each.value.cidr)[0]
  subnet_size       = tonumber(split("/", each.value.cidr)[1])
  notes             = each.key
}

resource "vultr_ssh_key" "this" {
  for_each = { for at, key in var.bootstrap.ssh_keys : "${var.code}-${at}" => key }
  name     = each.key
  ssh_key  = each.value
}

resource "vultr_instance" "this" {
  for_each          = var.nodes
  label             = local.names[each.key]
  hostname          = local.names[each.key]
  region            = var.region
  plan              = local.size
  os_id             = tonumber(local.image)
  enable_ipv6       = var.networks.ipv6
  firewall_group_id = vultr_firewall_group.this.id
  ssh_key_ids       = [for name in sort(keys(vultr_ssh_key.this)) : vultr_ssh_key.this[name].id]
  user_data         = module.bootstrap[each.key].user_data
  tags              = local.tags

  depends_on = [vultr_firewall_rule.this]

  lifecycle {
    ignore_changes       = [user_data, os_id, plan, ssh_key_ids]
    replace_triggered_by = [terraform_data.generation[each.key]]

    precondition {
      condition     = each.value.zone == ""
      error_message = "Vultr has no zones: leave out the zone of node ${each.key}."
    }

    precondition {
      condition     = can(tonumber(local.image))
      error_message = "image is the number of an operating system on Vultr, such as 2284."
    }
  }
}
