terraform {
  required_version = ">= 1.11"
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    linode = {
      source  = "linode/linode"
      version = "~> 3.11"
    }
  }
}
