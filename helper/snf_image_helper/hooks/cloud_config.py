# SPDX-License-Identifier: GPL-2.0-or-later
"""What instance-image's hook cloud-init writes into the guest: 99_ganeti.cfg, by which cloud-init makes one user.

Source of the keys: instance-image 0.7.3, cloud_init.rb. What differs: booleans are booleans, as cloud-init's schema has
them, and the instance-id is another one for each installation, or a guest would take itself for one that is set up.
"""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_helper.files.block_yaml import Value, block_yaml
from snf_image_shared.deployment import CloudConfig

PATH = "/etc/cloud/cloud.cfg.d/99_ganeti.cfg"
_MODULES = (
    *("migrator", "bootcmd", "write-files", "growpart", "resizefs", "set_hostname", "update_hostname"),
    *("update_etc_hosts", "resolv_conf", "rsyslog", "users-groups", "ssh"),
)
_GROUPS = ("wheel", "adm", "systemd-journal")


def document(config: CloudConfig, name: str, instance_id: str) -> str:
    """The file for the instance of this name."""
    host, _, domain = name.partition(".")
    keys: dict[str, Value] = {
        "hostname": host,
        "fqdn": name,
        "instance-id": instance_id,
        "disable_root": config.disable_root,
        "ssh_pwauth": config.ssh_pwauth,
        "manage-resolv-conf": config.manage_resolv_conf,
        "manage_resolv_conf": config.manage_resolv_conf,
        "cloud_init_modules": _MODULES,
    }
    if config.user:
        keys["groups"] = [config.user]
        keys["users"] = [_user(config)]
    if config.manage_resolv_conf:
        keys["resolv_conf"] = {
            "nameservers": config.nameservers,
            "searchdomains": config.search,
            "domain": domain,
            "options": {"rotate": True, "timeout": 1},
        }
    return "\n".join(("#cloud-config", *block_yaml(keys), ""))


def from_environment(environment: Mapping[str, str]) -> str:
    """The file for a hook that has exported its settings."""
    given = {name: environment.get(name, "") for name in ("CINIT_USER", "CINIT_SSH_KEY", "INSTANCE_NAME")}
    flags = ("CINIT_DISABLE_ROOT", "CINIT_SSH_PWAUTH", "CINIT_MANAGE_RESOLV_CONF")
    disable_root, ssh_pwauth, manage = (environment.get(name) == "yes" for name in flags)
    config = CloudConfig(
        user=given["CINIT_USER"],
        ssh_key=given["CINIT_SSH_KEY"],
        disable_root=disable_root,
        ssh_pwauth=ssh_pwauth,
        manage_resolv_conf=manage,
        nameservers=tuple(environment.get("DNS_SERVERS", "").split()),
        search=tuple(environment.get("DNS_SEARCH", "").split()),
    )
    return document(config, given["INSTANCE_NAME"], environment.get("SNF_IMAGE_INSTANCE_ID") or given["INSTANCE_NAME"])


def _user(config: CloudConfig) -> Mapping[str, Value]:
    return {
        "name": config.user,
        "primary-group": config.user,
        "groups": _GROUPS,
        "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        "shell": "/bin/bash",
        "lock_passwd": True,
        **({"ssh_authorized_keys": [config.ssh_key]} if config.ssh_key else {}),
    }
