output "script" {
  description = "The start script, for machines whose agent runs one (Google Cloud)."
  value       = local.script
}

output "cloud_init" {
  description = "The same as user data for cloud-init."
  value       = local.cloud_init
}

output "user_data" {
  description = "cloud_init, compressed and in base64, as a launch template takes it."
  value       = local.user_data

  precondition {
    # base64 makes four characters of three bytes
    condition     = length(local.user_data) * 3 / 4 <= 16 * 1024
    error_message = "Configuration and files make ${floor(length(local.user_data) * 3 / 4)} bytes of user data, of which AWS takes 16384: fetch large files in setup."
  }
}
