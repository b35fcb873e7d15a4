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
  description = "host:port of the federation's mesh listener, of each replica (output mesh_addresses of federation-aws)."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.federation_addresses) > 0
    error_message = "federation_addresses: must name at least one federation."
  }
}

variable "federation_security_group" {
  description = "Security group of the federation, which is then let in to the control port, and whose mesh port lets the gateways in. null: both are left to you."
  type        = object({ id = string })
  default     = null
}

variable "exposure" {
  description = "\"addresses\": each gateway has an Elastic IP of its own. \"nlb\": a Network Load Balancer with an Elastic IP and one gateway in each zone."
  type        = string
  default     = "addresses"
  nullable    = false

  validation {
    condition     = contains(["addresses", "nlb"], var.exposure)
    error_message = "exposure = ${jsonencode(var.exposure)}: must be \"addresses\" or \"nlb\"."
  }
}

variable "gateways" {
  description = "How many gateways, with exposure \"addresses\". With \"nlb\" there is one for each subnet."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.gateways >= 1 && var.gateways <= 16 && floor(var.gateways) == var.gateways
    error_message = "gateways = ${var.gateways}: must be a whole number from 1 to 16."
  }
}

variable "vpc_id" {
  description = "VPC of the gateways."
  type        = string
  nullable    = false
}

variable "subnets" {
  description = "Subnet IDs by a label of your own (a DNS label; with exposure \"nlb\" the gateway is called gw-LABEL), each in another zone. With \"addresses\" they are public ones."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.subnets) > 0 && alltrue([for label in keys(var.subnets) : can(regex("^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$", label))])
    error_message = "subnets: must have at least one, each under a DNS label; got ${jsonencode(keys(var.subnets))}."
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

variable "ami_id" {
  description = "Image with systemd, cloud-init, curl and, for exposure \"addresses\" and for a prompt end of a drain, the AWS command line (Amazon Linux 2023 has all)."
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
  default     = 120
  nullable    = false

  validation {
    condition     = var.drain_seconds >= 1 && var.drain_seconds <= 840
    error_message = "drain_seconds = ${var.drain_seconds}: must be from 1 to 840; the unit is stopped for good after 15 minutes."
  }
}

variable "policy_documents" {
  description = "More IAM policies of the instances, as JSON, for what setup needs. None is the least."
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
