# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's family: Ubuntu's cloud images, Debian's, and Devuan without systemd."""

from __future__ import annotations

from phony_guests.tree import (
    CLOUD_CFG,
    Entry,
    accounts,
    alias,
    directory,
    enabled,
    file,
    link,
    of,
    phony,
    programs,
    unit,
)

_ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/bash",
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    "sshd:x:104:65534::/run/sshd:/usr/sbin/nologin",
)
_SHADOW = (
    "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n"
)
_ZONES = (
    link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
    file("/etc/timezone", "Etc/UTC\n"),
    file("/usr/share/zoneinfo/Etc/UTC", "TZif2"),
    file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
    file("/etc/default/locale", "LANG=C.UTF-8\n"),
    file(
        "/etc/default/keyboard",
        'XKBMODEL="pc105"\nXKBLAYOUT="us"\nXKBVARIANT=""\nXKBOPTIONS=""\n\nBACKSPACE="guess"\n',
    ),
)
_SYSTEMD = (
    link("/bin", "usr/bin"),
    link("/sbin", "usr/sbin"),
    link("/lib", "usr/lib"),
    *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/bin/systemctl"),
)
_SSHD = (
    "Include /etc/ssh/sshd_config.d/*.conf\n\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n"
    "PrintMotd no\nAcceptEnv LANG LC_*\nSubsystem\tsftp\t/usr/lib/openssh/sftp-server\n"
)


def _cloud_init(distro: str, *sources: str, units: tuple[str, ...] = ()) -> tuple[Entry, ...]:
    default = ("cloud-init-local.service", "cloud-init.service", "cloud-config.service", "cloud-final.service")
    return (
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format(distro)),
        directory("/etc/cloud/cloud.cfg.d"),
        file("/etc/cloud/cloud.cfg.d/05_logging.cfg", "_log:\n - &log_base |\n   [loggers]\n   keys=root,cloudinit\n"),
        file(
            "/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
            f"# to update this file, run dpkg-reconfigure cloud-init\ndatasource_list: [ {', '.join(sources)} ]\n",
        ),
        *enabled(*(units or default), wanted_by="cloud-init.target"),
        file("/usr/lib/python3/dist-packages/cloudinit/version.py", '__VERSION__ = "24.4"\n'),
    )


_SOURCES = ("NoCloud", "ConfigDrive", "OpenNebula", "OVF", "Ec2", "OpenStack", "None")
_NETWORKD = (
    *programs("/usr/lib/systemd/systemd-networkd", "/usr/bin/networkctl"),
    directory("/etc/systemd/network"),
    *enabled("systemd-networkd.service"),
    alias("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
    *enabled("systemd-networkd.socket", wanted_by="sockets.target"),
    *enabled("systemd-networkd-wait-online.service", wanted_by="network-online.target"),
)
_RESOLVED = (
    *programs("/usr/lib/systemd/systemd-resolved"),
    alias("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
    link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
)


def _ubuntu_release(version: str, name: str, code: str) -> tuple[Entry, ...]:
    return (
        file(
            "/usr/lib/os-release",
            f'PRETTY_NAME="Ubuntu {version} LTS"\nNAME="Ubuntu"\nVERSION_ID="{version}"\n'
            f'VERSION="{version} LTS ({name})"\nVERSION_CODENAME={code}\nID=ubuntu\nID_LIKE=debian\n'
            f"UBUNTU_CODENAME={code}\n",
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/lsb-release", f"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE={version}\nDISTRIB_CODENAME={code}\n"),
        file("/etc/debian_version", "trixie/sid\n"),
    )


_UBUNTU_GRUB = (
    file(
        "/etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_TIMEOUT=0\n"
        'GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\nGRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\n'
        'GRUB_CMDLINE_LINUX=""\n',
    ),
    file(
        "/etc/default/grub.d/50-cloudimg-settings.cfg",
        'GRUB_RECORDFAIL_TIMEOUT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT="console=tty1 console=ttyS0"\n'
        "GRUB_TERMINAL=console\n",
    ),
    file(
        "/boot/grub/grub.cfg",
        "menuentry 'Ubuntu' {\n\tlinux\t/vmlinuz-6.8.0-60-generic root=LABEL=cloudimg-rootfs ro  console=tty1 "
        "console=ttyS0\n\tinitrd\t/initrd.img-6.8.0-60-generic\n}\n",
        0o600,
    ),
    file("/boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ", 0o700),
)
_UBUNTU_COMMON = (
    file("/etc/hostname", "ubuntu\n"),
    file(
        "/etc/hosts",
        "127.0.0.1 localhost\n\n# The following lines are desirable for IPv6 capable hosts\n"
        "::1 ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\nff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\n"
        "ff02::2 ip6-allrouters\nff02::3 ip6-allhosts\n",
    ),
    file("/etc/machine-id", "", 0o444),
    directory("/etc/ssh/sshd_config.d"),
    file("/etc/ssh/sshd_config", _SSHD),
    file("/etc/ssh/sshd_config.d/60-cloudimg-settings.conf", "PasswordAuthentication no\n"),
)
_LIVECD = (
    "livecd-rootfs (live-build/ubuntu-cpc/hooks.d): hostname, hosts, machine-id, fstab labels, grub.d, sshd_config.d"
)
_NETPLAN = "package netplan.io, cloud images ship no /etc/netplan/*.yaml: cloud-init writes 50-cloud-init.yaml at boot"
_UBUNTU_24 = phony(
    "phony-ubuntu-24.04",
    of("package base-files of noble", _ubuntu_release("24.04", "Noble Numbat", "noble"), _SYSTEMD),
    of(
        _LIVECD,
        _UBUNTU_COMMON,
        _UBUNTU_GRUB,
        file(
            "/etc/fstab",
            "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,commit=30,errors=remount-ro\t0 1\n"
            "LABEL=BOOT\t/boot\text4\tdefaults\t0 2\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
        ),
    ),
    of(
        _NETPLAN,
        *programs("/usr/sbin/netplan", "/usr/libexec/netplan/generate"),
        directory("/etc/netplan"),
        _NETWORKD,
        _RESOLVED,
        *enabled("systemd-resolved.service", wanted_by="sysinit.target"),
    ),
    of(
        "packages base-passwd, login, openssh-server (socket activated since 22.10) of noble",
        accounts(*_ACCOUNTS, shadow=_SHADOW),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        file("/etc/pam.d/common-password", "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt\n"),
        *enabled("ssh.socket", wanted_by="sockets.target"),
        unit("ssh.service", "WantedBy=multi-user.target", "Alias=sshd.service"),
    ),
    of("packages tzdata, locales, keyboard-configuration", _ZONES),
    of("package cloud-init of noble", _cloud_init("ubuntu", *_SOURCES)),
)
_UBUNTU_22 = phony(
    "phony-ubuntu-22.04",
    of("package base-files of jammy", _ubuntu_release("22.04", "Jammy Jellyfish", "jammy"), _SYSTEMD),
    of(
        _LIVECD,
        _UBUNTU_COMMON,
        _UBUNTU_GRUB,
        file(
            "/etc/fstab",
            "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,errors=remount-ro\t0 1\n"
            "LABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
        ),
    ),
    of(
        _NETPLAN,
        *programs("/usr/sbin/netplan", "/usr/lib/netplan/generate"),
        directory("/etc/netplan"),
        _NETWORKD,
        _RESOLVED,
        *enabled("systemd-resolved.service"),
    ),
    of(
        "packages base-passwd, login, openssh-server of jammy",
        accounts(*_ACCOUNTS, shadow=_SHADOW),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        file("/etc/pam.d/common-password", "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt\n"),
        *enabled("ssh.service"),
        alias("sshd.service", "ssh.service"),
    ),
    of("packages tzdata, locales, keyboard-configuration", _ZONES),
    of("package cloud-init of jammy", _cloud_init("ubuntu", *_SOURCES)),
)
_UBUNTU_16 = phony(
    "phony-ubuntu-16.04",
    of(
        "package base-files of xenial: /bin, /sbin and /lib are directories",
        _ubuntu_release("16.04", "Xenial Xerus", "xenial"),
        *programs("/lib/systemd/systemd", "/bin/bash", "/usr/sbin/sshd", "/sbin/dhclient"),
        link("/sbin/init", "/lib/systemd/systemd"),
    ),
    of(
        "livecd-rootfs of xenial: interfaces sources interfaces.d/*.cfg; package ifupdown 0.8.10",
        _UBUNTU_COMMON[:3],
        *programs("/sbin/ifup", "/sbin/ifdown"),
        file(
            "/etc/network/interfaces",
            "# interfaces(5) file used by ifup(8) and ifdown(8)\n# Include files from /etc/network/interfaces.d:\n"
            "source-directory /etc/network/interfaces.d\n",
        ),
        directory("/etc/network/interfaces.d"),
        directory("/etc/network/if-up.d"),
        unit("networking.service", "WantedBy=multi-user.target", at="/lib/systemd/system"),
        link(
            "/etc/systemd/system/multi-user.target.wants/networking.service",
            "/lib/systemd/system/networking.service",
        ),
        unit("systemd-networkd.service", "WantedBy=multi-user.target", at="/lib/systemd/system"),
        directory("/etc/dhcp/dhclient-enter-hooks.d"),
        file("/etc/dhcp/dhclient.conf", "timeout 300;\n"),
        directory("/etc/resolvconf/resolv.conf.d"),
        link("/etc/resolv.conf", "../run/resolvconf/resolv.conf"),
        file(
            "/var/lib/dpkg/status",
            "Package: ifupdown\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0.8.10ubuntu1.4\n\n",
        ),
        file(
            "/etc/fstab",
            "LABEL=cloudimg-rootfs\t/\t ext4\tdefaults\t0 0\n",
        ),
        file("/etc/ssh/sshd_config", "HostKey /etc/ssh/ssh_host_rsa_key\nUsePAM yes\nPasswordAuthentication no\n"),
    ),
    of(
        "packages base-passwd, login of xenial",
        accounts(*_ACCOUNTS, shadow=_SHADOW),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        *enabled("ssh.service", at="/lib/systemd/system"),
    ),
    of("packages tzdata, locales, keyboard-configuration", _ZONES),
    of("grub-pc and grub.d of the image", _UBUNTU_GRUB[:3]),
    of("package cloud-init of xenial", _cloud_init("ubuntu", *_SOURCES)),
)
_DEBIAN_13 = phony(
    "phony-debian-13",
    of(
        "package base-files of trixie",
        file(
            "/usr/lib/os-release",
            'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n'
            'VERSION="13 (trixie)"\nVERSION_CODENAME=trixie\nID=debian\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/debian_version", "13.0\n"),
        _SYSTEMD,
    ),
    of(
        "salsa.debian.org/cloud-team/debian-cloud-images config_space (genericcloud): netplan, networkd, resolved",
        file("/etc/hostname", "localhost\n"),
        file(
            "/etc/hosts",
            "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\n"
            "ff02::2\t\tip6-allrouters\n",
        ),
        *programs("/usr/sbin/netplan", "/usr/libexec/netplan/generate"),
        file(
            "/etc/netplan/90-default.yaml",
            "network:\n    version: 2\n    ethernets:\n        all-en:\n            match:\n                name: en*\n"
            "            dhcp4: true\n            dhcp4-overrides:\n                use-domains: true\n"
            "            dhcp6: true\n            dhcp6-overrides:\n                use-domains: true\n"
            "        all-eth:\n            match:\n                name: eth*\n            dhcp4: true\n",
            0o600,
        ),
        _NETWORKD,
        _RESOLVED,
        *enabled("systemd-resolved.service", wanted_by="sysinit.target"),
        file("/etc/machine-id", "", 0o444),
        file(
            "/etc/fstab",
            "PARTUUID=3f2e1d0c-9b8a-4756-8493-021f0e1d2c3b / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n"
            "PARTUUID=4e3d2c1b-0a9f-4867-9584-130f1e2d3c4b /boot/efi vfat defaults 0 0\n",
        ),
        file(
            "/etc/default/grub",
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=`( . /etc/os-release && echo ${NAME} )`\n"
            'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n',
        ),
        file(
            "/etc/default/grub.d/10_cloud.cfg",
            'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200 consoleblank=0"\n'
            'GRUB_TERMINAL="console serial"\n',
        ),
        file(
            "/boot/grub/grub.cfg",
            "menuentry 'Debian GNU/Linux' {\n"
            "\tlinux\t/boot/vmlinuz-6.12.35-cloud-amd64 root=PARTUUID=3f2e1d0c ro console=tty0 "
            "console=ttyS0,115200\n}\n",
        ),
        file("/boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ", 0o700),
    ),
    of(
        "packages base-passwd, login.defs, openssh-server of trixie",
        accounts(*_ACCOUNTS, shadow=_SHADOW),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD YESCRYPT\n"),
        file("/etc/pam.d/common-password", "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt\n"),
        directory("/etc/ssh/sshd_config.d"),
        file("/etc/ssh/sshd_config", _SSHD),
        *enabled("ssh.service"),
        alias("sshd.service", "ssh.service"),
    ),
    of("packages tzdata, locales, keyboard-configuration", _ZONES),
    of("package cloud-init of trixie", _cloud_init("debian", *_SOURCES)),
)
_DEVUAN_5 = phony(
    "phony-devuan-5",
    of(
        "package base-files of daedalus",
        file(
            "/usr/lib/os-release",
            'PRETTY_NAME="Devuan GNU/Linux 5 (daedalus)"\nNAME="Devuan GNU/Linux"\nVERSION_ID="5"\n'
            'VERSION="5 (daedalus)"\nVERSION_CODENAME="daedalus"\nID=devuan\nID_LIKE=debian\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/devuan_version", "daedalus\n"),
        file("/etc/debian_version", "12.0\n"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        link("/lib", "usr/lib"),
        *programs("/usr/sbin/init", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/sbin/dhclient"),
    ),
    of(
        "packages sysvinit-core, initscripts, ifupdown 0.8.41 of daedalus; insserv's links",
        file(
            "/etc/inittab",
            "id:2:initdefault:\nsi::sysinit:/etc/init.d/rcS\n1:2345:respawn:/sbin/getty --noclear 38400 tty1\n"
            "#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n",
        ),
        file("/etc/init.d/networking", "#!/bin/sh\n", 0o755),
        file("/etc/init.d/ssh", "#!/bin/sh\n", 0o755),
        file("/etc/init.d/hostname.sh", "#!/bin/sh\n", 0o755),
        link("/etc/rcS.d/S12networking", "../init.d/networking"),
        link("/etc/rc2.d/S02ssh", "../init.d/ssh"),
        *programs("/usr/sbin/ifup", "/usr/sbin/ifdown"),
        file(
            "/etc/network/interfaces",
            "# This file describes the network interfaces available on your system\n"
            "source /etc/network/interfaces.d/*\n\n# The loopback network interface\nauto lo\n"
            "iface lo inet loopback\n\n"
            "# The primary network interface\nallow-hotplug eth0\niface eth0 inet dhcp\n",
        ),
        directory("/etc/network/interfaces.d"),
        directory("/etc/dhcp/dhclient-enter-hooks.d"),
        file("/etc/resolv.conf", "nameserver 192.168.122.1\n"),
        file(
            "/var/lib/dpkg/status",
            "Package: ifupdown\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0.8.41\n\n",
        ),
    ),
    of(
        "installer of Devuan: hostname, hosts; package dbus: its own machine-id, and /etc/machine-id beside it",
        file("/etc/hostname", "devuan\n"),
        file("/etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tdevuan\n\n::1     localhost ip6-localhost ip6-loopback\n"),
        file("/var/lib/dbus/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n"),
        file("/etc/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n", 0o444),
        file("/var/lib/urandom/random-seed", "seed of the template\n", 0o600),
        file("/etc/fstab", "UUID=0e1f2a3b-4c5d-4e6f-8091-a2b3c4d5e6f7 / ext4 errors=remount-ro 0 1\n"),
        file(
            "/etc/default/grub",
            'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n',
        ),
        file(
            "/boot/grub/grub.cfg",
            "menuentry 'Devuan GNU/Linux' {\n\tlinux\t/boot/vmlinuz-6.1.0-37-amd64 root=UUID=0e1f2a3b ro  quiet\n}\n",
        ),
    ),
    of(
        "packages base-passwd, login, openssh-server of daedalus",
        accounts(*_ACCOUNTS, shadow=_SHADOW),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD YESCRYPT\n"),
        directory("/etc/ssh/sshd_config.d"),
        file("/etc/ssh/sshd_config", _SSHD),
    ),
    of("packages tzdata, locales, keyboard-configuration", _ZONES),
)

GUESTS = (_UBUNTU_16, _UBUNTU_22, _UBUNTU_24, _DEBIAN_13, _DEVUAN_5)
