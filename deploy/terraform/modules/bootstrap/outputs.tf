output "user_data" {
  value       = "#cloud-config\n${jsonencode(local.cloud_config)}\n"
  sensitive   = true
  description = "For a cloud's user data field: cloud-init in its JSON form, the same for every cloud."
}

output "environment" {
  value       = local.environment
  sensitive   = true
  description = "The environment file, for machines without cloud-init."
}

output "start" {
  value       = local.start
  description = "The start script, for machines without cloud-init; TENDRIL_ENV names the environment file."
}

output "udp_ports" {
  value       = local.open
  description = "What is open to the world, for the cloud's own firewall."
}
