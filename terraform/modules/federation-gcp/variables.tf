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

variable "federation" {
  description = "More of the federation section of the configuration file: sources, peers, exports, imports, intentions, store. Its listen, advertise and store.replica are this module's."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.federation)) && length(setintersection(try(keys(var.federation), []), ["listen", "advertise"])) == 0 && try(var.federation.store.replica, null) == null
    error_message = "federation: must be a mapping without listen, advertise and store.replica, which the module sets."
  }
}

variable "replicas" {
  description = "Zone of each replica, by its name (DNS label). More than one share their store in Consul (federation.store.consul)."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.replicas) > 0 && alltrue([for name, zone in var.replicas : can(regex("^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$", name)) && startswith(zone, "${var.cluster.region}-")])
    error_message = "replicas = ${jsonencode(var.replicas)}: must have at least one, each a zone of ${var.cluster.region} under a DNS label of at most 22 characters."
  }
  validation {
    condition     = length(var.replicas) <= 1 || try(var.federation.store.consul, null) != null
    error_message = "replicas: ${length(var.replicas)} need one store, so federation.store.consul must be set."
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

variable "operators" {
  description = "IPv4 ranges from where operators reach the API over mTLS (federation.api.mtls on port 7484). None: the host only."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for c in var.operators : can(cidrnetmask(c)) && c != "0.0.0.0/0"])
    error_message = "operators = ${jsonencode(var.operators)}: each must be an IPv4 range other than 0.0.0.0/0."
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

variable "data_gib" {
  description = "Size of the disk that keeps the store. It outlives the instance."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.data_gib >= 10 && var.data_gib <= 1024
    error_message = "data_gib = ${var.data_gib}: must be from 10 to 1024."
  }
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
  description = "Shell commands that run as root before the federation starts: they start what serves identity.workload_api."
  type        = string
  default     = ""
  nullable    = false
}

variable "roles" {
  description = "Roles of the service account in the project, for what setup and the sources need. None is the least."
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
