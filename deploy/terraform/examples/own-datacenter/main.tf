# Our own racks in Frankfurt: two machines, by name.
terraform {
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
  }
}

provider "tendril" {}

module "racks" {
  source      = "../../modules/datacenter-own"
  code        = "own-fra"
  region      = "frankfurt"
  location    = { latitude = 50.11, longitude = 8.68 }
  control_url = "https://tendril.example.org"
  capacity    = { sessions = 2000, mbps = 20000 }
  nodes = {
    a = { address = "198.51.100.10", media_url = "wss://a.fra.example.org" }
    b = { address = "198.51.100.11", media_url = "wss://b.fra.example.org" }
  }
}

output "user_data" {
  value     = module.racks.user_data
  sensitive = true
}
