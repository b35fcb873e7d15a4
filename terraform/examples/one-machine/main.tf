# Three clusters on one machine, each a workspace of this folder with a state of its
# own, as three teams would have it:
#
#   terraform workspace new east && terraform apply
#   terraform workspace new north && terraform apply
#   terraform workspace new west && terraform apply
#
# east calls billing, which runs in west and, in case, in north. east knows both by
# declaration; west and north are joined by an invitation, in the folder join.
terraform {
  required_version = ">= 1.9"
}

variable "directory" {
  description = "Folder that each cluster has a folder in."
  type        = string
  default     = "/tmp/isthmus-one-machine"
}

variable "network" {
  description = "The first three numbers of the clusters' loopback addresses."
  type        = string
  default     = "127.0.7"
}

variable "program" {
  description = "The isthmus program."
  type        = string
  default     = "../../../bin/isthmus"
}

variable "billing" {
  description = "Where billing runs, by cluster: ip:port."
  type        = map(string)
  default     = { west = "127.0.0.1:9001", north = "127.0.0.1:9002" }
}

variable "access_log" {
  description = "Which calls the gateways log."
  type        = string
  default     = "errors"
}

locals {
  clusters = { for n, name in ["east", "north", "west"] : name => {
    bind   = "${var.network}.${n + 11}"
    id     = "spiffe://${name}.example.org/isthmus/cluster/${name}"
    folder = "${var.directory}/${name}"
  } }
  own     = local.clusters[terraform.workspace]
  callers = "spiffe://east.example.org/apps/*"
}

module "peering" {
  source   = "../../modules/peering"
  for_each = toset([for name in ["north", "west"] : name if contains(["east", name], terraform.workspace)])
  clusters = { for name in ["east", each.key] : name => {
    id       = local.clusters[name].id
    cloud    = "onprem"
    region   = name
    gateways = ["${local.clusters[name].bind}:7443"]
    asserts  = ["spiffe://${name}.example.org/apps/*"]
    bundle   = { file = "${local.clusters[name].folder}/data/ca.bundle.json" }
  } }
}

module "host" {
  source     = "../../modules/host"
  cluster    = { name = terraform.workspace, cloud = "onprem", region = terraform.workspace }
  identity   = { trust_domain = "${terraform.workspace}.example.org" }
  bind       = local.own.bind
  directory  = local.own.folder
  supervisor = "process"
  program    = { path = var.program }
  files = { "catalog.yaml" = yamlencode({ services = [
    for name, address in var.billing : {
      name = "billing", ports = [{ name = "http", protocol = "http" }], endpoints = [{ address = address }]
    } if name == terraform.workspace
  ] }) }

  ca = {}
  federation = {
    sources = [{ file = { path = "${local.own.folder}/etc/files/catalog.yaml" }, allow = ["127.0.0.0/8"] }]
    peers   = concat([], [for p in module.peering : p.peers[terraform.workspace]]...)
    exports = [{ name = "all", services = ["*"], to = ["*"] }]
    imports = [for name in keys(local.clusters) : {
      name = "from-${name}", from = name, services = ["*"]
    } if name != terraform.workspace]
    intentions       = [{ name = "apps-may-bill", services = ["billing"], callers = [local.callers], action = "allow" }]
    traffic_policies = [{ name = "west-first", services = ["billing"], clusters = ["west", "north"] }]
  }
  gateway = {
    name          = "gw1"
    advertise     = ["${local.own.bind}:7443"]
    access_log    = var.access_log
    drain_timeout = "10s"
    listen = {
      http        = "${local.own.bind}:7080"
      http_caller = "spiffe://${terraform.workspace}.example.org/apps/web"
    }
  }
}

output "operator" {
  description = "How the isthmus command is run in this cluster."
  value       = module.host.operator
}

output "call" {
  description = "A call of billing by this cluster's gateway."
  value       = "curl -H 'Host: billing.default.mesh' http://${local.own.bind}:7080/"
}
