variable "project" {
  description = "Google Cloud project."
  type        = string
}

variable "bundles" {
  description = "The SPIFFE bundle documents of the two trust domains: spire-server bundle show -format spiffe, on each."
  type        = object({ aws = string, gcp = string })
}

variable "install" {
  description = "url and sha256 of the program or package for the machines of each cloud."
  type        = map(object({ url = string, sha256 = string }))
}

variable "setup" {
  description = "Shell commands that start SPIRE's agent on the machines of each cloud."
  type        = map(string)
}

variable "aws" {
  description = "Where on AWS: network, image, and what the federation reads its catalog from."
  type = object({
    vpc_id          = string
    public_subnets  = map(string)
    federation      = object({ subnet_id = string, address = string })
    ami_id          = string
    sources         = optional(any, [])
    source_policies = optional(list(string), [])
  })
}

variable "gcp" {
  description = "Where on Google Cloud: network, zone of the federation, image, and who may call the gateways' way in."
  type = object({
    network    = string
    subnetwork = string
    zone       = string
    image      = string
    workloads  = list(string)
  })
}
