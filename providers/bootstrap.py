"""The start-up script of a bought machine: what the Terraform module ``bootstrap`` makes, from the same files.

cloud-config as JSON, which is YAML: the node's agent installs, joins with its single-use token and hardens the machine;
then the commands of the operator start the AI agents. The files under ``data/bootstrap`` are those of the module, and a
test compares them.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

REFLECTOR, PROBE, RELAY = 862, 7420, 7422
CONTROL = (7430, 7431, 7432)
MEDIA = (7423,)
_FOLDER = files("providers") / "data" / "bootstrap"
_LOOP = "%{ for "


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What differs between machines; ``join_token`` is a secret and is never shown."""

    node: str
    control_url: str
    join_token: str
    install: str = "tendril"
    options: Sequence[str] = ()
    run: Sequence[str] = ()
    about: Mapping[str, str] | None = None  # further variables of the environment, for the AI agents


def user_data(what: Bootstrap) -> str:
    """The cloud-config of one machine."""
    written = (
        ("/etc/tendril/agent.env", "0600", environment(what)),
        ("/usr/local/sbin/tendril-node", "0755", _text("start.sh")),
        ("/etc/systemd/system/tendril-node.service", "0644", _text("tendril-node.service")),
        ("/etc/nftables.conf", "0644", rules()),
        ("/etc/ssh/sshd_config.d/10-tendril.conf", "0644", _text("sshd.conf")),
        ("/etc/sysctl.d/90-tendril.conf", "0644", _text("sysctl.conf")),
    )
    config = {
        "package_update": True,
        "package_upgrade": True,
        "packages": ["nftables", "python3-venv", "unattended-upgrades"],
        "write_files": [
            {
                "path": path, "permissions": mode, "owner": "root:root", "encoding": "b64",
                "content": base64.b64encode(text.encode()).decode(),
            }
            for path, mode, text in written
        ],
        "runcmd": [
            ["sysctl", "--system"],
            ["systemctl", "enable", "--now", "nftables"],
            ["useradd", "--system", "--home-dir", "/var/lib/tendril", "--shell", "/usr/sbin/nologin", "tendril"],
            ["python3", "-m", "venv", "/opt/tendril"],
            ["/opt/tendril/bin/pip", "install", "--quiet", what.install],
            ["systemctl", "enable", "--now", "tendril-node"],
            *(["sh", "-c", f"set -a; . /etc/tendril/agent.env; {command}"] for command in what.run),
        ],
    }  # fmt: skip
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def environment(what: Bootstrap) -> str:
    """``agent.env``: what the start script reads."""
    options = " ".join(what.options)
    lines = {
        "TENDRIL_NODE": what.node,
        "TENDRIL_URL": what.control_url,
        "TENDRIL_JOIN_TOKEN": what.join_token,
        "TENDRIL_ADDRESS": "",
        "TENDRIL_MEDIA_URL": "",
        "TENDRIL_REFLECTOR_PORT": str(REFLECTOR),
        "TENDRIL_PROBE_PORT": str(PROBE),
        "TENDRIL_RELAY_PORT": str(RELAY),
        **(what.about or {}),
    }
    told = "\n".join(f"{name}={shlex.quote(value) if value else ''}" for name, value in lines.items())
    return f"{told}\nTENDRIL_OPTIONS={shlex.quote(options)}\n"


def rules() -> str:
    """The firewall: probes, media and relays from anywhere, nothing else; nobody logs in."""
    ports = ", ".join(str(port) for port in dict.fromkeys((REFLECTOR, PROBE, *CONTROL, RELAY, *MEDIA)))
    kept, skipping = [], False
    for line in _text("nftables.conf").splitlines():
        if line.startswith("%{"):
            skipping = line.startswith(_LOOP)
        elif not skipping:
            kept.append(line.replace('${join(", ", ports)}', ports))
    return "\n".join(kept) + "\n"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
