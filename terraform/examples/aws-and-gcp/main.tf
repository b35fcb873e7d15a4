# Two clouds joined: a cluster on AWS that offers billing, a cluster on Google Cloud that
# calls it. Identities come from a SPIRE server in each cloud, whose agents setup starts.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws    = { source = "hashicorp/aws", version = ">= 5.80, < 7" }
    google = { source = "hashicorp/google", version = ">= 6.10, < 8" }
  }
}

provider "aws" {
  region = "us-east-1"
}

provider "google" {
  project = var.project
  region  = "us-central1"
}

locals {
  aws = { name = "aws-us-east-1", region = "us-east-1", identity = { trust_domain = "aws.example.org", workload_api = "unix:///run/spire/agent.sock" } }
  gcp = { name = "gcp-us-central1", region = "us-central1", identity = { trust_domain = "gcp.example.org", workload_api = "unix:///run/spire/agent.sock" } }
  web = "spiffe://gcp.example.org/apps/web"
}

module "peering" {
  source = "../../modules/peering"
  clusters = {
    aws-us-east-1 = {
      id       = module.aws_federation.id
      cloud    = "aws"
      region   = local.aws.region
      gateways = module.aws_gateways.gateways
      bundle   = { document = var.bundles.aws }
    }
    gcp-us-central1 = {
      id       = module.gcp_federation.id
      cloud    = "gcp"
      region   = local.gcp.region
      gateways = module.gcp_gateways.gateways
      asserts  = [local.web]
      bundle   = { document = var.bundles.gcp }
    }
  }
}

module "aws_federation" {
  source           = "../../modules/federation-aws"
  cluster          = { name = local.aws.name, region = local.aws.region }
  identity         = local.aws.identity
  vpc_id           = var.aws.vpc_id
  replicas         = { fed1 = var.aws.federation }
  ami_id           = var.aws.ami_id
  install          = var.install.aws
  setup            = var.setup.aws
  policy_documents = var.aws.source_policies
  federation = {
    sources    = var.aws.sources
    peers      = module.peering.peers[local.aws.name]
    exports    = [{ name = "billing", services = ["billing"], to = [local.gcp.name] }]
    intentions = [{ name = "web-may-bill", services = ["billing"], callers = [local.web], action = "allow" }]
  }
}

module "aws_gateways" {
  source                    = "../../modules/gateway-aws"
  cluster                   = { name = local.aws.name, region = local.aws.region }
  identity                  = local.aws.identity
  federation_addresses      = module.aws_federation.mesh_addresses
  federation_security_group = module.aws_federation.security_group
  vpc_id                    = var.aws.vpc_id
  subnets                   = var.aws.public_subnets
  ami_id                    = var.aws.ami_id
  install                   = var.install.aws
  setup                     = var.setup.aws
}

module "gcp_federation" {
  source     = "../../modules/federation-gcp"
  project    = var.project
  cluster    = { name = local.gcp.name, region = local.gcp.region }
  identity   = local.gcp.identity
  network    = var.gcp.network
  subnetwork = var.gcp.subnetwork
  replicas   = { fed1 = var.gcp.zone }
  image      = var.gcp.image
  install    = var.install.gcp
  setup      = var.setup.gcp
  federation = {
    peers   = module.peering.peers[local.gcp.name]
    imports = [{ name = "from-aws", from = local.aws.name, services = ["billing"] }]
  }
}

module "gcp_gateways" {
  source                     = "../../modules/gateway-gcp"
  project                    = var.project
  cluster                    = { name = local.gcp.name, region = local.gcp.region }
  identity                   = local.gcp.identity
  federation_addresses       = module.gcp_federation.mesh_addresses
  federation_service_account = module.gcp_federation.service_account
  network                    = var.gcp.network
  subnetwork                 = var.gcp.subnetwork
  image                      = var.gcp.image
  install                    = var.install.gcp
  setup                      = var.setup.gcp
  workloads                  = { "7080" = var.gcp.workloads }
  gateway = { listen = {
    http         = "0.0.0.0:7080"
    http_caller  = local.web
    http_sources = var.gcp.workloads
  } }
}

output "spiffe_ids" {
  description = "What each SPIRE server must register: federations and gateways."
  value = {
    aws = concat([module.aws_federation.id], values(module.aws_gateways.gateway_ids))
    gcp = concat([module.gcp_federation.id], values(module.gcp_gateways.gateway_ids))
  }
}

output "configurations" {
  description = "Each isthmus.yaml before a machine puts its own name and addresses in."
  value = {
    aws_federation = module.aws_federation.configuration
    aws_gateways   = module.aws_gateways.configuration
    gcp_federation = module.gcp_federation.configuration
    gcp_gateways   = module.gcp_gateways.configuration
  }
}
