# The same text in every region module: what Tendril knows of the region. main.tf has the cloud's part and sets
# local.cloud, local.image, local.machines (id, v4, v6 by node) and local.known (addresses that are known before boot).
locals {
  labels = merge(var.labels, { managed_by = "terraform" })
  names  = { for name in keys(var.nodes) : name => "${var.code}-${name}" }
  size   = lookup(local.sizes, var.size, var.size)
  world  = ["0.0.0.0/0", "::/0"]

  # One entry per protocol, port and address family: no cloud lets a rule mix families.
  asked = concat(
    [for port in values(module.bootstrap)[0].udp_ports : { proto = "udp", port = port, cidrs = local.world }],
    [for one in var.ingress : one],
    length(var.bootstrap.ssh_cidrs) > 0 ? [{ proto = "tcp", port = 22, cidrs = var.bootstrap.ssh_cidrs }] : [],
  )
  families = flatten([for one in local.asked : [for v6 in(var.networks.ipv6 ? [false, true] : [false]) : {
    key   = "${one.proto}-${one.port}-${v6 ? "v6" : "v4"}"
    proto = one.proto, port = one.port, v6 = v6
    cidrs = [for cidr in one.cidrs : cidr if strcontains(cidr, ":") == v6]
  }]])
  openings = { for one in local.families : one.key => one if length(one.cidrs) > 0 }
  sources  = merge([for key, one in local.openings : { for cidr in one.cidrs : "${key}-${cidr}" => merge(one, { cidr = cidr }) }]...)
}

data "tendril_catalog_region" "this" {
  provider_id = local.cloud
  code        = var.region
}

resource "tendril_provider" "this" {
  id     = local.cloud
  shared = true
}

resource "tendril_region" "this" {
  id     = data.tendril_catalog_region.this.area
  shared = true
}

resource "tendril_data_center" "this" {
  id                = var.code
  provider_id       = tendril_provider.this.id
  region            = tendril_region.this.id
  roles             = var.roles
  latitude          = var.location == null ? data.tendril_catalog_region.this.latitude : var.location.latitude
  longitude         = var.location == null ? data.tendril_catalog_region.this.longitude : var.location.longitude
  capacity          = var.capacity
  egress_usd_per_gb = var.egress_usd_per_gb
  drain             = var.drain
  labels            = local.labels
}

# What makes a machine another machine. Everything else about the boot script is left to machines made later.
resource "terraform_data" "generation" {
  for_each = var.nodes
  input    = { version = each.value.version != "" ? each.value.version : var.bootstrap.version, size = local.size, image = local.image }
}

resource "tendril_join_token" "this" {
  for_each    = var.nodes
  data_center = tendril_data_center.this.id
  name        = local.names[each.key]
  rotation    = substr(sha256(jsonencode(terraform_data.generation[each.key].input)), 0, 12)
}

module "bootstrap" {
  source      = "../bootstrap"
  for_each    = var.nodes
  node        = local.names[each.key]
  control_url = var.control_url
  join_token  = tendril_join_token.this[each.key].token
  address     = each.value.address != "" ? each.value.address : local.known[each.key]
  media_url   = each.value.media_url
  ports       = var.ports
  ingress     = var.ingress
  install     = var.bootstrap.install
  ssh_cidrs   = var.bootstrap.ssh_cidrs
  options     = var.bootstrap.options
}

resource "terraform_data" "machine" {
  for_each = var.nodes
  input    = local.machines[each.key].id
}

# It depends on its machine, so Terraform destroys it, which drains it, before the machine goes.
resource "tendril_node" "this" {
  for_each    = var.nodes
  id          = local.names[each.key]
  data_center = tendril_data_center.this.id
  addresses   = { internet = each.value.address != "" ? each.value.address : local.machines[each.key].v4 }
  media_url   = each.value.media_url
  drain       = var.drain
  labels      = local.labels

  lifecycle {
    replace_triggered_by = [terraform_data.machine[each.key]]
  }
}
