mock_provider "aws" {
  mock_resource "aws_eip" {
    defaults = { public_ip = "203.0.113.9", allocation_id = "eipalloc-1" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/isthmus" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = { address = "198.51.100.7", self_link = "https://www.googleapis.com/compute/v1/projects/mesh-prod-1/regions/us-central1/addresses/a" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "isthmus@mesh-prod-1.iam.gserviceaccount.com" }
  }
}

variables {
  project = "mesh-prod-1"
  bundles = { aws = "{\"keys\":[]}", gcp = "{\"keys\":[]}" }
  install = {
    aws = { url = "https://example.org/isthmus.rpm", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
    gcp = { url = "https://example.org/isthmus.deb", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  setup = { aws = "systemctl start spire-agent", gcp = "systemctl start spire-agent" }
  aws = {
    vpc_id         = "vpc-1"
    public_subnets = { a = "subnet-1", b = "subnet-2" }
    federation     = { subnet_id = "subnet-3", address = "10.20.0.5" }
    ami_id         = "ami-0123456789abcdef0"
    sources        = [{ consul = { address = "127.0.0.1:8500" } }]
  }
  gcp = {
    network    = "projects/mesh-prod-1/global/networks/mesh"
    subnetwork = "projects/mesh-prod-1/regions/us-central1/subnetworks/mesh"
    zone       = "us-central1-a"
    image      = "projects/debian-cloud/global/images/family/debian-12"
    workloads  = ["10.30.0.0/16"]
  }
}

run "joined" {
  assert {
    condition     = yamldecode(output.configurations.aws_federation).federation.peers[0].gateways[0] == "198.51.100.7:7443"
    error_message = "AWS must know where Google Cloud's gateways are."
  }
  assert {
    condition     = yamldecode(output.configurations.gcp_federation).federation.peers[0].gateways[0] == "203.0.113.9:7443"
    error_message = "Google Cloud must know where AWS's gateways are."
  }
}
