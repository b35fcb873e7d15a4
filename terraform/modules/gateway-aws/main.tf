locals {
  name       = "isthmus-${var.cluster.name}-gateway"
  cluster_id = try(var.identity.cluster_id, null) != null ? var.identity.cluster_id : "spiffe://${var.identity.trust_domain}/isthmus/cluster/${var.cluster.name}"
  tags       = merge(var.tags, { "isthmus-cluster" = var.cluster.name, "isthmus-role" = "gateway" })

  nlb   = var.exposure == "nlb"
  names = local.nlb ? [for label in keys(var.subnets) : "gw-${label}"] : [for n in range(var.gateways) : "gw${n + 1}"]

  # The admin listener has no secrets, but stays on loopback where no load balancer
  # asks for /readyz.
  admin = local.nlb ? "@PRIVATE@:7481" : "127.0.0.1:7481"
}

# A peer keeps each link to one gateway, by its identity. So an address must lead to one
# gateway: an Elastic IP of its own, or that of a load balancer which stays in its zone.
resource "aws_eip" "gateway" {
  for_each = toset(local.names)
  domain   = "vpc"
  tags     = merge(local.tags, { Name = "${local.name}-${each.key}" })
}

module "config" {
  source = "../config"
  document = {
    cluster  = { name = var.cluster.name, cloud = "aws", region = var.cluster.region, zone = "@ZONE@" }
    identity = var.identity
    gateway = merge({ drain_timeout = "${var.drain_seconds}s" }, var.gateway, {
      name       = "@NAME@"
      advertise  = ["@ADDRESS@:${var.port}"]
      federation = [for n in range(length(var.federation_addresses)) : "@FEDERATION_${n}@"]
      listen = merge(try(var.gateway.listen, {}), {
        link    = "0.0.0.0:${var.port}"
        control = "@PRIVATE@:7482"
        admin   = local.admin
      })
    })
  }
}

data "aws_subnet" "this" {
  for_each = var.subnets
  id       = each.value
}

module "bootstrap" {
  source        = "../bootstrap"
  cloud         = "aws"
  configuration = module.config.text
  values        = { for n, address in var.federation_addresses : "FEDERATION_${n}" => address }
  claim         = local.nlb ? "zone" : "elastic_ip"
  slots = local.nlb ? { for label, s in data.aws_subnet.this : "gw-${label}" => {
    key = s.availability_zone_id, address = aws_eip.gateway["gw-${label}"].public_ip
    } } : { for name, eip in aws_eip.gateway : name => {
    key = eip.allocation_id, address = eip.public_ip
  } }
  install = var.install
  files   = var.files
  setup   = var.setup
  drain   = { group = local.name, hook = "drain" }
}

resource "aws_launch_template" "gateway" {
  name                   = local.name
  image_id               = var.ami_id
  instance_type          = var.instance_type
  user_data              = module.bootstrap.user_data
  update_default_version = true
  ebs_optimized          = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.gateway.arn
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }
  network_interfaces {
    # The Elastic IP takes its place; until then it reaches the API to claim one.
    associate_public_ip_address = !local.nlb
    delete_on_termination       = true
    security_groups             = [aws_security_group.gateway.id]
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted             = true
      volume_size           = 16
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }
  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = local.name })
    }
  }
}

resource "aws_autoscaling_group" "gateway" {
  name                      = local.name
  vpc_zone_identifier       = values(var.subnets)
  min_size                  = length(local.names)
  max_size                  = length(local.names)
  desired_capacity          = length(local.names)
  health_check_type         = local.nlb ? "ELB" : "EC2"
  health_check_grace_period = 300
  target_group_arns         = local.nlb ? [aws_lb_target_group.gateway[0].arn] : []
  wait_for_capacity_timeout = "0" # a gateway is ready when its federation is, which may come later

  launch_template {
    id      = aws_launch_template.gateway.id
    version = aws_launch_template.gateway.latest_version
  }

  # One after the other: the next instance takes the address of the one that drained.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = floor((length(local.names) - 1) * 100 / length(local.names))
      instance_warmup        = 120
    }
  }

  # What drains is given its time also when the group itself is taken down.
  initial_lifecycle_hook {
    name                 = "drain"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = var.drain_seconds + 60
    default_result       = "CONTINUE"
  }

  dynamic "tag" {
    for_each = local.tags
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  depends_on = [aws_iam_role_policy.gateway]
}
