variable "kind" {
  description = "Which file: \"run\" (isthmus run) or \"ca\" (isthmus ca serve)."
  type        = string
  default     = "run"
  nullable    = false

  validation {
    condition     = contains(["run", "ca"], var.kind)
    error_message = "kind = ${jsonencode(var.kind)}: must be \"run\" or \"ca\"."
  }
}

# No object type: Terraform drops attributes that such a type does not name, so that a
# mistyped key would be gone without a word. The keys are checked by schema.json, which
# is written from the types that read the file.
variable "document" {
  description = "The file as a value: every key as in docs/configuration-reference.md. Keys that are null are left out."
  type        = any
  nullable    = false

  validation {
    condition     = can(keys(var.document))
    error_message = "document: must be a mapping, as the file is."
  }
}
