locals {
  labels = merge(var.labels, { managed_by = "terraform" })
}

resource "tendril_provider" "own" {
  id     = "own"
  shared = true
}

resource "tendril_region" "this" {
  id     = var.region
  shared = true
}

resource "tendril_data_center" "this" {
  id                = var.code
  provider_id       = tendril_provider.own.id
  region            = tendril_region.this.id
  roles             = var.roles
  latitude          = var.location.latitude
  longitude         = var.location.longitude
  capacity          = var.capacity
  egress_usd_per_gb = var.egress_usd_per_gb
  drain             = var.drain
  labels            = local.labels
}

resource "tendril_node" "this" {
  for_each    = var.nodes
  id          = "${var.code}-${each.key}"
  data_center = tendril_data_center.this.id
  addresses   = { internet = each.value.address }
  media_url   = each.value.media_url
  drain       = var.drain
  labels      = local.labels
}

resource "tendril_join_token" "this" {
  for_each    = var.nodes
  data_center = tendril_data_center.this.id
  name        = "${var.code}-${each.key}"
}

module "bootstrap" {
  source      = "../bootstrap"
  for_each    = var.nodes
  node        = "${var.code}-${each.key}"
  control_url = var.control_url
  join_token  = tendril_join_token.this[each.key].token
  address     = each.value.address
  media_url   = each.value.media_url
  install     = var.bootstrap.install
  ssh_cidrs   = var.bootstrap.ssh_cidrs
  options     = var.bootstrap.options
}
