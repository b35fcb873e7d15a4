mock_provider "aws" {
  mock_data "aws_subnet" {
    defaults = { availability_zone = "us-east-1a" }
  }
  mock_resource "aws_ebs_volume" {
    defaults = { id = "vol-0123456789abcdef0" }
  }
}

variables {
  cluster  = { name = "aws-us-east-1", region = "us-east-1" }
  identity = { trust_domain = "aws.example.org", workload_api = "unix:///run/spire/agent.sock" }
  vpc_id   = "vpc-1"
  replicas = { fed1 = { subnet_id = "subnet-1", address = "10.20.0.5" } }
  ami_id   = "ami-0123456789abcdef0"
  install  = { url = "https://example.org/isthmus.deb", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
}

run "one" {
  assert {
    condition     = output.mesh_addresses == ["10.20.0.5:7483"] && length(aws_vpc_security_group_ingress_rule.operators) == 0
    error_message = "Gateways find it, nobody else does."
  }
  assert {
    condition     = aws_instance.replica["fed1"].metadata_options[0].http_tokens == "required" && aws_ebs_volume.data["fed1"].encrypted
    error_message = "IMDSv2 only, and an encrypted disk."
  }
  assert {
    condition     = strcontains(output.cloud_init.fed1, "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0")
    error_message = "The disk by a name that does not change."
  }
  assert {
    condition     = length(aws_iam_role_policy.more) == 0
    error_message = "The federation itself asks nothing of the cloud."
  }
}

run "names_what_is_wrong" {
  command = plan
  variables {
    cluster    = { name = "", region = "us-east-1" }
    federation = { store = { replica = "x" } }
    operators  = ["0.0.0.0/0"]
    data_gib   = 0
  }
  expect_failures = [var.cluster, var.federation, var.operators, var.data_gib]
}

# A rule about two inputs is judged once the other one is good.
run "needs_one_store_for_two" {
  command = plan
  variables {
    replicas = { fed1 = { subnet_id = "subnet-1", address = "10.20.0.5" }, fed2 = { subnet_id = "subnet-2", address = "10.20.1" } }
  }
  expect_failures = [var.replicas]
}
