# One region on Google Cloud: two machines in two zones, by name.
terraform {
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    google  = { source = "hashicorp/google" }
  }
}

provider "tendril" {}

provider "google" {
  project = "my-project"
}

module "fra" {
  source      = "../../modules/region-gcp"
  code        = "gcp-fra"
  region      = "europe-west3"
  control_url = "https://tendril.example.org"
  capacity    = { sessions = 500, mbps = 4000 }
  ingress     = [{ port = 443, proto = "tcp", cidrs = ["0.0.0.0/0", "::/0"] }]
  labels      = { tier = "edge" }
  nodes = {
    a = { zone = "europe-west3-a", media_url = "wss://a.fra.example.org" }
    b = { zone = "europe-west3-b", media_url = "wss://b.fra.example.org" }
  }
}

output "addresses" {
  value = module.fra.addresses
}
