terraform {
  required_version = ">= 1.11"
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.51"
    }
  }
}
