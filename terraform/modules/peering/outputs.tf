output "peers" {
  description = "By cluster: what belongs into its federation.peers, to be joined with others by concat. Empty where operators join them."
  value       = local.peers
}

output "joined" {
  description = "Whether operators have joined them; what comes after waits for it."
  value       = length(terraform_data.joined) == 1
}
