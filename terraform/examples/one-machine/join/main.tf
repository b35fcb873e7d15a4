# Joins west and north by an invitation, once both run. Each side is told how to run the
# isthmus command there; the module host has it as its output operator.
terraform {
  required_version = ">= 1.9"
}

variable "directory" {
  description = "Folder that each cluster has a folder in."
  type        = string
  default     = "/tmp/isthmus-one-machine"
}

module "peering" {
  source = "../../../modules/peering"
  operators = { for name in ["north", "west"] : name => {
    cluster = name
    shell   = ["/bin/sh", "-c"]
    command = "${var.directory}/${name}/bin/isthmus"
    api     = "${var.directory}/${name}/run/api.sock"
    asserts = ["spiffe://${name}.example.org/apps/*"]
  } }
}
