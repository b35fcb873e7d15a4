output "id" {
  description = "SPIFFE ID of the federation: id of this cluster's entry at its peers, and what the Workload API must offer to it."
  value       = local.cluster_id
}

output "mesh_addresses" {
  description = "host:port of each replica: federation_addresses of the gateways."
  value       = [for name in keys(var.replicas) : "${google_compute_address.replica[name].address}:7483"]
}

output "service_account" {
  description = "federation_service_account of the gateways."
  value       = { email = google_service_account.federation.email }
}

output "configuration" {
  description = "isthmus.yaml before the machine puts its own name and addresses in."
  value       = module.config.text
}

output "scripts" {
  description = "Start script of each replica."
  value       = { for name in keys(var.replicas) : name => module.bootstrap[name].script }
}
