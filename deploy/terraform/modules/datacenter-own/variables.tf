variable "code" {
  type        = string
  description = "The data center's id, and the beginning of its nodes' ids."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{2,40}$", var.code))
    error_message = "code is 3 to 41 lower-case letters, digits and dashes."
  }
}

variable "region" {
  type        = string
  description = "The market on the map, such as frankfurt."
}

variable "location" {
  type        = object({ latitude = number, longitude = number })
  description = "Where the racks are."
}

variable "control_url" {
  type        = string
  description = "Where the nodes reach the control plane."
}

variable "nodes" {
  type        = map(object({ address = string, media_url = optional(string, "") }))
  description = "Machines by a name that stays theirs: never a count, so that taking one out touches no other."

  validation {
    condition     = length(var.nodes) > 0
    error_message = "A data center needs at least one node."
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
  description = "How long destroy waits for the last session."
}

variable "bootstrap" {
  type        = object({ install = optional(string, "tendril"), ssh_cidrs = optional(list(string), []), options = optional(list(string), []) })
  default     = {}
  description = "What is installed on the nodes, and who may use ssh."
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Further labels."
}
