# Everything for AWS in one root, so that the minute which a load balancer takes is
# paid once.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "install" { type = object({ url = string, sha256 = string }) }

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = false
  endpoints {
    autoscaling = var.endpoint
    ec2         = var.endpoint
    elbv2       = var.endpoint
    iam         = var.endpoint
    sts         = var.endpoint
  }
}

resource "aws_vpc" "this" {
  cidr_block = "10.20.0.0/16"
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "this" {
  for_each          = { a = 1, b = 2 }
  vpc_id            = aws_vpc.this.id
  cidr_block        = "10.20.${each.value}.0/24"
  availability_zone = "us-east-1${each.key}"
  depends_on        = [aws_internet_gateway.this]
}

locals {
  subnets = { for label, s in aws_subnet.this : label => s.id }
  ami     = "ami-03cf127a"
  common = {
    cluster  = { name = "aws-us-east-1", region = "us-east-1" }
    identity = { trust_domain = "aws.example.org", workload_api = "unix:///run/spire/agent.sock" }
  }
}

module "federation" {
  source    = "../../modules/federation-aws"
  cluster   = local.common.cluster
  identity  = local.common.identity
  vpc_id    = aws_vpc.this.id
  replicas  = { for label, id in local.subnets : label => { subnet_id = id, address = "10.20.${label == "a" ? 1 : 2}.10" } }
  ami_id    = local.ami
  install   = var.install
  operators = ["10.20.0.0/16"]
  files     = { "catalog.yaml" = "services: []\n" }
  federation = {
    sources = [{ file = { path = "/etc/isthmus/catalog.yaml" } }]
    exports = [{ name = "all", services = ["*"], to = ["*"] }]
    store   = { consul = { address = ["10.20.1.20:8500"] } }
    api     = { mtls = { address = "0.0.0.0:7484" }, auth = { roles = [{ role = "admin", ids = ["spiffe://aws.example.org/ops/*"] }] } }
    peers = [{
      name     = "gcp-us-central1", id = "spiffe://gcp.example.org/isthmus/cluster/gcp-us-central1"
      gateways = ["198.51.100.7:7443"], bundle = { file = "/etc/isthmus/gcp.bundle.json" }
    }]
  }
  policy_documents = [jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "servicediscovery:ListInstances", Resource = "*" }]
  })]
}

module "addresses" {
  source                    = "../../modules/gateway-aws"
  cluster                   = local.common.cluster
  identity                  = local.common.identity
  federation_addresses      = module.federation.mesh_addresses
  federation_security_group = module.federation.security_group
  vpc_id                    = aws_vpc.this.id
  subnets                   = local.subnets
  gateways                  = 2
  ami_id                    = local.ami
  install                   = var.install
  peer_cidrs                = ["198.51.100.0/24", "203.0.113.0/24"]
  workloads                 = { "7080" = ["10.20.0.0/16"] }
  gateway = { listen = {
    http = "0.0.0.0:7080", http_caller = "spiffe://aws.example.org/apps/web", http_sources = ["10.20.0.0/16"]
  } }
}

module "balanced" {
  source               = "../../modules/gateway-aws"
  cluster              = { name = "aws-balanced", region = "us-east-1" }
  identity             = local.common.identity
  federation_addresses = ["10.20.1.200:7483"]
  exposure             = "nlb"
  vpc_id               = aws_vpc.this.id
  subnets              = local.subnets
  ami_id               = local.ami
  install              = var.install
}

output "addresses" {
  value = module.addresses
}

output "balanced" {
  value = module.balanced
}

output "federation" {
  value = module.federation
}
