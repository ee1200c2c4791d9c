variable "node" {
  type        = string
  description = "The node's id."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.node))
    error_message = "A node's id is lower-case letters, digits and dashes."
  }
}

variable "control_url" {
  type        = string
  description = "Where the node reaches the control plane, such as https://tendril.example.org."

  validation {
    condition     = can(regex("^https?://[!-~]+$", var.control_url))
    error_message = "control_url must begin with http:// or https://."
  }
}

variable "join_token" {
  type        = string
  sensitive   = true
  description = "The node's single-use token."
}

variable "address" {
  type        = string
  default     = ""
  description = "Where other nodes reach it; empty: the address of its default route."
}

variable "media_url" {
  type        = string
  default     = ""
  description = "Where users reach its media server."
}

variable "install" {
  type        = string
  default     = "tendril"
  description = "What pip installs: a package with a version, or a wheel's address."
}

variable "ports" {
  type = object({
    reflector = optional(number, 862)
    probe     = optional(number, 7420)
    relay     = optional(number, 7422)
    media     = optional(list(number), [7423])
  })
  default     = {}
  description = "UDP ports that are open to the world; everything else is closed but ssh from ssh_cidrs."
}

variable "ssh_cidrs" {
  type        = list(string)
  default     = []
  description = "Networks that may use ssh; none unless given."
}

variable "options" {
  type        = list(string)
  default     = []
  description = "Further options of `tendril agent run`, such as --relay."
}

variable "ingress" {
  type        = list(object({ port = number, proto = string, cidrs = list(string) }))
  default     = []
  description = "Further ports, such as a media server's TCP 443."
}
