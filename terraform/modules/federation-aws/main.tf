locals {
  name       = "isthmus-${var.cluster.name}-federation"
  cluster_id = try(var.identity.cluster_id, null) != null ? var.identity.cluster_id : "spiffe://${var.identity.trust_domain}/isthmus/cluster/${var.cluster.name}"
  tags       = merge(var.tags, { "isthmus-cluster" = var.cluster.name, "isthmus-role" = "federation" })
  store      = try(var.federation.store, null)
}

data "aws_subnet" "this" {
  for_each = var.replicas
  id       = each.value.subnet_id
}

module "config" {
  source = "../config"
  document = {
    cluster  = { name = var.cluster.name, cloud = "aws", region = var.cluster.region, zone = "@ZONE@" }
    identity = var.identity
    federation = merge(var.federation, {
      listen    = "@PRIVATE@:7483"
      advertise = "@PRIVATE@:7483"
      store     = local.store == null ? null : merge(local.store, { replica = "@REPLICA@" })
    })
  }
}

module "bootstrap" {
  for_each      = var.replicas
  source        = "../bootstrap"
  cloud         = "aws"
  configuration = module.config.text
  values        = { REPLICA = each.key }
  install       = var.install
  files         = var.files
  setup         = var.setup
  data_device   = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data[each.key].id, "-", "")}"
}

# Address and disk stay when the instance is replaced: gateways find it where it was,
# and it finds what it knew.
resource "aws_ebs_volume" "data" {
  for_each          = var.replicas
  availability_zone = data.aws_subnet.this[each.key].availability_zone
  size              = var.data_gib
  type              = "gp3"
  encrypted         = true
  tags              = merge(local.tags, { Name = "${local.name}-${each.key}" })
}

resource "aws_instance" "replica" {
  for_each                    = var.replicas
  ami                         = var.ami_id
  instance_type               = var.instance_type
  subnet_id                   = each.value.subnet_id
  private_ip                  = each.value.address
  vpc_security_group_ids      = [aws_security_group.federation.id]
  iam_instance_profile        = aws_iam_instance_profile.federation.name
  user_data_base64            = module.bootstrap[each.key].user_data
  user_data_replace_on_change = true
  ebs_optimized               = true
  tags                        = merge(local.tags, { Name = "${local.name}-${each.key}" })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }
  root_block_device {
    encrypted   = true
    volume_size = 16
    volume_type = "gp3"
  }
}

resource "aws_volume_attachment" "data" {
  for_each                       = var.replicas
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.data[each.key].id
  instance_id                    = aws_instance.replica[each.key].id
  stop_instance_before_detaching = true # the store is closed in order
}

resource "aws_security_group" "federation" {
  name        = local.name
  description = "Isthmus federation of ${var.cluster.name}: nothing is public"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = local.name })
}

resource "aws_vpc_security_group_egress_rule" "federation" {
  security_group_id = aws_security_group.federation.id
  tags              = merge(local.tags, { Name = "to gateways, sources and the cloud's API" })
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

# The mesh port is opened to the gateways by their module.
resource "aws_vpc_security_group_ingress_rule" "operators" {
  for_each          = var.operators
  security_group_id = aws_security_group.federation.id
  tags              = merge(local.tags, { Name = "API over mTLS" })
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 7484
  to_port           = 7484
}

resource "aws_iam_role" "federation" {
  name_prefix          = substr("isthmus-${var.cluster.name}-fed-", 0, 38)
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# The federation itself asks nothing of the cloud; its sources may.
resource "aws_iam_role_policy" "more" {
  count  = length(var.policy_documents)
  name   = "more-${count.index}"
  role   = aws_iam_role.federation.id
  policy = var.policy_documents[count.index]
}

resource "aws_iam_instance_profile" "federation" {
  name_prefix = substr("isthmus-${var.cluster.name}-fed-", 0, 38)
  role        = aws_iam_role.federation.name
  tags        = local.tags
}
