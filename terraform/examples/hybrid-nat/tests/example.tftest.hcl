mock_provider "aws" {
  mock_resource "aws_eip" {
    defaults = { public_ip = "203.0.113.9", allocation_id = "eipalloc-1" }
  }
}

variables {
  bundles = { aws = "{\"keys\":[]}", on_premises = "{\"keys\":[]}" }
  aws = {
    vpc_id         = "vpc-1"
    public_subnets = { a = "subnet-1", b = "subnet-2" }
    federation     = { subnet_id = "subnet-3", address = "10.20.0.5" }
    ami_id         = "ami-0123456789abcdef0"
    install        = { url = "https://example.org/isthmus.rpm", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
    setup          = "systemctl start spire-agent"
  }
  on_premises = {
    ssh     = "ops@dc1.corp.example.org"
    program = { url = "https://example.org/isthmus", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
    catalog = "services: []\n"
  }
}

# A plan only: an apply would go to the host.
run "joined" {
  command = plan
  override_resource {
    target          = module.aws_gateways.aws_eip.gateway
    override_during = plan
    values          = { public_ip = "203.0.113.9", allocation_id = "eipalloc-1" }
  }
  assert {
    condition     = !can(yamldecode(output.configurations.dc1_gateway).gateway.advertise) && length(try(yamldecode(output.configurations.aws_federation).federation.peers[0].gateways, [])) == 0
    error_message = "Nobody dials in on premises."
  }
}

run "first_apply" {
  command = plan
  variables {
    bundles = { aws = "{\"keys\":[]}" }
  }
  assert {
    condition     = length(yamldecode(output.configurations.dc1_federation).federation.peers) == 0
    error_message = "Without the bundle nobody is joined yet."
  }
}
