output "id" {
  description = "SPIFFE ID of the federation: id of this cluster's entry at its peers, and what the Workload API must offer to it."
  value       = local.cluster_id
}

output "mesh_addresses" {
  description = "host:port of each replica: federation_addresses of the gateways."
  value       = [for name, replica in var.replicas : "${replica.address}:7483"]
}

output "security_group" {
  description = "federation_security_group of the gateways."
  value       = { id = aws_security_group.federation.id }
}

output "instance_ids" {
  description = "Instances by replica."
  value       = { for name, i in aws_instance.replica : name => i.id }
}

output "role_name" {
  description = "IAM role of the instances."
  value       = aws_iam_role.federation.name
}

output "configuration" {
  description = "isthmus.yaml before the instance puts its own name and addresses in."
  value       = module.config.text
}

output "cloud_init" {
  description = "User data by replica, readable."
  value       = { for name in keys(var.replicas) : name => module.bootstrap[name].cloud_init }
}
