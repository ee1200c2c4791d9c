# Everything mocked: whether the modules can be planned, applied and destroyed at all.
mock_provider "tendril" {}
mock_provider "google" {
  mock_resource "google_compute_instance" {
    defaults = { network_interface = { ipv6_access_config = { external_ipv6 = "2001:db8::1" } } }
  }
}
mock_provider "azurerm" {}
mock_provider "linode" {
  mock_resource "linode_firewall" {
    defaults = { id = "4242" }
  }
}
mock_provider "vultr" {}
mock_provider "oci" {
  alias = "fra"
  mock_data "oci_identity_availability_domains" {
    defaults = { availability_domains = [{ name = "x:AD-1", id = "1", compartment_id = "x" }, { name = "x:AD-2", id = "2", compartment_id = "x" }] }
  }
  mock_data "oci_core_images" {
    defaults = { images = [{ id = "ocid1.image" }] }
  }
  mock_resource "oci_core_vcn" {
    defaults = { ipv6cidr_blocks = ["2001:db8:1::/56"] }
  }
}
run "five_clouds_apply" {
  command = apply
  variables {
    compartment = "ocid1.c"
    ssh_key     = "ssh-ed25519 AAAA x"
  }
}
