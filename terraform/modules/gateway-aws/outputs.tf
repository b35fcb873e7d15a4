output "gateways" {
  description = "host:port of each gateway's public address: gateways of this cluster's entry at its peers."
  value       = [for name in local.names : "${aws_eip.gateway[name].public_ip}:${var.port}"]
}

output "gateway_ids" {
  description = "SPIFFE ID of each gateway, by name: what the Workload API must offer to them."
  value       = { for name in local.names : name => "${local.cluster_id}/gateway/${name}" }
}

output "security_group_id" {
  description = "Security group of the gateways: what endpoints let in."
  value       = aws_security_group.gateway.id
}

output "role_name" {
  description = "IAM role of the instances."
  value       = aws_iam_role.gateway.name
}

output "autoscaling_group_name" {
  description = "The Auto Scaling group."
  value       = aws_autoscaling_group.gateway.name
}

output "configuration" {
  description = "isthmus.yaml before the instance puts its own name and addresses in."
  value       = module.config.text
}

output "cloud_init" {
  description = "User data of the instances, readable."
  value       = module.bootstrap.cloud_init
}
