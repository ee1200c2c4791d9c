terraform {
  required_version = ">= 1.11"
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    oci = {
      source  = "oracle/oci"
      version = "~> 7.19"
    }
  }
}
