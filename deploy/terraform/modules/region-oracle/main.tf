locals {
  cloud = "oracle"
  # SHAPE:OCPUS:GIB, or the name of a shape that is not flexible.
  sizes   = { small = "VM.Standard.E5.Flex:1:8", medium = "VM.Standard.E5.Flex:2:16", large = "VM.Standard.E5.Flex:4:32" }
  shape   = split(":", local.size)
  image   = var.image
  domains = data.oci_identity_availability_domains.this.availability_domains
  known   = { for name in keys(var.nodes) : name => "" }
  machines = { for name, one in oci_core_instance.this : name => {
    id = one.id
    v4 = one.public_ip
    v6 = null
  } }
  protocols = { tcp = "6", udp = "17" }
}

data "oci_identity_availability_domains" "this" {
  compartment_id = var.account
}

data "oci_core_images" "this" {
  compartment_id           = var.account
  operating_system         = "Canonical Ubuntu"
  operating_system_version = "24.04"
  shape                    = local.shape[0]
  sort_by                  = "TIMECREATED"
  sort_order               = "DESC"
}

resource "oci_core_vcn" "this" {
  compartment_id = var.account
  cidr_blocks    = [var.networks.cidr]
  is_ipv6enabled = var.networks.ipv6
  display_name   = var.code
  freeform_tags  = local.labels
}

resource "oci_core_internet_gateway" "this" {
  compartment_id = var.account
  vcn_id         = oci_core_vcn.this.id
  display_name   = var.code
  freeform_tags  = local.labels
}

resource "oci_core_route_table" "this" {
  compartment_id = var.account
  vcn_id         = oci_core_vcn.this.id
  display_name   = var.code
  freeform_tags  = local.labels

  dynamic "route_rules" {
    for_each = toset(var.networks.ipv6 ? ["0.0.0.0/0", "::/0"] : ["0.0.0.0/0"])
    content {
      destination       = route_rules.value
      destination_type  = "CIDR_BLOCK"
      network_entity_id = oci_core_internet_gateway.this.id
    }
  }
}

resource "oci_core_subnet" "this" {
  compartment_id    = var.account
  vcn_id            = oci_core_vcn.this.id
  cidr_block        = var.networks.cidr
  ipv6cidr_block    = var.networks.ipv6 ? cidrsubnet(oci_core_vcn.this.ipv6cidr_blocks[0], 8, 0) : null
  route_table_id    = oci_core_route_table.this.id
  security_list_ids = [oci_core_security_list.this.id]
  display_name      = var.code
  freeform_tags     = local.labels
}

# In place of the default list, which opens ssh to the world; what comes in is the security group's affair.
resource "oci_core_security_list" "this" {
  compartment_id = var.account
  vcn_id         = oci_core_vcn.this.id
  display_name   = var.code
  freeform_tags  = local.labels

  dynamic "egress_security_rules" {
    for_each = toset(var.networks.ipv6 ? ["0.0.0.0/0", "::/0"] : ["0.0.0.0/0"])
    content {
      destination = egress_security_rules.value
      protocol    = "all"
    }
  }
}

resource "oci_core_network_security_group" "this" {
  compartment_id = var.account
  vcn_id         = oci_core_vcn.this.id
  display_name   = var.code
  freeform_tags  = local.labels
}

resource "oci_core_network_security_group_security_rule" "this" {
  for_each                  = local.sources
  network_security_group_id = oci_core_network_security_group.this.id
  direction                 = "INGRESS"
  protocol                  = local.protocols[each.value.proto]
  source                    = each.value.cidr
  source_type               = "CIDR_BLOCK"
  description               = each.key

  dynamic "udp_options" {
    for_each = each.value.proto == "udp" ? [each.value.port] : []
    content {
      destination_port_range {
        min = udp_options.value
        max = udp_options.value
      }
    }
  }

  dynamic "tcp_options" {
    for_each = each.value.proto == "tcp" ? [each.value.port] : []
    content {
      destination_port_range {
        min = tcp_options.value
        max = tcp_options.value
      }
    }
  }
}

resource "oci_core_instance" "this" {
  for_each            = var.nodes
  compartment_id      = var.account
  availability_domain = local.domains[tonumber(each.value.zone) - 1].name
  display_name        = local.names[each.key]
  shape               = local.shape[0]
  freeform_tags       = local.labels
  metadata = {
    user_data           = base64encode(module.bootstrap[each.key].user_data)
    ssh_authorized_keys = join("\n", var.bootstrap.ssh_keys)
  }

  dynamic "shape_config" {
    for_each = length(local.shape) == 3 ? [local.shape] : []
    content {
      ocpus         = tonumber(shape_config.value[1])
      memory_in_gbs = tonumber(shape_config.value[2])
    }
  }

  create_vnic_details {
    subnet_id        = oci_core_subnet.this.id
    assign_public_ip = "true"
    assign_ipv6ip    = var.networks.ipv6
    nsg_ids          = [oci_core_network_security_group.this.id]
  }

  source_details {
    source_type = "image"
    source_id   = var.image != "" ? var.image : data.oci_core_images.this.images[0].id
  }

  instance_options {
    are_legacy_imds_endpoints_disabled = true
  }

  depends_on = [oci_core_network_security_group_security_rule.this]

  lifecycle {
    ignore_changes       = [metadata, source_details, shape, shape_config]
    replace_triggered_by = [terraform_data.generation[each.key]]

    precondition {
      condition     = contains(["1", "2", "3"], each.value.zone)
      error_message = "Node ${each.key} needs a zone: 1, 2 or 3, the number of the availability domain."
    }

    precondition {
      condition     = each.value.address != ""
      error_message = "Node ${each.key} needs an address: Oracle tells a machine's public address to nobody before it runs, so give a name in your DNS and point it at the output addresses."
    }
  }
}
