variable "cluster" {
  description = "The cluster: name (DNS label) and region, as in the configuration file."
  type        = object({ name = string, region = string })
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$", var.cluster.name))
    error_message = "cluster.name = ${jsonencode(var.cluster.name)}: must be a DNS label of at most 42 characters."
  }
}

variable "identity" {
  description = "The identity section of the configuration file: trust_domain, and workload_api of what setup installs."
  type        = any
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*$", var.identity.trust_domain))
    error_message = "identity.trust_domain: must be a SPIFFE trust domain such as aws.example.org."
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

variable "vpc_id" {
  description = "VPC of the federation."
  type        = string
  nullable    = false
}

variable "replicas" {
  description = "Subnet and address in it of each replica, by its name (DNS label). More than one share their store in Consul (federation.store.consul)."
  type        = map(object({ subnet_id = string, address = string }))
  nullable    = false

  validation {
    condition     = length(var.replicas) > 0 && alltrue([for name in keys(var.replicas) : can(regex("^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$", name))])
    error_message = "replicas: must have at least one, each under a DNS label of at most 22 characters; got ${jsonencode(keys(var.replicas))}."
  }
  validation {
    condition     = alltrue([for r in var.replicas : can(cidrnetmask("${r.address}/32"))])
    error_message = "replicas.*.address = ${jsonencode([for r in var.replicas : r.address])}: each must be an IPv4 address."
  }
  validation {
    condition     = length(var.replicas) <= 1 || try(var.federation.store.consul, null) != null
    error_message = "replicas: ${length(var.replicas)} need one store, so federation.store.consul must be set."
  }
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

variable "ami_id" {
  description = "Image with systemd, cloud-init and curl."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "ami_id = ${jsonencode(var.ami_id)}: must be an image ID such as ami-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "Type of the instances."
  type        = string
  default     = "c7g.large"
  nullable    = false
}

variable "data_gib" {
  description = "Size of the disk that keeps the store. It outlives the instance."
  type        = number
  default     = 8
  nullable    = false

  validation {
    condition     = var.data_gib >= 1 && var.data_gib <= 1024
    error_message = "data_gib = ${var.data_gib}: must be from 1 to 1024."
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

variable "policy_documents" {
  description = "More IAM policies of the instances, as JSON, for what setup and the sources need (see the policy of each source). None is the least."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for d in var.policy_documents : can(jsondecode(d).Statement)])
    error_message = "policy_documents: each must be an IAM policy in JSON."
  }
}

variable "permissions_boundary" {
  description = "ARN of a permissions boundary of the role."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
  nullable    = false
}
