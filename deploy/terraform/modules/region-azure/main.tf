locals {
  cloud = "azure"
  sizes = { small = "Standard_D2s_v5", medium = "Standard_D4s_v5", large = "Standard_D8s_v5" }
  # PUBLISHER:OFFER:SKU:VERSION
  image  = var.image != "" ? var.image : "Canonical:ubuntu-24_04-lts:server:latest"
  source = split(":", local.image)
  group  = var.account != "" ? var.account : azurerm_resource_group.this[0].name
  order  = sort(keys(local.openings))
  known  = { for name, one in azurerm_public_ip.v4 : name => one.ip_address }
  machines = { for name, one in azurerm_linux_virtual_machine.this : name => {
    id = one.virtual_machine_id
    v4 = azurerm_public_ip.v4[name].ip_address
    v6 = var.networks.ipv6 ? azurerm_public_ip.v6[name].ip_address : null
  } }
}

resource "azurerm_resource_group" "this" {
  count    = var.account == "" ? 1 : 0
  name     = var.code
  location = var.region
  tags     = local.labels
}

resource "azurerm_virtual_network" "this" {
  name                = var.code
  location            = var.region
  resource_group_name = local.group
  address_space       = var.networks.ipv6 ? [var.networks.cidr, "fd00:7e4d::/56"] : [var.networks.cidr]
  tags                = local.labels
}

resource "azurerm_subnet" "this" {
  name                 = "nodes"
  resource_group_name  = local.group
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = var.networks.ipv6 ? [var.networks.cidr, "fd00:7e4d::/64"] : [var.networks.cidr]
}

resource "azurerm_network_security_group" "this" {
  name                = var.code
  location            = var.region
  resource_group_name = local.group
  tags                = local.labels
}

resource "azurerm_network_security_rule" "this" {
  for_each                    = local.openings
  name                        = each.key
  resource_group_name         = local.group
  network_security_group_name = azurerm_network_security_group.this.name
  priority                    = 100 + index(local.order, each.key)
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = title(each.value.proto)
  source_port_range           = "*"
  destination_port_range      = tostring(each.value.port)
  source_address_prefixes     = each.value.cidrs
  destination_address_prefix  = "*"
}

# A machine does not see its public addresses here, so they are reserved first; the IPv4 one is told.
resource "azurerm_public_ip" "v4" {
  for_each            = var.nodes
  name                = "${local.names[each.key]}-v4"
  location            = var.region
  resource_group_name = local.group
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = each.value.zone != "" ? [each.value.zone] : null
  tags                = local.labels
}

resource "azurerm_public_ip" "v6" {
  for_each            = { for name, node in var.nodes : name => node if var.networks.ipv6 }
  name                = "${local.names[each.key]}-v6"
  location            = var.region
  resource_group_name = local.group
  allocation_method   = "Static"
  ip_version          = "IPv6"
  sku                 = "Standard"
  zones               = each.value.zone != "" ? [each.value.zone] : null
  tags                = local.labels
}

resource "azurerm_network_interface" "this" {
  for_each            = var.nodes
  name                = local.names[each.key]
  location            = var.region
  resource_group_name = local.group
  tags                = local.labels

  ip_configuration {
    name                          = "v4"
    primary                       = true
    subnet_id                     = azurerm_subnet.this.id
    private_ip_address_allocation = "Dynamic"
    public_ip_address_id          = azurerm_public_ip.v4[each.key].id
  }

  dynamic "ip_configuration" {
    for_each = var.networks.ipv6 ? [azurerm_public_ip.v6[each.key].id] : []
    content {
      name                          = "v6"
      subnet_id                     = azurerm_subnet.this.id
      private_ip_address_allocation = "Dynamic"
      private_ip_address_version    = "IPv6"
      public_ip_address_id          = ip_configuration.value
    }
  }
}

resource "azurerm_network_interface_security_group_association" "this" {
  for_each                  = var.nodes
  network_interface_id      = azurerm_network_interface.this[each.key].id
  network_security_group_id = azurerm_network_security_group.this.id
}

resource "azurerm_linux_virtual_machine" "this" {
  for_each                        = var.nodes
  name                            = local.names[each.key]
  location                        = var.region
  resource_group_name             = local.group
  zone                            = each.value.zone != "" ? each.value.zone : null
  size                            = local.size
  network_interface_ids           = [azurerm_network_interface.this[each.key].id]
  admin_username                  = "ubuntu"
  disable_password_authentication = true
  secure_boot_enabled             = true
  vtpm_enabled                    = true
  allow_extension_operations      = false
  custom_data                     = base64encode(module.bootstrap[each.key].user_data)
  tags                            = local.labels

  dynamic "admin_ssh_key" {
    for_each = toset(var.bootstrap.ssh_keys)
    content {
      username   = "ubuntu"
      public_key = admin_ssh_key.value
    }
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  source_image_reference {
    publisher = local.source[0]
    offer     = local.source[1]
    sku       = local.source[2]
    version   = local.source[3]
  }

  depends_on = [azurerm_network_interface_security_group_association.this, azurerm_network_security_rule.this]

  lifecycle {
    ignore_changes       = [custom_data, size, source_image_reference, admin_ssh_key]
    replace_triggered_by = [terraform_data.generation[each.key]]

    precondition {
      condition     = contains(["", "1", "2", "3"], each.value.zone)
      error_message = "The zone of node ${each.key} is 1, 2 or 3, or left out where the region has none."
    }

    precondition {
      condition     = length(var.bootstrap.ssh_keys) > 0
      error_message = "Azure makes no machine without a key: give bootstrap.ssh_keys one; ssh stays closed without ssh_cidrs."
    }

    precondition {
      condition     = length(local.source) == 4
      error_message = "image is PUBLISHER:OFFER:SKU:VERSION on Azure."
    }
  }
}
