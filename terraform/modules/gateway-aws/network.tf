resource "aws_security_group" "gateway" {
  name        = local.name
  description = "Isthmus gateways of ${var.cluster.name}: the public port only"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = local.name })
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  security_group_id = aws_security_group.gateway.id
  tags              = merge(local.tags, { Name = "to peers, endpoints and the cloud's API" })
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

locals {
  protocols = ["udp", "tcp"]
  public    = { for p in setproduct(local.protocols, var.peer_cidrs) : "${p[0]}-${p[1]}" => { protocol = p[0], cidr = p[1] } }
  workloads = merge([for port, cidrs in var.workloads : { for c in cidrs : "${port}-${c}" => { port = tonumber(port), cidr = c } }]...)
}

# With a load balancer the public rules are its own.
resource "aws_vpc_security_group_ingress_rule" "public" {
  for_each          = local.public
  security_group_id = local.nlb ? aws_security_group.balancer[0].id : aws_security_group.gateway.id
  tags              = merge(local.tags, { Name = "links of peers" })
  cidr_ipv4         = each.value.cidr
  ip_protocol       = each.value.protocol
  from_port         = var.port
  to_port           = var.port
}

resource "aws_vpc_security_group_ingress_rule" "workloads" {
  for_each          = local.workloads
  security_group_id = aws_security_group.gateway.id
  tags              = merge(local.tags, { Name = "ways in, for workloads" })
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "control" {
  count                        = var.federation_security_group == null ? 0 : 1
  security_group_id            = aws_security_group.gateway.id
  tags                         = merge(local.tags, { Name = "control, for the own federation" })
  referenced_security_group_id = var.federation_security_group.id
  ip_protocol                  = "tcp"
  from_port                    = 7482
  to_port                      = 7482
}

resource "aws_vpc_security_group_ingress_rule" "mesh" {
  count                        = var.federation_security_group == null ? 0 : 1
  security_group_id            = var.federation_security_group.id
  tags                         = merge(local.tags, { Name = "mesh, for the gateways" })
  referenced_security_group_id = aws_security_group.gateway.id
  ip_protocol                  = "tcp"
  from_port                    = 7483
  to_port                      = 7483
}

resource "aws_security_group" "balancer" {
  count       = local.nlb ? 1 : 0
  name        = "${local.name}-nlb"
  description = "Load balancer of the Isthmus gateways of ${var.cluster.name}"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "${local.name}-nlb" })
}

# UDP and TCP of the public port, and the health check.
resource "aws_vpc_security_group_egress_rule" "balancer" {
  for_each                     = local.nlb ? { udp = var.port, tcp = var.port, health = 7481 } : {}
  security_group_id            = aws_security_group.balancer[0].id
  tags                         = merge(local.tags, { Name = "to the gateways" })
  referenced_security_group_id = aws_security_group.gateway.id
  ip_protocol                  = each.key == "udp" ? "udp" : "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "balanced" {
  for_each                     = local.nlb ? { udp = var.port, tcp = var.port, health = 7481 } : {}
  security_group_id            = aws_security_group.gateway.id
  tags                         = merge(local.tags, { Name = "from the load balancer" })
  referenced_security_group_id = aws_security_group.balancer[0].id
  ip_protocol                  = each.key == "udp" ? "udp" : "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_lb" "gateway" {
  count                            = local.nlb ? 1 : 0
  name                             = substr("isthmus-${var.cluster.name}", 0, 32)
  load_balancer_type               = "network"
  internal                         = false
  security_groups                  = [aws_security_group.balancer[0].id]
  enable_cross_zone_load_balancing = false # a zone's address leads to the zone's gateway
  tags                             = local.tags

  dynamic "subnet_mapping" {
    for_each = var.subnets
    content {
      subnet_id     = subnet_mapping.value
      allocation_id = aws_eip.gateway["gw-${subnet_mapping.key}"].allocation_id
    }
  }
}

resource "aws_lb_target_group" "gateway" {
  count                  = local.nlb ? 1 : 0
  name                   = substr("isthmus-${var.cluster.name}", 0, 32)
  vpc_id                 = var.vpc_id
  port                   = var.port
  protocol               = "TCP_UDP"
  target_type            = "instance"
  deregistration_delay   = var.drain_seconds
  connection_termination = true # links that stay after the drain would go to nobody
  tags                   = local.tags

  health_check {
    protocol            = "HTTP"
    port                = "7481"
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "gateway" {
  count             = local.nlb ? 1 : 0
  load_balancer_arn = aws_lb.gateway[0].arn
  port              = var.port
  protocol          = "TCP_UDP"
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway[0].arn
  }
}
