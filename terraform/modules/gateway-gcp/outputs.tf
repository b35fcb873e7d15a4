output "gateways" {
  description = "host:port of the public addresses: gateways of this cluster's entry at its peers."
  value       = distinct([for name in local.names : "${local.addresses[name]}:${var.port}"])
}

output "gateway_ids" {
  description = "SPIFFE ID of each gateway, by name: what the Workload API must offer to them."
  value       = { for name in local.names : name => "${local.cluster_id}/gateway/${name}" }
}

output "service_account" {
  description = "Email of the gateways' service account: what endpoints let in."
  value       = google_service_account.gateway.email
}

output "instance_group" {
  description = "The managed instance group's instances."
  value       = google_compute_region_instance_group_manager.gateway.instance_group
}

output "configuration" {
  description = "isthmus.yaml before the machine puts its own name and addresses in."
  value       = module.config.text
}

output "script" {
  description = "Start script of the machines."
  value       = module.bootstrap.script
}

output "roll" {
  description = "After a change of the template: the command that replaces each gateway, to be run one after the other."
  value = [for name in local.names :
    "gcloud compute instance-groups managed update-instances ${local.name} --project=${var.project} --region=${var.cluster.region} --instances=${local.machines[name]} --minimal-action=replace --most-disruptive-allowed-action=replace"
  ]
}
