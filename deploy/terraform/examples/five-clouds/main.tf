# The same market on five clouds: one module block each, and only source, region, zones and what a cloud insists on differ.
terraform {
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    google  = { source = "hashicorp/google" }
    azurerm = { source = "hashicorp/azurerm" }
    oci     = { source = "oracle/oci" }
    linode  = { source = "linode/linode" }
    vultr   = { source = "vultr/vultr" }
  }
}

variable "compartment" {
  type        = string
  description = "Oracle's compartment."
}

variable "ssh_key" {
  type        = string
  description = "A public key; Azure makes no machine without one. ssh stays closed."
}

provider "tendril" {}

provider "google" {
  project = "my-project"
}

provider "azurerm" {
  features {}
}

# Oracle's region is the provider's, so every region has a provider of its own.
provider "oci" {
  alias  = "fra"
  region = "eu-frankfurt-1"
}

provider "linode" {}

provider "vultr" {}

locals {
  control_url = "https://tendril.example.org"
  capacity    = { sessions = 500, mbps = 4000 }
}

module "gcp" {
  source      = "../../modules/region-gcp"
  code        = "gcp-fra"
  region      = "europe-west3"
  control_url = local.control_url
  capacity    = local.capacity
  nodes       = { a = { zone = "europe-west3-a" }, b = { zone = "europe-west3-b" } }
}

module "azure" {
  source      = "../../modules/region-azure"
  code        = "azure-fra"
  region      = "germanywestcentral"
  control_url = local.control_url
  capacity    = local.capacity
  bootstrap   = { ssh_keys = [var.ssh_key] }
  nodes       = { a = { zone = "1" }, b = { zone = "2" } }
}

module "oracle" {
  source      = "../../modules/region-oracle"
  providers   = { oci = oci.fra }
  code        = "oracle-fra"
  region      = "eu-frankfurt-1"
  account     = var.compartment
  control_url = local.control_url
  capacity    = local.capacity
  nodes = {
    a = { zone = "1", address = "a.oracle-fra.example.org" }
    b = { zone = "2", address = "b.oracle-fra.example.org" }
  }
}

module "linode" {
  source      = "../../modules/region-linode"
  code        = "linode-fra"
  region      = "de-fra-2"
  control_url = local.control_url
  capacity    = local.capacity
  nodes       = { a = {}, b = {} }
}

module "vultr" {
  source      = "../../modules/region-vultr"
  code        = "vultr-fra"
  region      = "fra"
  control_url = local.control_url
  capacity    = local.capacity
  nodes       = { a = {}, b = {} }
}

output "addresses" {
  value = { for cloud, one in { gcp = module.gcp, azure = module.azure, oracle = module.oracle, linode = module.linode, vultr = module.vultr } : cloud => one.addresses }
}
