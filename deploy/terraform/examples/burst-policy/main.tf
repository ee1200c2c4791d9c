# Own racks with a rented region beside them: voice may burst onto Linode, bulk stays on the racks.
# Tendril fills what has room within these constraints; it does not buy machines from here.
terraform {
  required_providers {
    tendril = { source = "tendril.example/tendril/tendril" }
    linode  = { source = "linode/linode" }
  }
}

provider "tendril" {}

provider "linode" {}

module "racks" {
  source      = "../../modules/datacenter-own"
  code        = "own-fra"
  region      = "frankfurt"
  location    = { latitude = 50.11, longitude = 8.68 }
  control_url = "https://tendril.example.org"
  capacity    = { sessions = 2000, mbps = 20000 }
  nodes       = { a = { address = "198.51.100.10", media_url = "wss://a.fra.example.org" } }
}

module "burst" {
  source            = "../../modules/region-linode"
  code              = "linode-fra"
  region            = "de-fra-2"
  control_url       = "https://tendril.example.org"
  capacity          = { sessions = 500, mbps = 4000 }
  egress_usd_per_gb = 0.005
  nodes             = { a = { media_url = "wss://a.linode-fra.example.org" } }
}

resource "tendril_policy" "voice" {
  id              = "voice-may-burst"
  match           = { class = "voice" }
  allow_providers = ["own", "linode"]
  priority        = 10
}

resource "tendril_policy" "bulk" {
  id                   = "bulk-stays"
  match                = { class = "bulk" }
  allow_providers      = ["own"]
  max_price_usd_per_gb = 0.01
  priority             = 10
}
