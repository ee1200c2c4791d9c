terraform {
  required_version = ">= 1.11"
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    vultr = {
      source  = "vultr/vultr"
      version = "~> 2.32"
    }
  }
}
