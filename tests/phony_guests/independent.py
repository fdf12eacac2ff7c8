# SPDX-License-Identifier: GPL-2.0-or-later
"""Distributions that follow nobody: Arch, Alpine, Gentoo with either init, Void, Slackware."""

from __future__ import annotations

from phony_guests.tree import CLOUD_CFG, accounts, alias, directory, enabled, file, link, of, phony, programs, unit

_ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/bash",
    "bin:x:1:1:bin:/bin:/usr/bin/nologin",
    "nobody:x:65534:65534:Nobody:/:/usr/bin/nologin",
    "sshd:x:22:22:sshd:/var/empty:/sbin/nologin",
)
_SHADOW = "root:*:19000::::::\nbin:!*:19000::::::\nnobody:!*:19000::::::\nsshd:!*:19000::::::\n"
_ZONES = (file("/usr/share/zoneinfo/UTC", "TZif2"), file("/usr/share/zoneinfo/Europe/Athens", "TZif2"))
_MERGED = (link("/bin", "usr/bin"), link("/sbin", "usr/bin"), link("/lib", "usr/lib"), link("/usr/sbin", "bin"))

_ARCH = phony(
    "phony-arch",
    of(
        "package filesystem of Arch: os-release without VERSION_ID, arch-release empty, one bin",
        file(
            "/usr/lib/os-release",
            'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\nANSI_COLOR="38;2;23;147;209"\n'
            "LOGO=archlinux-logo\n",
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/arch-release", ""),
        file("/etc/hosts", "# Static table lookup for hostnames.\n# See hosts(5) for details.\n"),
        _MERGED,
        *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/bin/sshd", "/usr/bin/systemctl"),
    ),
    of(
        "gitlab.archlinux.org/archlinux/arch-boxes images/base.sh, images/basic.sh, images/cloud-image.sh",
        file("/etc/hostname", "archlinux\n"),
        file("/etc/locale.conf", "LANG=C.UTF-8\n"),
        file("/etc/vconsole.conf", "KEYMAP=us\n"),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        link("/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
        file(
            "/etc/systemd/network/80-dhcp.network",
            "[Match]\nName=en*\nName=eth*\n\n[Link]\nRequiredForOnline=routable\n\n[Network]\nDHCP=yes\n",
        ),
        *programs("/usr/lib/systemd/systemd-networkd", "/usr/lib/systemd/systemd-resolved", "/usr/bin/networkctl"),
        *enabled("sshd.service", "systemd-networkd.service"),
        alias("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
        *enabled("systemd-networkd.socket", wanted_by="sockets.target"),
        *enabled("systemd-networkd-wait-online.service", wanted_by="network-online.target"),
        *enabled("systemd-resolved.service", wanted_by="sysinit.target"),
        alias("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
        *enabled("systemd-timesyncd.service", wanted_by="sysinit.target"),
        file("/etc/fstab", "# Static information about the filesystems.\n/swap/swapfile none swap defaults 0 0\n"),
        file(
            "/etc/default/grub",
            'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR="Arch"\n'
            'GRUB_CMDLINE_LINUX_DEFAULT="rootflags=compress=zstd:1 console=tty0 console=ttyS0,115200"\n'
            'GRUB_CMDLINE_LINUX="net.ifnames=0"\nGRUB_TERMINAL="serial console"\n'
            'GRUB_SERIAL_COMMAND="serial --speed=115200"\n',
        ),
        file(
            "/boot/grub/grub.cfg",
            "menuentry 'Arch Linux' {\n\tlinux\t/boot/vmlinuz-linux root=UUID=7f8091a2 rw net.ifnames=0 "
            "rootflags=compress=zstd:1 console=tty0 console=ttyS0,115200\n\tinitrd\t/boot/initramfs-linux.img\n}\n",
            0o600,
        ),
        file("/efi/EFI/BOOT/BOOTX64.EFI", "MZ", 0o755),
    ),
    of(
        "packages filesystem, shadow, openssh of Arch",
        accounts(*_ACCOUNTS, shadow=_SHADOW, shadow_mode=0o600, shadow_group=0),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD YESCRYPT\n"),
        directory("/etc/ssh/sshd_config.d"),
        file(
            "/etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile\t.ssh/authorized_keys\n"
            "Subsystem\tsftp\t/usr/lib/ssh/sftp-server\n",
        ),
        file(
            "/etc/ssh/sshd_config.d/99-archlinux.conf",
            "KbdInteractiveAuthentication no\nUsePAM yes\nPrintMotd no\n",
        ),
        *_ZONES,
    ),
    of(
        "package cloud-init of Arch, its units as arch-boxes enables them",
        *programs("/usr/bin/cloud-init"),
        file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("arch")),
        directory("/etc/cloud/cloud.cfg.d"),
        *enabled(
            "cloud-init-main.service",
            "cloud-init-local.service",
            "cloud-init-network.service",
            "cloud-config.service",
            "cloud-final.service",
            wanted_by="cloud-init.target",
        ),
    ),
)
_ALPINE = phony(
    "phony-alpine-3.22",
    of(
        "aports main/alpine-base, main/alpine-release, main/alpine-baselayout of 3.22",
        file(
            "/usr/lib/os-release",
            'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.0\nPRETTY_NAME="Alpine Linux v3.22"\n'
            'HOME_URL="https://alpinelinux.org/"\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/alpine-release", "3.22.0\n"),
        file("/etc/hosts", "127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n"),
        file("/etc/hostname", "localhost\n"),
        *programs("/bin/busybox", "/usr/sbin/sshd", "/sbin/openrc"),
        link("/sbin/init", "/bin/busybox"),
        link("/bin/sh", "/bin/busybox"),
    ),
    of(
        "aports main/ifupdown-ng (since 3.13), main/busybox udhcpc; github alpine-cloud-images "
        "configs/version/base/1.conf: "
        "services",
        *programs("/usr/sbin/ifupdown"),
        link("/sbin/ifup", "/usr/sbin/ifupdown"),
        link("/sbin/ifdown", "/usr/sbin/ifupdown"),
        directory("/usr/libexec/ifupdown-ng"),
        file("/etc/network/interfaces", "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"),
        directory("/etc/network/interfaces.d"),
        file("/usr/share/udhcpc/default.script", "#!/bin/sh\n", 0o755),
        directory("/etc/udhcpc"),
        file("/etc/init.d/networking", "#!/sbin/openrc-run\n", 0o755),
        file("/etc/init.d/hostname", "#!/sbin/openrc-run\n", 0o755),
        file("/etc/init.d/sshd", "#!/sbin/openrc-run\n", 0o755),
        link("/etc/runlevels/default/networking", "/etc/init.d/networking"),
        link("/etc/runlevels/boot/hostname", "/etc/init.d/hostname"),
        link("/etc/runlevels/default/sshd", "/etc/init.d/sshd"),
        file(
            "/etc/inittab",
            "::sysinit:/sbin/openrc sysinit\n::sysinit:/sbin/openrc boot\n::wait:/sbin/openrc default\n\n"
            "#tty1::respawn:/sbin/getty 38400 tty1\nttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100\n",
        ),
    ),
    of(
        "github alpine-cloud-images scripts/setup: extlinux with LABEL=/, root and the user locked",
        file(
            "/etc/update-extlinux.conf",
            'overwrite=1\nvesa_menu=0\ndefault_kernel_opts="console=ttyS0,115200n8"\nmodules=sd-mod,usb-storage,ext4\n'
            "root=LABEL=/\nverbose=0\nhidden=1\ntimeout=1\ndefault=virt\nserial_port=ttyS0\nserial_baud=115200\n",
        ),
        file(
            "/boot/extlinux.conf",
            "DEFAULT menu.c32\nPROMPT 0\nTIMEOUT 1\n\nLABEL virt\n  MENU DEFAULT\n  MENU LABEL Linux virt\n"
            "  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n"
            "  APPEND root=LABEL=/ modules=sd-mod,usb-storage,ext4 console=ttyS0,115200n8\n",
        ),
        file(
            "/etc/fstab",
            "# <fs>\t\t<mountpoint>\t<type>\t<opts>\t\t<dump/pass>\nLABEL=/\t\t/\t\text4\tdefaults,noatime\t1 1\n",
        ),
        accounts(
            "root:x:0:0:root:/root:/bin/sh",
            "sshd:x:22:22:sshd:/dev/null:/sbin/nologin",
            "alpine:x:1000:1000::/home/alpine:/bin/sh",
            shadow="root:!*:19000:0:::::\nsshd:!:19000:0:99999:7:::\nalpine:*:19000:0:99999:7:::\n",
        ),
        *_ZONES,
        link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
    ),
    of(
        "aports main/openssh of 3.22",
        directory("/etc/ssh/sshd_config.d"),
        file(
            "/etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile\t.ssh/authorized_keys\n"
            "AllowTcpForwarding no\nGatewayPorts no\nX11Forwarding no\nSubsystem\tsftp\tinternal-sftp\n",
        ),
    ),
)
_GENTOO_BASE = of(
    "gentoo.org ebuilds sys-apps/baselayout 2.17: os-release, gentoo-release; stage3 accounts, shadow, openssh",
    file(
        "/usr/lib/os-release",
        'NAME=Gentoo\nID=gentoo\nPRETTY_NAME="Gentoo Linux"\nVERSION="2.17"\nVERSION_ID="2.17"\nANSI_COLOR="1;32"\n',
    ),
    link("/etc/os-release", "../usr/lib/os-release"),
    file("/etc/gentoo-release", "Gentoo Base System release 2.17\n"),
    file("/etc/hosts", "# /etc/hosts: Local Host Database\n127.0.0.1\tlocalhost\n::1\t\tlocalhost\n"),
    accounts(*_ACCOUNTS, shadow=_SHADOW, shadow_mode=0o640, shadow_group=0),
    file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD YESCRYPT\n"),
    directory("/etc/ssh/sshd_config.d"),
    file(
        "/etc/ssh/sshd_config",
        "AuthorizedKeysFile\t.ssh/authorized_keys\nSubsystem\tsftp\t/usr/lib64/misc/sftp-server\n"
        "Include /etc/ssh/sshd_config.d/*.conf\n",
    ),
    *_ZONES,
    file("/etc/fstab", "LABEL=rootfs\t\t/\t\text4\t\tnoatime\t\t0 1\n"),
    file("/etc/default/grub", 'GRUB_DISTRIBUTOR="Gentoo"\n#GRUB_CMDLINE_LINUX=""\n'),
    file("/boot/grub/grub.cfg", "menuentry 'Gentoo' {\n\tlinux\t/boot/vmlinuz-6.12 root=UUID=91a2b3c4 ro\n}\n", 0o600),
)
_GENTOO_OPENRC = phony(
    "phony-gentoo-openrc",
    _GENTOO_BASE,
    of(
        "sys-apps/openrc, net-misc/netifrc: conf.d/hostname, net.lo and net.eth0; wiki.gentoo.org/wiki/Netifrc, "
        "Handbook",
        *programs("/sbin/openrc", "/sbin/openrc-run", "/bin/bash", "/usr/sbin/sshd", "/sbin/dhcpcd"),
        *programs("/sbin/init"),
        file("/etc/conf.d/hostname", '# Set to the hostname of this machine\nhostname="localhost"\n'),
        file("/etc/conf.d/keymaps", 'keymap="us"\nwindowkeys="YES"\n'),
        file("/etc/conf.d/net", 'config_eth0="dhcp"\n'),
        file("/etc/init.d/net.lo", "#!/sbin/openrc-run\n", 0o755),
        link("/etc/init.d/net.eth0", "net.lo"),
        link("/etc/runlevels/default/net.eth0", "/etc/init.d/net.eth0"),
        link("/etc/runlevels/boot/net.lo", "/etc/init.d/net.lo"),
        file("/etc/init.d/hostname", "#!/sbin/openrc-run\n", 0o755),
        link("/etc/runlevels/boot/hostname", "/etc/init.d/hostname"),
        file("/etc/init.d/sshd", "#!/sbin/openrc-run\n", 0o755),
        link("/etc/runlevels/default/sshd", "/etc/init.d/sshd"),
        directory("/lib/netifrc/net"),
        file("/etc/timezone", "Etc/UTC\n"),
        link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
        file("/etc/env.d/02locale", 'LANG="C.UTF8"\n'),
        file("/etc/resolv.conf", ""),
        file(
            "/etc/inittab",
            "id:3:initdefault:\nc1:12345:respawn:/sbin/agetty --noclear 38400 tty1 linux\n"
            "#s0:12345:respawn:/sbin/agetty -L 9600 ttyS0 vt100\n",
        ),
        file("/var/lib/seedrng/seed.credit", "seed of the template\n", 0o400),
    ),
)
_GENTOO_SYSTEMD = phony(
    "phony-gentoo-systemd",
    _GENTOO_BASE,
    of(
        "stage3-amd64-systemd: wiki.gentoo.org/wiki/Systemd: networkd and resolved by preset, no .network file",
        *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/lib/systemd/systemd-networkd"),
        directory("/etc/systemd/network"),
        *enabled("systemd-networkd.service"),
        alias("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
        *enabled("systemd-resolved.service", wanted_by="sysinit.target"),
        alias("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
        link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        *enabled("sshd.service"),
        unit("getty@.service", "WantedBy=getty.target", "DefaultInstance=tty1"),
        file("/etc/machine-id", "", 0o444),
        file("/etc/locale.conf", "LANG=C.UTF8\n"),
        file("/etc/vconsole.conf", "KEYMAP=us\n"),
    ),
)
_VOID = phony(
    "phony-void",
    of(
        "github.com/void-linux/void-packages srcpkgs/base-files/files: os-release, hosts, fstab, passwd",
        file(
            "/etc/os-release",
            'NAME="Void"\nID="void"\nPRETTY_NAME="Void Linux"\nHOME_URL="https://voidlinux.org/"\n'
            'ANSI_COLOR="0;38;2;71;128;97"\n',
        ),
        file(
            "/etc/hosts",
            "#\n# /etc/hosts: static lookup table for host names\n#\n127.0.0.1\t\tlocalhost.localdomain\tlocalhost\n"
            "::1\t\t\tlocalhost.localdomain\tlocalhost ip6-localhost\n",
        ),
        file(
            "/etc/fstab",
            "UUID=a2b3c4d5-e6f7-4809-91a2-b3c4d5e6f708 / ext4 defaults 0 1\n"
            "tmpfs /tmp tmpfs defaults,nosuid,nodev 0 0\n",
        ),
        _MERGED,
        accounts(*_ACCOUNTS, shadow=_SHADOW, shadow_mode=0o600, shadow_group=0),
        *programs("/usr/bin/runit", "/usr/bin/runit-init", "/usr/bin/bash", "/usr/bin/sshd", "/usr/bin/dhcpcd"),
        link("/usr/bin/init", "runit-init"),
    ),
    of(
        "github.com/void-linux/void-runit, void-mklive; docs.voidlinux.org: dhcpcd is the network of a fresh install",
        file("/etc/hostname", "void\n"),
        file("/etc/rc.conf", '# HOSTNAME="void-live"\nHARDWARECLOCK="UTC"\nKEYMAP="us"\n#TIMEZONE="Europe/Madrid"\n'),
        file("/etc/rc.local", "#!/bin/sh\n", 0o755),
        file("/etc/sv/dhcpcd/run", "#!/bin/sh\nexec dhcpcd -B\n", 0o755),
        file("/etc/sv/sshd/run", "#!/bin/sh\nexec /usr/bin/sshd -D\n", 0o755),
        file("/etc/sv/agetty-tty1/run", "#!/bin/sh\n", 0o755),
        file("/etc/sv/agetty-ttyS0/run", "#!/bin/sh\n", 0o755),
        link("/etc/runit/runsvdir/default/dhcpcd", "/etc/sv/dhcpcd"),
        link("/etc/runit/runsvdir/default/sshd", "/etc/sv/sshd"),
        link("/etc/runit/runsvdir/default/agetty-tty1", "/etc/sv/agetty-tty1"),
        link("/etc/runit/runsvdir/current", "default"),
        file("/etc/dhcpcd.conf", "duid\npersistent\nvendorclassid\noption domain_name_servers, domain_name\n"),
        file("/etc/dhcpcd.duid", "00:01:00:01:2a:2b:2c:2d:52:54:00:01:02:03\n"),
        file("/etc/locale.conf", "LANG=en_US.UTF-8\n"),
        file("/etc/default/libc-locales", "en_US.UTF-8 UTF-8\n"),
        link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
        *_ZONES,
        directory("/etc/ssh/sshd_config.d"),
        file(
            "/etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile\t.ssh/authorized_keys\nUsePAM yes\n",
        ),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        file(
            "/etc/default/grub",
            'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR="Void"\nGRUB_CMDLINE_LINUX_DEFAULT="loglevel=4"\n',
        ),
        file(
            "/boot/grub/grub.cfg",
            "menuentry 'Void' {\n\tlinux\t/boot/vmlinuz-6.12.30_1 root=UUID=a2b3c4d5 ro loglevel=4\n}\n",
            0o600,
        ),
    ),
)
_SLACKWARE = phony(
    "phony-slackware-15",
    of(
        "package a/aaa_base, a/sysvinit-scripts, a/etc, n/network-scripts of Slackware64 15.0",
        file(
            "/etc/os-release",
            'NAME=Slackware\nVERSION="15.0"\nID=slackware\nVERSION_ID=15.0\nPRETTY_NAME="Slackware 15.0 x86_64"\n'
            'ANSI_COLOR="0;34"\nCPE_NAME="cpe:/o:slackware:slackware_linux:15.0"\nVERSION_CODENAME=stable\n',
        ),
        file("/etc/slackware-version", "Slackware 15.0\n"),
        file("/etc/HOSTNAME", "darkstar.example.net\n"),
        file(
            "/etc/hosts",
            "127.0.0.1\t\tlocalhost\n::1\t\t\tlocalhost\n127.0.0.1\t\tdarkstar.example.net darkstar\n",
        ),
        file(
            "/etc/rc.d/rc.inet1.conf",
            'IFNAME[0]="eth0"\nIPADDRS[0]=""\nUSE_DHCP[0]="yes"\n# IP6ADDRS[0]=""\n# USE_SLAAC[0]=""\n\n'
            'IFNAME[1]="eth1"\nIPADDRS[1]=""\nUSE_DHCP[1]=""\n\nGATEWAY=""\nDEBUG_ETH_UP="no"\n',
            0o600,
        ),
        *(file(f"/etc/rc.d/rc.{name}", "#!/bin/bash\n", 0o755) for name in ("S", "M", "6", "inet1", "inet2")),
        file("/etc/rc.d/rc.networkmanager", "#!/bin/sh\n", 0o644),
        file("/etc/rc.d/rc.sshd", "#!/bin/sh\n", 0o755),
        file("/etc/rc.d/rc.keymap", "#!/bin/sh\n", 0o755),
        *programs("/sbin/init", "/bin/bash", "/usr/sbin/sshd", "/sbin/dhcpcd", "/usr/sbin/NetworkManager"),
        directory("/etc/NetworkManager/system-connections"),
        file("/etc/dhcpcd.conf", "clientid\nduid\n"),
        file(
            "/etc/inittab",
            "id:3:initdefault:\nc1:12345:respawn:/sbin/agetty --noclear 38400 tty1 linux\n"
            "#s1:12345:respawn:/sbin/agetty -L ttyS0 9600 vt100\n",
        ),
        file("/etc/resolv.conf", ""),
        file("/etc/fstab", "/dev/sda1        /                ext4        defaults         1   1\n"),
        file(
            "/etc/lilo.conf",
            'append="vt.default_utf8=1"\nboot = /dev/sda\nimage = /boot/vmlinuz\n  root = /dev/sda1\n'
            '  label = "Slackware 15.0"\n  read-only\n',
        ),
        file("/etc/localtime", "TZif2"),
        link("/etc/localtime-copied-from", "/usr/share/zoneinfo/UTC"),
        file("/etc/profile.d/lang.sh", "#!/bin/sh\nexport LANG=en_US.UTF-8\n", 0o755),
        file("/var/lib/dbus/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n"),
        link("/etc/machine-id", "/var/lib/dbus/machine-id"),
        file("/etc/random-seed", "seed of the template\n", 0o600),
        *_ZONES,
    ),
    of(
        "packages a/shadow, n/openssh of Slackware64 15.0",
        accounts(
            "root:x:0:0::/root:/bin/bash",
            "bin:x:1:1:bin:/bin:/bin/false",
            "sshd:x:33:33:sshd:/:/bin/false",
            "nobody:x:99:99:nobody:/:/bin/false",
            shadow="root:$5$uQ$0wKJhUoB:19000:0:::::\nbin:*:9797:0:::::\nsshd:*:9797:0:::::\nnobody:*:9797:0:::::\n",
        ),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA256\n"),
        directory("/etc/ssh"),
        file(
            "/etc/ssh/sshd_config",
            "AuthorizedKeysFile\t.ssh/authorized_keys\nSubsystem\tsftp\t/usr/libexec/sftp-server\n",
        ),
    ),
)

GUESTS = (_ARCH, _ALPINE, _GENTOO_OPENRC, _GENTOO_SYSTEMD, _VOID, _SLACKWARE)
