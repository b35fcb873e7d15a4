variable "cluster" {
  description = "The cluster section of the configuration file: name (DNS label), and where it is."
  type = object({
    name   = string
    cloud  = optional(string)
    region = optional(string)
    zone   = optional(string)
  })
  nullable = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$", var.cluster.name))
    error_message = "cluster.name = ${jsonencode(var.cluster.name)}: must be a DNS label of at most 42 characters."
  }
}

variable "identity" {
  description = "The identity section of the configuration file. With ca, workload_api is that of the CA here unless it is set."
  type        = any
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*$", var.identity.trust_domain))
    error_message = "identity.trust_domain: must be a SPIFFE trust domain such as east.example.org."
  }
  validation {
    condition     = var.ca != null || try(var.identity.workload_api, null) != null || try(var.identity.files, null) != null
    error_message = "identity: needs workload_api or files where there is no ca."
  }
}

variable "ca" {
  description = "More of the embedded CA's file (docs/configuration-reference.md, isthmus ca serve), {} for none; null: no CA here. Entries for the federation and the gateway of this host are there already."
  type        = any
  default     = null

  validation {
    condition     = var.ca == null || (can(keys(var.ca)) && length(setintersection(try(keys(var.ca), []), ["trust_domain", "dir", "socket", "bundle_file"])) == 0)
    error_message = "ca: must be a mapping without trust_domain, dir, socket and bundle_file, which the module sets."
  }
}

variable "federation" {
  description = "The federation section of the configuration file, {} for one that has nothing yet; null: no federation here."
  type        = any
  default     = null

  validation {
    condition     = var.federation == null || can(keys(var.federation))
    error_message = "federation: must be a mapping."
  }
}

variable "gateway" {
  description = "The gateway section of the configuration file; null: no gateway here."
  type        = any
  default     = null

  validation {
    condition     = var.gateway == null || can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", var.gateway.name))
    error_message = "gateway.name: must be a DNS label, unique in the cluster."
  }
  validation {
    condition     = var.ca != null || var.federation != null || var.gateway != null
    error_message = "One of ca, federation and gateway must be set: they say what this host does."
  }
}

variable "bind" {
  description = "IP address that every listener is bound to, so that several clusters share one machine (127.0.0.11, say). null: the product's defaults."
  type        = string
  default     = null

  validation {
    condition     = var.bind == null || can(regex("^([0-9]{1,3}\\.){3}[0-9]{1,3}$", var.bind))
    error_message = "bind = ${jsonencode(var.bind)}: must be an IPv4 address."
  }
}

variable "program" {
  description = "The isthmus program: path of a file where terraform runs, or url (https) and sha256 for the host to fetch it by curl."
  type        = object({ path = optional(string), url = optional(string), sha256 = optional(string) })
  nullable    = false

  validation {
    condition     = (var.program.path != null) != (var.program.url != null)
    error_message = "program: needs exactly one of path and url."
  }
  validation {
    condition     = var.program.url == null || (can(regex("^https://[^\\s'\"]+$", var.program.url)) && can(regex("^[0-9a-f]{64}$", var.program.sha256)))
    error_message = "program: url must begin with https:// and have a sha256 of 64 hexadecimal digits beside it."
  }
  validation {
    condition     = var.program.path == null || can(filesha256(var.program.path))
    error_message = "program.path = ${jsonencode(var.program.path)}: is no file that can be read here."
  }
}

variable "directory" {
  description = "Folder on the host that holds everything: program, configuration, data, sockets, logs. It is made, and removed with all that is in it."
  type        = string
  default     = "/opt/isthmus"
  nullable    = false

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$", var.directory)) && length(var.directory) <= 80
    error_message = "directory = ${jsonencode(var.directory)}: must be an absolute path of letters, digits and \". _ -\", at most 80 long since sockets lie below it."
  }
}

variable "supervisor" {
  description = "\"systemd\": a unit for each process, as root. \"process\": plain processes, which nothing starts again."
  type        = string
  default     = "systemd"
  nullable    = false

  validation {
    condition     = contains(["systemd", "process"], var.supervisor)
    error_message = "supervisor = ${jsonencode(var.supervisor)}: must be \"systemd\" or \"process\"."
  }
}

variable "user" {
  description = "With supervisor \"systemd\": the user that the processes run as. It is made if it is not there, and left."
  type        = string
  default     = "isthmus"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.user))
    error_message = "user = ${jsonencode(var.user)}: must be a user's name."
  }
}

variable "ssh" {
  description = "The host, by the ssh command of the machine where terraform runs: its agent, its known_hosts, its configuration. null: this machine. Nothing of it is a secret or becomes state."
  type        = object({ destination = string, options = optional(list(string), []) })
  default     = null

  validation {
    condition     = var.ssh == null || can(regex("^[A-Za-z0-9][A-Za-z0-9@._:-]*$", var.ssh.destination))
    error_message = "ssh.destination: must be a host, or user@host."
  }
  validation {
    condition     = var.ssh == null || alltrue([for o in try(var.ssh.options, []) : can(regex("^[A-Za-z0-9@%+=:,./_-]+$", o))])
    error_message = "ssh.options = ${jsonencode(try(var.ssh.options, []))}: each must be one word without quotes."
  }
}

variable "files" {
  description = "More files, by name, in the folder etc/files of directory: catalogs, bundles. A change is written in one step and restarts nothing. They are in the state: no secrets."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.files) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", name))])
    error_message = "files = ${jsonencode(keys(var.files))}: each must be a file name without folders."
  }
}

variable "stop_seconds" {
  description = "How long a process may take to drain and end before it is killed: above gateway.drain_timeout."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.stop_seconds >= 1 && var.stop_seconds <= 900
    error_message = "stop_seconds = ${var.stop_seconds}: must be from 1 to 900."
  }
}

variable "ready_seconds" {
  description = "How long an apply waits for a process to be ready; 0 waits for none."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.ready_seconds >= 0 && var.ready_seconds <= 900
    error_message = "ready_seconds = ${var.ready_seconds}: must be from 0 to 900."
  }
}
