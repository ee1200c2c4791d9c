output "data_center_id" {
  value       = tendril_data_center.this.id
  description = "The data center's id."
}

output "node_ids" {
  value       = { for name, node in tendril_node.this : name => node.id }
  description = "Ids of the nodes by name."
}

output "user_data" {
  value       = { for name, one in module.bootstrap : name => one.user_data }
  sensitive   = true
  description = "cloud-init of each node, for your own provisioning (MAAS, a seed image, PXE)."
}
