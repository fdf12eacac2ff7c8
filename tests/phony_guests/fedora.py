# SPDX-License-Identifier: GPL-2.0-or-later
"""Fedora 42 and Amazon Linux 2023."""

from __future__ import annotations

from phony_guests.redhat_ways import (
    CLOUD_INIT_UNITS,
    HOSTS,
    NETWORKMANAGER,
    NEW_SSHD,
    REDHAT_DROP_IN,
    SELINUX,
    SETUP,
    SHADOW,
    SSHD,
    SYSTEM_ACCOUNTS,
    SYSTEMD,
    bls,
    ssh_directory,
)
from phony_guests.tree import CLOUD_CFG, accounts, alias, directory, enabled, file, link, of, phony, programs, unit

_FEDORA_42 = phony(
    "phony-fedora-42",
    of(
        "package fedora-release-common (fedora-release-cloud): os-release, system-release",
        file(
            "/usr/lib/os-release",
            'NAME="Fedora Linux"\nVERSION="42 (Cloud Edition)"\nRELEASE_TYPE=stable\nID=fedora\nVERSION_ID=42\n'
            'VERSION_CODENAME=""\nPLATFORM_ID="platform:f42"\nPRETTY_NAME="Fedora Linux 42 (Cloud Edition)"\n'
            'ANSI_COLOR="0;38;2;60;110;180"\nLOGO=fedora-logo-icon\nCPE_NAME="cpe:/o:fedoraproject:fedora:42"\n'
            'DEFAULT_HOSTNAME="fedora"\nVARIANT="Cloud Edition"\nVARIANT_ID=cloud\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/usr/lib/fedora-release", "Fedora release 42 (Adams)\n"),
        link("/etc/fedora-release", "../usr/lib/fedora-release"),
        link("/etc/redhat-release", "fedora-release"),
        link("/etc/system-release", "fedora-release"),
    ),
    of(
        "fedoraproject.org Changes/Unify_bin_and_sbin (Fedora 42): /usr/sbin is a link; filesystem package",
        link("/bin", "usr/bin"),
        link("/sbin", "usr/bin"),
        link("/usr/sbin", "bin"),
        *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/bin/sshd", "/usr/bin/systemctl"),
    ),
    of(
        SETUP,
        file(
            "/etc/hosts",
            "# Loopback entries; do not change.\n"
            "# For historical reasons, localhost precedes localhost.localdomain:\n"
            "127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n"
            "::1         localhost localhost.localdomain localhost6 localhost6.localdomain6\n"
            "# See hosts(5) for proper format and other examples:\n",
        ),
        accounts(
            *SYSTEM_ACCOUNTS,
            shadow=SHADOW.replace("root:!!:19000", "root:!locked:20000"),
            shadow_mode=0o000,
            shadow_group=0,
        ),
        file("/etc/login.defs", "UID_MIN 1000\nENCRYPT_METHOD YESCRYPT\nYESCRYPT_COST_FACTOR 5\n"),
    ),
    of(
        "pagure.io/fedora-kiwi-descriptions config.sh: machine-id 'uninitialized', no random seed, root locked",
        file("/etc/machine-id", "uninitialized\n", 0o444),
        file("/etc/locale.conf", "LANG=C.UTF-8\n"),
        file("/etc/vconsole.conf", "KEYMAP=us\n"),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
        file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
    ),
    of(
        "package fedora-release 90-default.preset: NetworkManager, systemd-resolved enabled; systemd-networkd is not",
        *NETWORKMANAGER[3:],
        *programs("/usr/bin/NetworkManager", "/usr/bin/nmcli", "/usr/bin/nm-online"),
        file("/etc/sysconfig/network-scripts/readme-ifcfg-rh.txt", "NetworkManager stores new network profiles.\n"),
        *enabled("systemd-resolved.service", wanted_by="sysinit.target"),
        alias("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
        link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        unit("systemd-networkd.service", "WantedBy=multi-user.target"),
    ),
    of(SSHD, ssh_directory(NEW_SSHD, REDHAT_DROP_IN)),
    of(
        "package cloud-init: cloud.cfg, its units by preset",
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("fedora")),
        directory("/etc/cloud/cloud.cfg.d"),
        *enabled(*CLOUD_INIT_UNITS, wanted_by="cloud-init.target"),
        file("/usr/lib/python3.13/site-packages/cloudinit/version.py", '__VERSION__ = "24.2"\n'),
    ),
    of(
        "package selinux-policy-targeted; kiwi cloud.xml: btrfs with subvolumes root, home, var; ESP and /boot",
        file("/etc/selinux/config", SELINUX),
        file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
        file(
            "/etc/fstab",
            "UUID=1a5e2c9c-0f35-4d7e-8a35-65b4a1c2d3e4 / btrfs compress=zstd:1,subvol=root 0 0\n"
            "UUID=5d1f3b2e-5c1b-4f0e-9d3e-2b1a3c4d5e6f /boot ext4 defaults 0 0\n"
            "UUID=7B77-95E7 /boot/efi vfat defaults,umask=0077,shortname=winnt 0 2\n"
            "UUID=1a5e2c9c-0f35-4d7e-8a35-65b4a1c2d3e4 /home btrfs compress=zstd:1,subvol=home 0 0\n"
            "UUID=1a5e2c9c-0f35-4d7e-8a35-65b4a1c2d3e4 /var btrfs compress=zstd:1,subvol=var 0 0\n",
        ),
        bls(
            "6.14.0-63.fc42.x86_64",
            "Fedora Linux (6.14.0-63.fc42.x86_64) 42 (Cloud Edition)",
            "UUID=1a5e2c9c-0f35-4d7e-8a35-65b4a1c2d3e4 rootflags=subvol=root",
        ),
    ),
)


_AMAZON_2023 = phony(
    "phony-amazon-2023",
    of(
        "package system-release of Amazon Linux 2023; docs.aws.amazon.com/linux/al2023/ug",
        file(
            "/usr/lib/os-release",
            'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
            'PLATFORM_ID="platform:al2023"\nPRETTY_NAME="Amazon Linux 2023.7.20250609"\nANSI_COLOR="0;33"\n'
            'CPE_NAME="cpe:2.3:o:amazon:amazon_linux:2023"\nVENDOR_NAME="AWS"\nSUPPORT_END="2029-06-30"\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/usr/lib/system-release", "Amazon Linux release 2023.7.20250609 (Amazon Linux)\n"),
        link("/etc/system-release", "../usr/lib/system-release"),
        link("/etc/amazon-linux-release", "../usr/lib/system-release"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        SYSTEMD,
    ),
    of(
        "github.com/amazonlinux/amazon-ec2-net-utils systemd/network/80-ec2.network; networkd and resolved are enabled",
        file(
            "/usr/lib/systemd/network/80-ec2.network",
            "[Match]\nDriver=ena ixgbevf vif\n\n[Link]\nMTUBytes=9001\n\n[Network]\nDHCP=yes\n"
            "IPv6DuplicateAddressDetection=0\nLLMNR=no\nDNSDefaultRoute=yes\n\n[DHCPv4]\nUseHostname=no\nUseDNS=yes\n"
            "UseNTP=yes\nUseDomains=yes\n\n[DHCPv6]\nUseHostname=no\nUseDNS=yes\nUseNTP=yes\nWithoutRA=solicit\n",
        ),
        *programs("/usr/lib/systemd/systemd-networkd", "/usr/lib/systemd/systemd-resolved", "/usr/bin/networkctl"),
        directory("/etc/systemd/network"),
        *enabled("systemd-networkd.service"),
        alias("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
        *enabled("systemd-networkd-wait-online.service", wanted_by="network-online.target"),
        *enabled("systemd-networkd.socket", wanted_by="sockets.target"),
        *enabled("systemd-resolved.service"),
        alias("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
        link("/etc/resolv.conf", "../run/systemd/resolve/resolv.conf"),
    ),
    of(
        SETUP,
        file("/etc/hosts", HOSTS),
        accounts(
            *SYSTEM_ACCOUNTS,
            shadow=SHADOW.replace("root:!!", "root:*LOCK*"),
            shadow_mode=0o000,
            shadow_group=0,
        ),
        file("/etc/login.defs", "UID_MIN 1000\nENCRYPT_METHOD SHA512\n"),
        file("/etc/machine-id", "uninitialized\n", 0o444),
        file("/etc/locale.conf", "LANG=C.UTF-8\n"),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
        file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
    ),
    of(SSHD, ssh_directory(NEW_SSHD, REDHAT_DROP_IN)),
    of(
        "docs.aws.amazon.com/linux/al2023/ug: xfs root, cloud-init 22.2, SELinux permissive, BLS entries",
        file(
            "/etc/fstab",
            "UUID=b1b2c3d4-3d2c-4b0a-9f6e-5d4c3b2a1f0e     /           xfs    defaults,noatime  1   1\n"
            "UUID=DA7B-1E3C        /boot/efi       vfat    "
            "defaults,noatime,uid=0,gid=0,umask=0077,shortname=winnt 0 2\n",
        ),
        file("/etc/selinux/config", SELINUX.replace("enforcing", "permissive")),
        file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("amazon")),
        directory("/etc/cloud/cloud.cfg.d"),
        *enabled(*CLOUD_INIT_UNITS, wanted_by="cloud-init.target"),
        bls(
            "6.1.141-155.222.amzn2023.x86_64",
            "Amazon Linux (6.1.141) 2023",
            "UUID=b1b2c3d4-3d2c-4b0a-9f6e-5d4c3b2a1f0e",
        ),
    ),
)

GUESTS = (_FEDORA_42, _AMAZON_2023)
