data "aws_partition" "this" {}
data "aws_region" "this" {}
data "aws_caller_identity" "this" {}

locals {
  # name, not region: the attribute that provider versions 5 and 6 have in common.
  here = "${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}"
  ec2  = "arn:${data.aws_partition.this.partition}:ec2:${local.here}"
}

resource "aws_iam_role" "gateway" {
  name_prefix          = substr("isthmus-${var.cluster.name}-gw-", 0, 38)
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# What the instances themselves do: end a drain, and take an address of their own.
resource "aws_iam_role_policy" "gateway" {
  name = "gateway"
  role = aws_iam_role.gateway.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect   = "Allow"
        Action   = "autoscaling:CompleteLifecycleAction"
        Resource = "arn:${data.aws_partition.this.partition}:autoscaling:${local.here}:autoScalingGroup:*:autoScalingGroupName/${local.name}"
      }],
      local.nlb ? [] : [{
        Effect   = "Allow"
        Action   = "ec2:AssociateAddress"
        Resource = ["${local.ec2}:elastic-ip/*", "${local.ec2}:instance/*", "${local.ec2}:network-interface/*"]
        Condition = { StringEquals = {
          "aws:ResourceTag/isthmus-cluster" = var.cluster.name
          "aws:ResourceTag/isthmus-role"    = "gateway"
        } }
      }],
    )
  })
}

resource "aws_iam_role_policy" "more" {
  count  = length(var.policy_documents)
  name   = "more-${count.index}"
  role   = aws_iam_role.gateway.id
  policy = var.policy_documents[count.index]
}

resource "aws_iam_instance_profile" "gateway" {
  name_prefix = substr("isthmus-${var.cluster.name}-gw-", 0, 38)
  role        = aws_iam_role.gateway.name
  tags        = local.tags
}
