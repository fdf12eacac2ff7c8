# SPDX-License-Identifier: GPL-2.0-or-later
"""The RHEL family from 6 to 10, as CentOS and Rocky Linux publish it."""

from __future__ import annotations

from phony_guests.redhat_ways import (
    CLOUD_INIT_UNITS,
    HOSTS,
    IFCFG_7,
    IFCFG_9,
    NETWORKMANAGER,
    NEW_SSHD,
    OLD_SSHD,
    REDHAT_DROP_IN,
    RELEASE_EL,
    SELINUX,
    SETUP,
    SHADOW,
    SSHD,
    SYSTEM_ACCOUNTS,
    SYSTEMD,
    bls,
    ifcfg,
    ssh_directory,
)
from phony_guests.tree import CLOUD_CFG, Entry, accounts, directory, enabled, file, link, of, phony, programs


def _rocky(major: int, minor: int, name: str) -> tuple[Entry, ...]:
    version = f"{major}.{minor}"
    return (
        file(
            "/usr/lib/os-release" if major > 8 else "/etc/os-release",
            f'NAME="Rocky Linux"\nVERSION="{version} ({name})"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
            f'VERSION_ID="{version}"\nPLATFORM_ID="platform:el{major}"\nPRETTY_NAME="Rocky Linux {version} ({name})"\n'
            f'ANSI_COLOR="0;32"\nCPE_NAME="cpe:/o:rocky:rocky:{major}::baseos"\n'
            f'ROCKY_SUPPORT_PRODUCT="Rocky-Linux-{major}"\nROCKY_SUPPORT_PRODUCT_VERSION="{version}"\n',
        ),
        *((link("/etc/os-release", "../usr/lib/os-release"),) if major > 8 else ()),
        file("/etc/rocky-release", f"Rocky Linux release {version} ({name})\n"),
        link("/etc/redhat-release", "rocky-release"),
        link("/etc/system-release", "rocky-release"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
    )


def _el_common(kernel: str, title: str) -> tuple[Entry, ...]:
    return (
        file("/etc/hosts", HOSTS),
        *accounts(*SYSTEM_ACCOUNTS, shadow=SHADOW, shadow_mode=0o000, shadow_group=0),
        file("/etc/machine-id", "", 0o444),
        file("/etc/sysconfig/network", "NETWORKING=yes\nNOZEROCONF=yes\n"),
        file("/etc/locale.conf", 'LANG="en_US.UTF-8"\n'),
        file("/etc/vconsole.conf", 'KEYMAP="us"\n'),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
        file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
        link("/etc/udev/rules.d/80-net-name-slot.rules", "/dev/null"),
        link("/etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target"),
        file("/etc/selinux/config", SELINUX),
        file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("rocky")),
        directory("/etc/cloud/cloud.cfg.d"),
        *enabled(*CLOUD_INIT_UNITS, wanted_by="cloud-init.target"),
        file(
            "/etc/fstab",
            "UUID=3d2c1b0a-7f6e-4d5c-8b9a-0a1b2c3d4e5f /                       xfs     defaults        0 0\n"
            "UUID=4e3d2c1b-8a7f-4e6d-9cab-1b2c3d4e5f60 /boot                   xfs     defaults        0 0\n"
            "UUID=7B77-95E7          /boot/efi               vfat    "
            "defaults,uid=0,gid=0,umask=077,shortname=winnt 0 2\n",
        ),
        *bls(kernel, title, "UUID=3d2c1b0a-7f6e-4d5c-8b9a-0a1b2c3d4e5f"),
    )


_ROCKY_8 = phony(
    "phony-rocky-8",
    of(RELEASE_EL, _rocky(8, 10, "Green Obsidian"), SYSTEMD),
    of(
        "github.com/rocky-linux/kickstarts Rocky-8-GenericCloud-Base.ks",
        _el_common("4.18.0-553.el8_10.x86_64", "Rocky Linux (4.18.0-553.el8_10.x86_64) 8.10 (Green Obsidian)"),
        file("/etc/hostname", "localhost.localdomain\n"),
        file("/etc/resolv.conf", "\n"),
        IFCFG_7,
        link("/etc/systemd/system/tmp.mount", "/dev/null"),
        file("/etc/dhcp/dhclient.conf", "\ntimeout 300;\nretry 60;\n"),
    ),
    of("package NetworkManager of RHEL 8 with its ifcfg-rh plugin; preset", NETWORKMANAGER),
    of(SSHD, ssh_directory(OLD_SSHD)),
    of(
        "package shadow-utils of RHEL 8: sha512",
        file("/etc/login.defs", "UID_MIN                  1000\nENCRYPT_METHOD SHA512\n"),
    ),
)
_ROCKY_9 = phony(
    "phony-rocky-9",
    of(RELEASE_EL, _rocky(9, 6, "Blue Onyx"), SYSTEMD),
    of(
        "github.com/rocky-linux/kickstarts Rocky-9-GenericCloud-Base.ks",
        _el_common("5.14.0-570.el9.x86_64", "Rocky Linux (5.14.0-570.el9.x86_64) 9.6 (Blue Onyx)"),
        file("/etc/resolv.conf", ""),
        IFCFG_9,
    ),
    of("package NetworkManager of RHEL 9: keyfile first, ifcfg-rh still read; preset", NETWORKMANAGER),
    of(SSHD, ssh_directory(NEW_SSHD, REDHAT_DROP_IN)),
    of("package shadow-utils of RHEL 9: sha512", file("/etc/login.defs", "UID_MIN 1000\nENCRYPT_METHOD SHA512\n")),
)
_ROCKY_10 = phony(
    "phony-rocky-10",
    of(RELEASE_EL, _rocky(10, 0, "Red Quartz"), SYSTEMD),
    of(
        "github.com/rocky-linux/kickstarts Rocky-10-GenericCloud-Base.ks; its ifcfg-eth0 is one that "
        "NetworkManager 1.52 cannot read",
        _el_common("6.12.0-55.el10.x86_64", "Rocky Linux (6.12.0-55.el10.x86_64) 10.0 (Red Quartz)"),
        file("/etc/resolv.conf", ""),
        IFCFG_9,
    ),
    of("package NetworkManager of RHEL 10: keyfile only; preset", NETWORKMANAGER),
    of(SSHD, ssh_directory(NEW_SSHD, REDHAT_DROP_IN)),
    of("package shadow-utils of RHEL 10: yescrypt", file("/etc/login.defs", "UID_MIN 1000\nENCRYPT_METHOD YESCRYPT\n")),
)
_SYSV_NETWORK = (
    file("/etc/rc.d/init.d/network", "#! /bin/bash\n# chkconfig: 2345 10 90\n", 0o755),
    file("/etc/rc.d/init.d/functions", "", 0o644),
    link("/etc/init.d", "rc.d/init.d"),
    *(link(f"/etc/rc.d/rc{level}.d/S10network", "../init.d/network") for level in (2, 3, 4, 5)),
    *(link(f"/etc/rc.d/rc{level}.d/K90network", "../init.d/network") for level in (0, 1, 6)),
    file("/etc/sysconfig/network-scripts/ifup", "#!/bin/bash\n", 0o755),
    file("/etc/sysconfig/network-scripts/ifup-eth", "#!/bin/bash\n", 0o755),
    file("/etc/sysconfig/network-scripts/network-functions", "# network functions\n"),
    file("/etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\nNETMASK=255.0.0.0\nONBOOT=yes\n"),
)
_CENTOS_7 = phony(
    "phony-centos-7",
    of(
        "package centos-release 7",
        file(
            "/etc/os-release",
            'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\n'
            'PRETTY_NAME="CentOS Linux 7 (Core)"\nCPE_NAME="cpe:/o:centos:centos:7"\n',
        ),
        file("/etc/centos-release", "CentOS Linux release 7.9.2009 (Core)\n"),
        link("/etc/redhat-release", "centos-release"),
        link("/etc/system-release", "centos-release"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        SYSTEMD,
    ),
    of(
        "github.com/CentOS/sig-cloud-instance-build cloudimg/CentOS-7-x86_64-hvm.ks: the service network, no "
        "NetworkManager; package initscripts",
        _SYSV_NETWORK,
        *programs("/usr/sbin/ifup", "/usr/sbin/ifdown", "/usr/sbin/dhclient"),
        file("/etc/sysconfig/network", "NETWORKING=yes\nNOZEROCONF=yes\n"),
        IFCFG_7,
        file("/etc/hosts", HOSTS),
        file("/etc/hostname", "localhost.localdomain\n"),
        file("/etc/resolv.conf", ""),
        file("/etc/machine-id", "", 0o444),
        file("/etc/locale.conf", 'LANG="en_US.UTF-8"\n'),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
        file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
        directory("/var/lib/dhclient"),
    ),
    of(
        SETUP,
        accounts(*SYSTEM_ACCOUNTS, shadow=SHADOW, shadow_mode=0o000, shadow_group=0),
        file("/etc/login.defs", "UID_MIN                  1000\nENCRYPT_METHOD SHA512 \n"),
        file("/etc/libuser.conf", "[defaults]\ncrypt_style = sha512\n"),
    ),
    of(SSHD, ssh_directory(OLD_SSHD)),
    of(
        "cloud image of CentOS 7: one xfs, GRUB 2 without BLS entries, cloud-init 19.4",
        file("/etc/fstab", "UUID=1c419d6c-5064-4a2b-953c-05b2c67edb15 /   xfs     defaults        0 0\n"),
        file(
            "/etc/default/grub",
            "GRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=\"$(sed 's, release .*$,,g' /etc/system-release)\"\nGRUB_DEFAULT=saved\n"
            'GRUB_DISABLE_SUBMENU=true\nGRUB_TERMINAL="serial console"\n'
            'GRUB_CMDLINE_LINUX="console=tty0 crashkernel=auto net.ifnames=0 console=ttyS0"\n'
            'GRUB_DISABLE_RECOVERY="true"\n',
        ),
        file(
            "/boot/grub2/grub.cfg",
            "menuentry 'CentOS Linux (3.10.0-1160.el7.x86_64) 7 (Core)' --class centos {\n"
            "\tlinux16 /boot/vmlinuz-3.10.0-1160.el7.x86_64 root=UUID=1c419d6c-5064-4a2b-953c-05b2c67edb15 ro "
            "console=tty0 crashkernel=auto net.ifnames=0 console=ttyS0\n"
            "\tinitrd16 /boot/initramfs-3.10.0-1160.el7.x86_64.img\n}\n",
            0o600,
        ),
        directory("/usr/lib/modules/3.10.0-1160.el7.x86_64"),
        file("/etc/selinux/config", SELINUX),
        file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("centos")),
        directory("/etc/cloud/cloud.cfg.d"),
        *enabled(*CLOUD_INIT_UNITS),
    ),
)
_CENTOS_6 = phony(
    "phony-centos-6",
    of(
        "package centos-release 6: no os-release at all",
        file("/etc/centos-release", "CentOS release 6.10 (Final)\n"),
        link("/etc/redhat-release", "centos-release"),
        link("/etc/system-release", "centos-release"),
        *programs("/sbin/init", "/sbin/initctl", "/bin/bash", "/usr/sbin/sshd", "/sbin/dhclient"),
    ),
    of(
        "github.com/CentOS/sig-cloud-instance-build cloudimg/CentOS-6-x86_64-hvm.ks; package initscripts 9.03",
        _SYSV_NETWORK,
        *programs("/sbin/ifup", "/sbin/ifdown"),
        file("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=localhost.localdomain\nNOZEROCONF=yes\n"),
        ifcfg(
            'DEVICE="eth0"',
            'BOOTPROTO="dhcp"',
            'NM_CONTROLLED="yes"',
            'ONBOOT="yes"',
            'TYPE="Ethernet"',
            'PERSISTENT_DHCLIENT="yes"',
        ),
        file("/etc/inittab", "id:3:initdefault:\n"),
        file("/etc/init/serial.conf", "start on fedora.serial-console-available DEV=*\n"),
        file("/etc/hosts", HOSTS),
        file("/etc/resolv.conf", ""),
        file("/etc/sysconfig/clock", 'ZONE="UTC"\n'),
        file("/etc/sysconfig/i18n", 'LANG="en_US.UTF-8"\nSYSFONT="latarcyrheb-sun16"\n'),
        file("/etc/sysconfig/keyboard", 'KEYTABLE="us"\n'),
        file("/etc/localtime", "TZif2"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
        file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
        file("/etc/udev/rules.d/75-persistent-net-generator.rules", ""),
        directory("/var/lib/dhclient"),
        file("/var/lib/dbus/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n"),
    ),
    of(
        SETUP,
        accounts(
            "root:x:0:0:root:/root:/bin/bash",
            "bin:x:1:1:bin:/bin:/sbin/nologin",
            "sshd:x:74:74:Privilege-separated SSH:/var/empty/sshd:/sbin/nologin",
            shadow="root:!!:15980:0:99999:7:::\nbin:*:15980:0:99999:7:::\nsshd:!!:15980::::::\n",
            shadow_mode=0o000,
            shadow_group=0,
        ),
        file("/etc/login.defs", "UID_MIN\t\t\t  500\nENCRYPT_METHOD SHA512 \n"),
    ),
    of(
        "package openssh-server 5.3p1: no HostKey lines, keys made by its init script",
        directory("/etc/ssh"),
        file(
            "/etc/ssh/sshd_config",
            "Protocol 2\nSyslogFacility AUTHPRIV\nPasswordAuthentication no\nUsePAM yes\n"
            "Subsystem\tsftp\t/usr/libexec/openssh/sftp-server\nPermitRootLogin without-password\nUseDNS no\n",
            0o600,
        ),
        file("/etc/rc.d/init.d/sshd", "#!/bin/bash\n# chkconfig: 2345 55 25\n", 0o755),
        link("/etc/rc.d/rc3.d/S55sshd", "../init.d/sshd"),
    ),
    of(
        "package grub 0.97 and grubby: grub.conf, menu.lst a link to it; selinux-policy-targeted",
        file(
            "/boot/grub/grub.conf",
            "default=0\ntimeout=1\ntitle CentOS (2.6.32-754.el6.x86_64)\n\troot (hd0,0)\n"
            "\tkernel /boot/vmlinuz-2.6.32-754.el6.x86_64 ro root=UUID=ab1f9b4e-3b1c-4f0e-9d3e-2b1a3c4d5e6f "
            "console=tty0 console=ttyS0,115200\n\tinitrd /boot/initramfs-2.6.32-754.el6.x86_64.img\n",
            0o600,
        ),
        link("/boot/grub/menu.lst", "./grub.conf"),
        directory("/lib/modules/2.6.32-754.el6.x86_64"),
        file(
            "/etc/fstab",
            "UUID=ab1f9b4e-3b1c-4f0e-9d3e-2b1a3c4d5e6f /  ext4  defaults  1 1\ntmpfs /dev/shm tmpfs defaults 0 0\n",
        ),
        file("/etc/selinux/config", SELINUX),
        file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
    ),
)

GUESTS = (_CENTOS_6, _CENTOS_7, _ROCKY_8, _ROCKY_9, _ROCKY_10)
