variable "cloud" {
  description = "Whose metadata server the machine has: \"aws\" or \"gcp\"."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["aws", "gcp"], var.cloud)
    error_message = "cloud = ${jsonencode(var.cloud)}: must be \"aws\" or \"gcp\"."
  }
}

variable "configuration" {
  description = "Text of isthmus.yaml. @NAME@, @ADDRESS@, @PRIVATE@ and @ZONE@ in it become what the machine finds itself to be, and each key of values what is given there."
  type        = string
  nullable    = false
}

variable "values" {
  description = "What else is put into the configuration at the start: the key K replaces @K@."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for k, v in var.values : can(regex("^[A-Z][A-Z0-9_]*$", k)) && can(regex("^[A-Za-z0-9.:_-]+$", v))])
    error_message = "values = ${jsonencode(var.values)}: each key must be capitals, digits and \"_\", each value letters, digits and \". : _ -\"."
  }
}

variable "claim" {
  description = "How a machine finds which slot is its own: \"elastic_ip\" takes a free one, \"zone\" and \"instance_name\" look their key up; \"none\" has no slots."
  type        = string
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "elastic_ip", "zone", "instance_name"], var.claim)
    error_message = "claim = ${jsonencode(var.claim)}: must be \"none\", \"elastic_ip\", \"zone\" or \"instance_name\"."
  }
}

variable "slots" {
  description = "By the gateway's name: key (Elastic IP allocation, zone or instance name) and public address."
  type        = map(object({ key = string, address = string }))
  default     = {}
  nullable    = false
}

variable "install" {
  description = "Where the program comes from: url of a .deb, of an .rpm, or of the bare binary, and its sha256."
  type        = object({ url = string, sha256 = string })
  nullable    = false

  validation {
    condition     = can(regex("^(https://|http://127\\.0\\.0\\.1[:/])[^\\s'\"]+$", var.install.url))
    error_message = "install.url = ${jsonencode(var.install.url)}: must begin with https://."
  }
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.install.sha256))
    error_message = "install.sha256 = ${jsonencode(var.install.sha256)}: must be 64 hexadecimal digits in lower case."
  }
}

variable "files" {
  description = "More files in /etc/isthmus, by name: catalogs, bundles. What is here can be read in the instance's user data: secrets are fetched by setup."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.files) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", name)) && name != "isthmus.yaml"])
    error_message = "files = ${jsonencode(keys(var.files))}: each must be a file name without folders, and not isthmus.yaml."
  }
}

variable "setup" {
  description = "Shell commands that run as root before the program starts: they install and start what gives the machine its SPIFFE identity (SPIRE's agent), and fetch secrets."
  type        = string
  default     = ""
  nullable    = false
}

variable "drain" {
  description = "AWS: the Auto Scaling group and the termination hook that the machine completes once its gateway has drained."
  type        = object({ group = string, hook = string })
  default     = null
}

variable "data_device" {
  description = "Block device that keeps /var/lib/isthmus, by a path that does not change; empty means the root disk."
  type        = string
  default     = ""
  nullable    = false
}
