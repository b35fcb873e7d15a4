variable "clusters" {
  description = "The two clusters by name: id of the federation, where they are, gateways (host:port; none where nobody can dial in), the callers that their gateways may speak for, and the bundle of their trust domain (file on the other's federation host, or the document itself) unless both share one."
  type = map(object({
    id       = string
    cloud    = optional(string)
    region   = optional(string)
    gateways = optional(list(string), [])
    asserts  = optional(list(string), [])
    bundle = optional(object({
      file     = optional(string)
      document = optional(string)
      endpoint = optional(object({
        url       = string
        profile   = string
        spiffe_id = optional(string)
        ca_file   = optional(string)
      }))
    }))
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(var.clusters) == (length(var.operators) == 0 ? 2 : 0)
    error_message = "clusters: must be exactly two, or none where operators join them by an invitation; got ${jsonencode(keys(var.clusters))}."
  }
  validation {
    condition     = alltrue([for name, c in var.clusters : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "clusters = ${jsonencode(keys(var.clusters))}: each name must be a DNS label."
  }
  validation {
    condition     = alltrue([for name, c in var.clusters : can(regex("^spiffe://[a-z0-9._-]+/.+$", c.id))])
    error_message = "clusters.*.id = ${jsonencode([for c in var.clusters : c.id])}: each must be a SPIFFE ID with a path."
  }
  validation {
    condition     = length(distinct([for c in var.clusters : c.id])) == length(var.clusters)
    error_message = "clusters.*.id: the two must differ."
  }
  validation {
    condition     = alltrue(flatten([for name, c in var.clusters : [for g in c.gateways : can(regex("^[A-Za-z0-9.:\\[\\]-]+:[0-9]{1,5}$", g))]]))
    error_message = "clusters.*.gateways = ${jsonencode([for c in var.clusters : c.gateways])}: each must be host:port."
  }
  validation {
    condition     = length(var.clusters) == 0 || anytrue([for c in var.clusters : length(c.gateways) > 0])
    error_message = "clusters.*.gateways: at least one of the two must have some, or neither can dial the other."
  }
  validation {
    condition     = alltrue(flatten([for name, c in var.clusters : [for a in c.asserts : can(regex("^spiffe://[^/*]+(/.*)?$", a))]]))
    error_message = "clusters.*.asserts = ${jsonencode([for c in var.clusters : c.asserts])}: each must be a SPIFFE ID pattern such as spiffe://east.example.org/apps/*."
  }
  validation {
    condition = length(distinct([for c in var.clusters : try(regex("^spiffe://([^/]+)/", c.id)[0], c.id)])) < 2 || alltrue([
      for c in var.clusters : try(c.bundle.file, null) != null || try(c.bundle.document, null) != null
    ])
    error_message = "clusters.*.bundle: two trust domains need the first bundle of each, as file or document."
  }
  validation {
    condition     = alltrue([for c in var.clusters : try(c.bundle.document, null) == null || can(jsondecode(c.bundle.document).keys)])
    error_message = "clusters.*.bundle.document: must be a SPIFFE bundle document, which is JSON with keys."
  }
}

variable "operators" {
  description = "How the isthmus command is run in each of the two clusters (output operator of the module host): they are then joined by an invitation, and parted by peer remove. asserts are the callers that the cluster's gateways may speak for."
  type = map(object({
    cluster = string
    shell   = list(string)
    command = string
    api     = string
    asserts = optional(list(string), [])
  }))
  default  = {}
  nullable = false

  validation {
    condition     = contains([0, 2], length(var.operators)) && length(distinct([for o in var.operators : o.cluster])) == length(var.operators)
    error_message = "operators: must be exactly two, of different clusters."
  }
  validation {
    condition     = alltrue(flatten([for o in var.operators : concat([for w in o.shell : !strcontains(w, "'")], [for a in o.asserts : can(regex("^[A-Za-z0-9:/._*-]+$", a))], [can(regex("^[A-Za-z0-9/._-]+$", o.api))])]))
    error_message = "operators: words of shell must have no quotes, asserts must be SPIFFE ID patterns, api must be a path."
  }
}
