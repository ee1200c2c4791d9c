output "data_center_id" {
  value       = tendril_data_center.this.id
  description = "The data center's id."
}

output "node_ids" {
  value       = { for name, node in tendril_node.this : name => node.id }
  description = "Ids of the nodes by name."
}

output "addresses" {
  value       = { for name, one in local.machines : name => { v4 = one.v4, v6 = one.v6 } }
  description = "Public addresses of the machines by name; v6 is null where there is none."
}

output "native_ids" {
  value       = { for name, one in local.machines : name => one.id }
  description = "The cloud's ids of the machines by name."
}

output "user_data" {
  value       = { for name, one in module.bootstrap : name => one.user_data }
  sensitive   = true
  description = "cloud-init of each node."
}

output "join_state" {
  value       = { for name, one in tendril_join_token.this : name => { token_id = one.id, expires_at = one.expires_at } }
  description = "The token that each node joins with, and until when. Whether it was used is tendril_join_token's to say: here it would be a change of every plan."
}

output "estimated_monthly_usd" {
  value       = var.machine_usd_per_month == null ? null : length(var.nodes) * var.machine_usd_per_month
  description = "What the machines cost in a month, traffic left out; null without machine_usd_per_month."
}
