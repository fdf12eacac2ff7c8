# SPDX-License-Identifier: GPL-2.0-or-later
"""What Fedora, the RHEL family and Amazon Linux have in common."""

from __future__ import annotations

from phony_guests.tree import Entry, alias, directory, enabled, file, programs, unit

RELEASE_EL = "rocky-release / centos-release: os-release(5) as shipped; `cat /etc/os-release` of the image"
SETUP = "package setup: hosts, passwd, group, shadow (mode 0000 since RHEL 6)"
SSHD = "package openssh-server: sshd_config of the distribution, drop-ins since RHEL 9 and Fedora 33"
HOSTS = (
    "127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n"
    "::1         localhost localhost.localdomain localhost6 localhost6.localdomain6\n\n"
)
SYSTEM_ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/bash",
    "bin:x:1:1:bin:/bin:/sbin/nologin",
    "daemon:x:2:2:daemon:/sbin:/sbin/nologin",
    "nobody:x:65534:65534:Kernel Overflow User:/:/sbin/nologin",
    "sshd:x:74:74:Privilege-separated SSH:/usr/share/empty.sshd:/usr/sbin/nologin",
)
SHADOW = (
    "root:!!:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"
    "nobody:*:19000:0:99999:7:::\nsshd:!!:19000::::::\n"
)
SYSTEMD = programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/bin/systemctl")
NETWORKMANAGER = (
    *programs("/usr/sbin/NetworkManager", "/usr/bin/nmcli", "/usr/bin/nm-online"),
    directory("/etc/NetworkManager/conf.d"),
    directory("/etc/NetworkManager/dispatcher.d"),
    directory("/etc/NetworkManager/system-connections", 0o700),
    file("/etc/NetworkManager/NetworkManager.conf", "[main]\n#plugins=keyfile,ifcfg-rh\n\n[logging]\n#level=DEBUG\n"),
    *enabled("NetworkManager.service"),
    *enabled("NetworkManager-wait-online.service", wanted_by="network-online.target"),
    unit("NetworkManager-dispatcher.service", "Alias=dbus-org.freedesktop.nm-dispatcher.service"),
    alias("dbus-org.freedesktop.nm-dispatcher.service", "NetworkManager-dispatcher.service"),
)
CLOUD_INIT_UNITS = (
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-config.service",
    "cloud-final.service",
)
SELINUX = """# This file controls the state of SELinux on the system.
SELINUX=enforcing
SELINUXTYPE=targeted
"""


def ssh_directory(config: str, *drop_ins: Entry) -> tuple[Entry, ...]:
    includes = "Include /etc/ssh/sshd_config.d/*.conf\n\n" if drop_ins else ""
    return (
        directory("/etc/ssh"),
        file("/etc/ssh/sshd_config", includes + config, 0o600),
        *((directory("/etc/ssh/sshd_config.d", 0o700), *drop_ins) if drop_ins else ()),
        *enabled("sshd.service"),
    )


KEYS_FILE = "AuthorizedKeysFile\t.ssh/authorized_keys\n"
OLD_SSHD = (
    "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ecdsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    f"SyslogFacility AUTHPRIV\n{KEYS_FILE}PasswordAuthentication no\nUsePAM yes\n"
    "Subsystem\tsftp\t/usr/libexec/openssh/sftp-server\n"
)
NEW_SSHD = f"{KEYS_FILE}Subsystem\tsftp\t/usr/libexec/openssh/sftp-server\n"
REDHAT_DROP_IN = file(
    "/etc/ssh/sshd_config.d/50-redhat.conf",
    "SyslogFacility AUTHPRIV\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n",
    0o600,
)


def bls(version: str, title: str, root: str) -> tuple[Entry, ...]:
    """Boot Loader Specification entries, as kernel-install and anaconda leave them."""
    machine = "9f1c0d1c1b1e4c1a8e6d2f3a4b5c6d7e"
    options = f"root={root} ro console=ttyS0,115200n8 no_timer_check net.ifnames=0"
    entry = (
        f"title {title}\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img\n"
        f"options {options}\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
    )
    return (
        directory("/boot/loader/entries", 0o700),
        file(f"/boot/loader/entries/{machine}-{version}.conf", entry),
        file("/etc/kernel/cmdline", f"{options}\n"),
        directory("/boot/grub2", 0o700),
        file("/boot/grub2/grub.cfg", "set timeout=1\ninsmod blscfg\nblscfg\n", 0o600),
        file(
            "/etc/default/grub",
            'GRUB_TIMEOUT=1\nGRUB_DEFAULT=saved\nGRUB_DISABLE_SUBMENU=true\nGRUB_TERMINAL_OUTPUT="console"\n'
            'GRUB_CMDLINE_LINUX="console=ttyS0,115200n8 no_timer_check net.ifnames=0"\n'
            'GRUB_DISABLE_RECOVERY="true"\nGRUB_ENABLE_BLSCFG=true\n',
        ),
        file("/boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ", 0o700),
        directory(f"/usr/lib/modules/{version}"),
    )


def ifcfg(*lines: str) -> Entry:
    return file("/etc/sysconfig/network-scripts/ifcfg-eth0", "".join(f"{line}\n" for line in lines))


IFCFG_7 = ifcfg(
    'DEVICE="eth0"',
    'BOOTPROTO="dhcp"',
    'ONBOOT="yes"',
    'TYPE="Ethernet"',
    'USERCTL="yes"',
    'PEERDNS="yes"',
    'IPV6INIT="no"',
    'PERSISTENT_DHCLIENT="1"',
)
IFCFG_9 = ifcfg(
    'DEVICE="eth0"',
    'BOOTPROTO="dhcp"',
    'BOOTPROTOv6="dhcp"',
    'ONBOOT="yes"',
    'TYPE="Ethernet"',
    'USERCTL="yes"',
    'PEERDNS="yes"',
    'IPV6INIT="yes"',
    'PERSISTENT_DHCLIENT="1"',
)
