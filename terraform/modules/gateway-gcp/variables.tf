variable "project" {
  description = "Project of everything."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project = ${jsonencode(var.project)}: must be a project ID."
  }
}

variable "cluster" {
  description = "The cluster: name (DNS label) and region, as in the configuration file."
  type        = object({ name = string, region = string })
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,26}[a-z0-9])?$", var.cluster.name))
    error_message = "cluster.name = ${jsonencode(var.cluster.name)}: must be a DNS label of at most 28 characters."
  }
}

variable "identity" {
  description = "The identity section of the configuration file: trust_domain, and workload_api of what setup installs."
  type        = any
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*$", var.identity.trust_domain))
    error_message = "identity.trust_domain: must be a SPIFFE trust domain such as gcp.example.org."
  }
}

variable "gateway" {
  description = "More of the gateway section of the configuration file, such as listen.http. Its name, link, control and advertise are this module's."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.gateway)) && length(setintersection(try(keys(var.gateway), []), ["name", "advertise", "federation"])) == 0 && length(setintersection(try(keys(var.gateway.listen), []), ["link", "control", "control_advertise", "admin"])) == 0
    error_message = "gateway: must be a mapping without name, advertise, federation and listen.link, control, control_advertise, admin, which the module sets."
  }
}

variable "federation_addresses" {
  description = "host:port of the federation's mesh listener, of each replica (output mesh_addresses of federation-gcp)."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.federation_addresses) > 0
    error_message = "federation_addresses: must name at least one federation."
  }
}

variable "federation_service_account" {
  description = "Service account of the federation, which is then let in to the control port, and whose mesh port lets the gateways in (output service_account of federation-gcp). null: both are left to you."
  type        = object({ email = string })
  default     = null
}

variable "exposure" {
  description = "\"addresses\": each gateway has a public address of its own. \"load_balancer\": all are behind one passthrough load balancer."
  type        = string
  default     = "addresses"
  nullable    = false

  validation {
    condition     = contains(["addresses", "load_balancer"], var.exposure)
    error_message = "exposure = ${jsonencode(var.exposure)}: must be \"addresses\" or \"load_balancer\"."
  }
}

variable "gateways" {
  description = "How many gateways; they are spread over the zones."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.gateways >= 1 && var.gateways <= 16 && floor(var.gateways) == var.gateways
    error_message = "gateways = ${var.gateways}: must be a whole number from 1 to 16."
  }
}

variable "network" {
  description = "Self link of the VPC network, for the firewall."
  type        = string
  nullable    = false
}

variable "subnetwork" {
  description = "Self link of the subnetwork, in the cluster's region."
  type        = string
  nullable    = false
}

variable "zones" {
  description = "Zones of the region to use; empty means all."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for z in var.zones : startswith(z, "${var.cluster.region}-")])
    error_message = "zones = ${jsonencode(var.zones)}: each must be a zone of ${var.cluster.region}."
  }
}

variable "port" {
  description = "The public port, UDP and TCP."
  type        = number
  default     = 7443
  nullable    = false

  validation {
    condition     = var.port >= 1024 && var.port <= 65535
    error_message = "port = ${var.port}: must be from 1024 to 65535, since the gateway has no privileges."
  }
}

variable "peer_cidrs" {
  description = "IPv4 ranges from where peers' gateways dial."
  type        = set(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = alltrue([for c in var.peer_cidrs : can(cidrnetmask(c))])
    error_message = "peer_cidrs = ${jsonencode(var.peer_cidrs)}: each must be an IPv4 range such as 203.0.113.0/24."
  }
}

variable "workloads" {
  description = "TCP ports of ways in (gateway.listen) that workloads on other hosts use, each with the ranges that may. The listener names them, too (sources, http_sources)."
  type        = map(set(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue(flatten([for port, cidrs in var.workloads : concat([can(tonumber(port))], [for c in cidrs : can(cidrnetmask(c)) && c != "0.0.0.0/0"])]))
    error_message = "workloads = ${jsonencode(var.workloads)}: each key must be a port, each value IPv4 ranges other than 0.0.0.0/0."
  }
}

variable "image" {
  description = "Image with systemd, curl and the Google guest agent, such as projects/debian-cloud/global/images/family/debian-12."
  type        = string
  nullable    = false
}

variable "machine_type" {
  description = "Type of the machines."
  type        = string
  default     = "e2-standard-2"
  nullable    = false
}

variable "install" {
  description = "Where the program comes from: https url of a .deb, an .rpm or the bare binary for the image's architecture, and its sha256."
  type        = object({ url = string, sha256 = string })
  nullable    = false
}

variable "files" {
  description = "More files in /etc/isthmus, by name."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "setup" {
  description = "Shell commands that run as root before the gateway starts: they start what serves identity.workload_api."
  type        = string
  default     = ""
  nullable    = false
}

variable "drain_seconds" {
  description = "How long streams may finish when an instance is to go."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.drain_seconds >= 1 && var.drain_seconds <= 80
    error_message = "drain_seconds = ${var.drain_seconds}: must be from 1 to 80: Google Cloud gives a machine 90 seconds to shut down."
  }
}

variable "roles" {
  description = "Roles of the service account in the project, for what setup needs. None is the least."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for r in var.roles : can(regex("^(roles|projects/[^/]+/roles|organizations/[^/]+/roles)/", r)) && !contains(["roles/owner", "roles/editor", "roles/viewer"], r)])
    error_message = "roles = ${jsonencode(var.roles)}: each must be a role such as roles/secretmanager.secretAccessor, and none of owner, editor and viewer."
  }
}

variable "labels" {
  description = "Labels of everything that takes them."
  type        = map(string)
  default     = {}
  nullable    = false
}
