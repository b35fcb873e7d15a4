# A cluster on AWS and one on premises behind NAT: the one on premises dials, and is
# called back over the links that it dialed. Nothing is opened there.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.80, < 7" }
  }
}

provider "aws" {
  region = "us-east-1"
}

variable "aws" {
  description = "Where on AWS, and what the federation reads its catalog from."
  type = object({
    vpc_id         = string
    public_subnets = map(string)
    federation     = object({ subnet_id = string, address = string })
    ami_id         = string
    install        = object({ url = string, sha256 = string })
    setup          = string
    sources        = optional(any, [])
  })
}

variable "on_premises" {
  description = "The host on premises, by ssh, its program, and its catalog."
  type = object({
    ssh     = string
    program = object({ path = optional(string), url = optional(string), sha256 = optional(string) })
    catalog = string
  })
}

variable "bundles" {
  description = "The SPIFFE bundle documents: of SPIRE on AWS, and of the embedded CA on premises (isthmus writes it to data/ca.bundle.json). The latter is empty until the first apply has made it."
  type        = object({ aws = string, on_premises = optional(string, "") })
}

locals {
  aws  = { name = "aws-us-east-1", identity = { trust_domain = "aws.example.org", workload_api = "unix:///run/spire/agent.sock" } }
  dc1  = { name = "dc1", trust_domain = "dc1.example.org" }
  join = var.bundles.on_premises != ""
  apps = "spiffe://aws.example.org/apps/*"
}

module "peering" {
  source = "../../modules/peering"
  count  = local.join ? 1 : 0
  clusters = {
    aws-us-east-1 = {
      id       = module.aws_federation.id
      cloud    = "aws"
      region   = "us-east-1"
      gateways = module.aws_gateways.gateways
      asserts  = [local.apps]
      bundle   = { document = var.bundles.aws }
    }
    dc1 = { # no gateways: nobody can dial in
      id     = module.dc1.id
      cloud  = "onprem"
      region = "dc1"
      bundle = { document = var.bundles.on_premises }
    }
  }
}

module "aws_federation" {
  source   = "../../modules/federation-aws"
  cluster  = { name = local.aws.name, region = "us-east-1" }
  identity = local.aws.identity
  vpc_id   = var.aws.vpc_id
  replicas = { fed1 = var.aws.federation }
  ami_id   = var.aws.ami_id
  install  = var.aws.install
  setup    = var.aws.setup
  federation = {
    sources = var.aws.sources
    peers   = local.join ? module.peering[0].peers[local.aws.name] : []
    imports = [{ name = "from-dc1", from = local.dc1.name, services = ["ledger"] }]
  }
}

module "aws_gateways" {
  source                    = "../../modules/gateway-aws"
  cluster                   = { name = local.aws.name, region = "us-east-1" }
  identity                  = local.aws.identity
  federation_addresses      = module.aws_federation.mesh_addresses
  federation_security_group = module.aws_federation.security_group
  vpc_id                    = var.aws.vpc_id
  subnets                   = var.aws.public_subnets
  ami_id                    = var.aws.ami_id
  install                   = var.aws.install
  setup                     = var.aws.setup
}

module "dc1" {
  source   = "../../modules/host"
  cluster  = { name = local.dc1.name, cloud = "onprem", region = "dc1" }
  identity = { trust_domain = local.dc1.trust_domain }
  ssh      = { destination = var.on_premises.ssh }
  program  = var.on_premises.program
  files    = { "catalog.yaml" = var.on_premises.catalog }
  ca       = {}
  federation = {
    sources    = [{ file = { path = "/opt/isthmus/etc/files/catalog.yaml" } }]
    peers      = local.join ? module.peering[0].peers[local.dc1.name] : []
    exports    = [{ name = "ledger", services = ["ledger"], to = [local.aws.name] }]
    intentions = [{ name = "apps-may-use-the-ledger", services = ["ledger"], callers = [local.apps], action = "allow" }]
  }
  gateway = { name = "gw1" } # no advertise: it dials out
}

output "configurations" {
  description = "Each configuration file; on AWS before an instance puts its own name and addresses in."
  value = merge({
    aws_federation = module.aws_federation.configuration
    aws_gateways   = module.aws_gateways.configuration
  }, { for role, text in module.dc1.configuration : "dc1_${role}" => text })
}
