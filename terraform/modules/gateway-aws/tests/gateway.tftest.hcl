mock_provider "aws" {
  mock_data "aws_subnet" {
    defaults = { availability_zone_id = "use1-az4" }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "198.51.100.7", allocation_id = "eipalloc-1" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/isthmus" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/isthmus/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/isthmus/1" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

variables {
  cluster              = { name = "aws-us-east-1", region = "us-east-1" }
  identity             = { trust_domain = "aws.example.org", workload_api = "unix:///run/spire/agent.sock" }
  vpc_id               = "vpc-1"
  subnets              = { a = "subnet-1", b = "subnet-2" }
  ami_id               = "ami-0123456789abcdef0"
  install              = { url = "https://example.org/isthmus", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  federation_addresses = ["10.20.0.5:7483"]
}

run "addresses" {
  assert {
    condition     = aws_launch_template.gateway.metadata_options[0].http_tokens == "required" && aws_launch_template.gateway.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2 only, and for the machine itself only."
  }
  assert {
    condition     = toset([for r in aws_vpc_security_group_ingress_rule.public : "${r.ip_protocol} ${r.from_port}-${r.to_port}"]) == toset(["udp 7443-7443", "tcp 7443-7443"])
    error_message = "The public port, UDP and TCP, and nothing else."
  }
  assert {
    condition     = length(aws_lb.gateway) == 0 && length(aws_eip.gateway) == 2
    error_message = "An address for each gateway, no load balancer."
  }
  assert {
    condition     = one(aws_autoscaling_group.gateway.initial_lifecycle_hook).heartbeat_timeout == 180
    error_message = "The group waits for the drain."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.gateway.policy).Statement : s.Action] == ["autoscaling:CompleteLifecycleAction", "ec2:AssociateAddress"]
    error_message = "What the instances may do, and no more."
  }
}

run "nlb" {
  variables {
    exposure = "nlb"
  }
  assert {
    condition     = aws_lb_listener.gateway[0].protocol == "TCP_UDP" && aws_lb_listener.gateway[0].port == 7443 && aws_lb_target_group.gateway[0].health_check[0].path == "/readyz"
    error_message = "UDP and TCP on one port; a gateway that drains leaves."
  }
  assert {
    condition     = !aws_lb.gateway[0].enable_cross_zone_load_balancing
    error_message = "A zone's address leads to the zone's gateway."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.gateway.policy).Statement : s.Action] == ["autoscaling:CompleteLifecycleAction"]
    error_message = "Nothing to claim."
  }
  assert {
    condition     = toset(keys(output.gateway_ids)) == toset(["gw-a", "gw-b"])
    error_message = "One for each zone."
  }
}

run "names_what_is_wrong" {
  command = plan
  variables {
    cluster    = { name = "AWS_1", region = "us-east-1" }
    exposure   = "alb"
    gateways   = 17
    subnets    = { "A_1" = "subnet-1" }
    port       = 80
    peer_cidrs = ["::/0"]
    workloads  = { http = ["10.0.0.0/8"] }
    ami_id     = "debian"
    gateway    = { listen = { link = "0.0.0.0:1" } }

    drain_seconds        = 3600
    policy_documents     = ["{}"]
    federation_addresses = []
  }
  expect_failures = [
    var.cluster, var.exposure, var.gateways, var.subnets, var.port, var.peer_cidrs, var.workloads, var.ami_id,
    var.gateway, var.drain_seconds, var.policy_documents, var.federation_addresses,
  ]
}
