variable "code" {
  type        = string
  description = "The data center's id, and the beginning of its nodes' and machines' names."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,40}$", var.code))
    error_message = "code is a letter and 2 to 40 lower-case letters, digits and dashes: clouds take no more in a name."
  }
}

variable "region" {
  type        = string
  description = "The cloud's own name of the region; the catalogue knows them all."
}

variable "location" {
  type        = object({ latitude = number, longitude = number })
  default     = null
  description = "Where it is, where the catalogue's city is not exact enough."
}

variable "account" {
  type        = string
  default     = ""
  description = "Oracle's compartment, Google's project, Azure's resource group (empty: one of its own); elsewhere nothing."
}

variable "control_url" {
  type        = string
  description = "Where the nodes reach the control plane."
}

variable "nodes" {
  type = map(object({
    zone      = optional(string, "")
    address   = optional(string, "")
    media_url = optional(string, "")
    version   = optional(string, "")
  }))
  description = "Machines by a name that stays theirs: never a count. A new version replaces that one machine, drained first."

  validation {
    condition     = length(var.nodes) > 0
    error_message = "A data center needs at least one node."
  }

  validation {
    condition     = alltrue([for name in keys(var.nodes) : can(regex("^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$", name))])
    error_message = "A node's name is 1 to 20 lower-case letters, digits and dashes."
  }
}

variable "roles" {
  type        = set(string)
  default     = ["edge"]
  description = "edge, hub, or both."
}

variable "capacity" {
  type        = object({ sessions = optional(number, 0), mbps = optional(number, 0) })
  default     = {}
  description = "What fits; 0 is unlimited."
}

variable "egress_usd_per_gb" {
  type        = number
  default     = null
  description = "What traffic to the world costs."
}

variable "size" {
  type        = string
  default     = "small"
  description = "small, medium, large, or the cloud's own name of a machine type. A change replaces the machines, drained first."
}

variable "image" {
  type        = string
  default     = ""
  description = "The cloud's own name of an image with cloud-init and Python 3.11 or newer; empty: Ubuntu 24.04."
}

variable "networks" {
  type        = object({ cidr = optional(string, "10.64.0.0/20"), ipv6 = optional(bool, true) })
  default     = {}
  description = "The private network, where the cloud gives machines one, and whether machines have IPv6."

  validation {
    condition     = can(cidrhost(var.networks.cidr, 1)) && !strcontains(var.networks.cidr, ":")
    error_message = "networks.cidr is an IPv4 network such as 10.64.0.0/20."
  }
}

variable "ports" {
  type = object({
    reflector = optional(number, 862)
    probe     = optional(number, 7420)
    relay     = optional(number, 7422)
    media     = optional(list(number), [7423])
  })
  default     = {}
  description = "UDP ports that are open to the world, beside the control ports 7430 to 7432."

  validation {
    condition = alltrue([
      for port in concat([var.ports.reflector, var.ports.probe, var.ports.relay], var.ports.media) :
      port >= 1 && port <= 65535 && floor(port) == port
    ])
    error_message = "A port is a whole number from 1 to 65535."
  }
}

variable "ingress" {
  type        = list(object({ port = number, proto = string, cidrs = list(string) }))
  default     = []
  description = "Further ports, such as a media server's TCP 443."

  validation {
    condition     = alltrue([for one in var.ingress : contains(["tcp", "udp"], one.proto) && one.port >= 1 && one.port <= 65535])
    error_message = "ingress takes proto tcp or udp, and ports from 1 to 65535."
  }

  validation {
    condition     = alltrue(flatten([for one in var.ingress : [for cidr in one.cidrs : can(cidrhost(cidr, 0))]]))
    error_message = "ingress takes networks such as 0.0.0.0/0 or ::/0."
  }
}

variable "machine_usd_per_month" {
  type        = number
  default     = null
  description = "What one machine of this size costs in a month. No cloud tells Terraform, so it is yours to look up."

  validation {
    condition     = var.machine_usd_per_month == null ? true : var.machine_usd_per_month >= 0
    error_message = "machine_usd_per_month must not be below 0."
  }
}

variable "drain" {
  type        = object({ timeout_s = optional(number, 600), force = optional(bool, false) })
  default     = {}
  description = "How long destroy waits for the last session before the machine may go."
}

variable "bootstrap" {
  type = object({
    version   = optional(string, "1")
    install   = optional(string, "tendril")
    ssh_cidrs = optional(list(string), [])
    ssh_keys  = optional(list(string), [])
    options   = optional(list(string), [])
  })
  default     = {}
  description = "What is installed on the nodes, and who may use ssh. Only a new version replaces machines that run."

  validation {
    condition     = alltrue([for cidr in var.bootstrap.ssh_cidrs : can(cidrhost(cidr, 0))])
    error_message = "bootstrap.ssh_cidrs takes networks such as 198.51.100.0/24."
  }
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Further labels, in Tendril and on the cloud's machines."

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Labels are lower-case letters, digits, dashes and underscores: the least that every cloud takes."
  }
}
