locals {
  # What differs between nodes; the start script and the unit are the same everywhere.
  environment = join("\n", [
    "TENDRIL_NODE=${var.node}",
    "TENDRIL_URL=${var.control_url}",
    "TENDRIL_JOIN_TOKEN=${var.join_token}",
    "TENDRIL_ADDRESS=${var.address}",
    "TENDRIL_MEDIA_URL=${var.media_url}",
    "TENDRIL_REFLECTOR_PORT=${var.ports.reflector}",
    "TENDRIL_PROBE_PORT=${var.ports.probe}",
    "TENDRIL_RELAY_PORT=${var.ports.relay}",
    "TENDRIL_OPTIONS='${join(" ", var.options)}'",
    "",
  ])
  start = file("${path.module}/files/start.sh")
  open  = distinct(concat([var.ports.reflector, var.ports.probe, 7430, 7431, 7432, var.ports.relay], var.ports.media))
  rules = templatefile("${path.module}/files/nftables.conf", { ports = local.open, ssh = var.ssh_cidrs, ingress = var.ingress })
  files = [
    { path = "/etc/tendril/agent.env", mode = "0600", text = local.environment },
    { path = "/usr/local/sbin/tendril-node", mode = "0755", text = local.start },
    { path = "/etc/systemd/system/tendril-node.service", mode = "0644", text = file("${path.module}/files/tendril-node.service") },
    { path = "/etc/nftables.conf", mode = "0644", text = local.rules },
    { path = "/etc/ssh/sshd_config.d/10-tendril.conf", mode = "0644", text = file("${path.module}/files/sshd.conf") },
    { path = "/etc/sysctl.d/90-tendril.conf", mode = "0644", text = file("${path.module}/files/sysctl.conf") },
  ]
  cloud_config = {
    package_update  = true
    package_upgrade = true
    packages        = ["nftables", "python3-venv", "unattended-upgrades"]
    write_files = [for f in local.files : {
      path = f.path, permissions = f.mode, owner = "root:root", encoding = "b64", content = base64encode(f.text)
    }]
    runcmd = [
      ["sysctl", "--system"],
      ["systemctl", "enable", "--now", "nftables"],
      ["useradd", "--system", "--home-dir", "/var/lib/tendril", "--shell", "/usr/sbin/nologin", "tendril"],
      ["python3", "-m", "venv", "/opt/tendril"],
      ["/opt/tendril/bin/pip", "install", "--quiet", var.install],
      ["systemctl", "enable", "--now", "tendril-node"],
    ]
  }
}
