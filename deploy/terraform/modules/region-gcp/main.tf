locals {
  cloud = "gcp"
  sizes = { small = "e2-standard-2", medium = "n2-standard-4", large = "n2-standard-8" }
  # Ubuntu, for Google's Debian images come without cloud-init.
  image   = var.image != "" ? var.image : "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
  project = var.account != "" ? var.account : null
  known   = { for name, one in google_compute_address.v4 : name => one.address }
  machines = { for name, one in google_compute_instance.this : name => {
    id = one.instance_id
    v4 = google_compute_address.v4[name].address
    v6 = var.networks.ipv6 ? one.network_interface[0].ipv6_access_config[0].external_ipv6 : null
  } }
}

resource "google_compute_network" "this" {
  name                    = var.code
  project                 = local.project
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "this" {
  name                     = var.code
  project                  = local.project
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.networks.cidr
  private_ip_google_access = true
  stack_type               = var.networks.ipv6 ? "IPV4_IPV6" : "IPV4_ONLY"
  ipv6_access_type         = var.networks.ipv6 ? "EXTERNAL" : null
}

resource "google_compute_firewall" "this" {
  for_each      = local.openings
  name          = "${var.code}-${each.key}"
  project       = local.project
  network       = google_compute_network.this.id
  source_ranges = each.value.cidrs
  target_tags   = [var.code]

  allow {
    protocol = each.value.proto
    ports    = [tostring(each.value.port)]
  }
}

# A machine does not see its public IPv4 address here, so it is reserved first and told.
resource "google_compute_address" "v4" {
  for_each = var.nodes
  name     = local.names[each.key]
  project  = local.project
  region   = var.region
  labels   = local.labels
}

resource "google_compute_instance" "this" {
  for_each     = var.nodes
  name         = local.names[each.key]
  project      = local.project
  zone         = each.value.zone
  machine_type = local.size
  tags         = [var.code]
  labels       = local.labels
  metadata = {
    user-data              = module.bootstrap[each.key].user_data
    ssh-keys               = join("\n", [for key in var.bootstrap.ssh_keys : "ubuntu:${key}"])
    block-project-ssh-keys = "true"
  }

  boot_disk {
    initialize_params {
      image = local.image
      size  = 20
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.this.id
    stack_type = google_compute_subnetwork.this.stack_type

    access_config {
      nat_ip       = google_compute_address.v4[each.key].address
      network_tier = "PREMIUM"
    }

    dynamic "ipv6_access_config" {
      for_each = var.networks.ipv6 ? ["PREMIUM"] : []
      content {
        network_tier = ipv6_access_config.value
      }
    }
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  depends_on = [google_compute_firewall.this]

  lifecycle {
    ignore_changes       = [metadata, boot_disk]
    replace_triggered_by = [terraform_data.generation[each.key]]

    precondition {
      condition     = startswith(each.value.zone, "${var.region}-")
      error_message = "Node ${each.key} needs a zone of ${var.region}, such as ${var.region}-b."
    }
  }
}
