output "text" {
  description = "The file, in YAML."
  value       = local.text

  precondition {
    condition     = length(local.problems) == 0
    error_message = "The configuration has ${length(local.problems)} problem(s):\n- ${join("\n- ", local.problems)}"
  }
}

output "sha256" {
  description = "Digest of the file, to replace what depends on it."
  value       = sha256(local.text)
}
