output "id" {
  description = "SPIFFE ID of the cluster's federation: id of this cluster's entry at its peers."
  value       = local.id
}

output "gateway_id" {
  description = "SPIFFE ID of the gateway here; null without one."
  value       = var.gateway == null ? null : "${local.id}/gateway/${local.gateway}"
}

output "api" {
  description = "Unix socket of the REST API on the host."
  value       = try(var.federation.api.socket, local.api)
}

output "bundle_file" {
  description = "Path on the host of the embedded CA's bundle; null without a CA."
  value       = var.ca == null ? null : local.bundle
}

output "files" {
  description = "Path on the host of each of files."
  value       = { for name in keys(var.files) : name => "${local.dir}/etc/files/${name}" }
}

# Known when the host is: what joins clusters by it comes after.
output "operator" {
  description = "How the isthmus command is run on the host; for the module peering."
  value = {
    cluster = var.cluster.name
    shell   = local.shell
    command = "'${local.dir}/bin/isthmus'"
    api     = try(var.federation.api.socket, local.api)
  }
  depends_on = [terraform_data.federation, terraform_data.gateway]
}

output "configuration" {
  description = "The configuration file of each role."
  value       = local.texts
}

output "units" {
  description = "The systemd unit of each role."
  value       = local.units
}
