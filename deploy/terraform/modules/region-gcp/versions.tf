terraform {
  required_version = ">= 1.11"
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    google = {
      source  = "hashicorp/google"
      version = "~> 7.9"
    }
  }
}
