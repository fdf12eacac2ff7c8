# SPDX-License-Identifier: GPL-2.0-or-later
"""openSUSE and SLES: wicked up to 15, NetworkManager since, configuration of the vendor below /usr/etc."""

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

_HOSTS = (
    "#\n# hosts         This file describes a number of hostname-to-address\n#\n127.0.0.1\tlocalhost\n\n"
    "# special IPv6 addresses\n::1             localhost ipv6-localhost ipv6-loopback\n\n"
    "fe00::0         ipv6-localnet\n"
)
_SYSTEM_ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/bash",
    "bin:x:1:1:bin:/bin:/sbin/nologin",
    "nobody:x:65534:65534:nobody:/var/lib/nobody:/bin/bash",
    "sshd:x:476:476:SSH daemon:/var/lib/sshd:/usr/sbin/nologin",
)
_SHADOW = "root:!:19000::::::\nbin:!:19000::::::\nnobody:!:19000::::::\nsshd:!:19000::::::\n"
_WICKED = (
    *programs("/usr/sbin/wicked", "/usr/sbin/wickedd", "/usr/sbin/wickedd-nanny", "/usr/sbin/ifup", "/usr/sbin/ifdown"),
    unit(
        "wicked.service",
        "WantedBy=multi-user.target network-online.target",
        "Also=wickedd-nanny.service",
        "Alias=network.service",
    ),
    link("/etc/systemd/system/multi-user.target.wants/wicked.service", "/usr/lib/systemd/system/wicked.service"),
    link("/etc/systemd/system/network-online.target.wants/wicked.service", "/usr/lib/systemd/system/wicked.service"),
    alias("network.service", "wicked.service"),
    *(
        entry
        for name in ("wickedd", "wickedd-nanny", "wickedd-auto4", "wickedd-dhcp4", "wickedd-dhcp6")
        for entry in (
            unit(f"{name}.service"),
            link(
                f"/etc/systemd/system/wickedd.service.wants/{name}.service", f"/usr/lib/systemd/system/{name}.service"
            ),
        )
    ),
    directory("/etc/wicked/extensions"),
    file("/etc/wicked/common.xml", "<config>\n</config>\n"),
    directory("/var/lib/wicked"),
    file(
        "/etc/sysconfig/network/config",
        'AUTO6_WAIT_AT_BOOT=""\nAUTO6_UPDATE=""\nNETCONFIG_MODULES_ORDER="dns-resolver dns-bind dns-dnsmasq nis '
        'ntp-runtime"\nNETCONFIG_VERBOSE="no"\nNETCONFIG_FORCE_REPLACE="no"\nNETCONFIG_DNS_POLICY="auto"\n'
        'NETCONFIG_DNS_FORWARDER="resolver"\nNETCONFIG_DNS_STATIC_SEARCHLIST=""\nNETCONFIG_DNS_STATIC_SERVERS=""\n'
        'NETCONFIG_DNS_RANKING="auto"\nWAIT_FOR_INTERFACES="30"\nLINK_REQUIRED="auto"\n',
    ),
    file(
        "/etc/sysconfig/network/dhcp",
        'DHCLIENT_SET_HOSTNAME="no"\nDHCLIENT_SET_DEFAULT_ROUTE="yes"\nDHCLIENT_HOSTNAME_OPTION="AUTO"\n'
        'DHCLIENT_USE_LAST_LEASE="no"\nWRITE_HOSTNAME_TO_HOSTS="no"\n',
    ),
    file(
        "/etc/sysconfig/network/ifcfg-lo",
        "IPADDR=127.0.0.1/8\nNETMASK=255.0.0.0\nSTARTMODE=nfsroot\nBOOTPROTO=static\n",
    ),
    file("/etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nMTU=''\nREMOTE_IPADDR=''\nSTARTMODE='auto'\n"),
    link("/etc/resolv.conf", "/run/netconfig/resolv.conf"),
)
_WICKED_SOURCE = (
    "github.com/openSUSE/wicked (etc/wicked.service.in: Alias=network.service; samples/), package sysconfig-network: "
    "config, dhcp; kiwi of Minimal-VM writes ifcfg-eth0"
)
_NETWORKMANAGER = (
    *programs("/usr/sbin/NetworkManager", "/usr/bin/nmcli", "/usr/bin/nm-online"),
    directory("/etc/NetworkManager/conf.d"),
    directory("/etc/NetworkManager/system-connections", 0o700),
    file("/etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\n"),
    *enabled("NetworkManager.service"),
    alias("network.service", "NetworkManager.service"),
    unit("NetworkManager-dispatcher.service", "Alias=dbus-org.freedesktop.nm-dispatcher.service"),
    alias("dbus-org.freedesktop.nm-dispatcher.service", "NetworkManager-dispatcher.service"),
    link("/etc/resolv.conf", "/run/netconfig/resolv.conf"),
)
_NETWORKMANAGER_SOURCE = "package NetworkManager of openSUSE: Alias=network.service; netconfig's resolv.conf"
_ZONES = (
    link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
    file("/usr/share/zoneinfo/UTC", "TZif2"),
    file("/usr/share/zoneinfo/Europe/Athens", "TZif2"),
    file("/etc/locale.conf", "LANG=en_US.UTF-8\n"),
    file("/etc/vconsole.conf", "KEYMAP=us\n"),
)
_ZONES_SOURCE = "kiwi: timezone, locale, keytable of the image description (systemd-firstboot)"
_CLOUD_INIT = (
    *programs("/usr/bin/cloud-init"),
    file("/etc/cloud/cloud.cfg", CLOUD_CFG.format("suse")),
    directory("/etc/cloud/cloud.cfg.d"),
    *enabled(
        "cloud-init-local.service",
        "cloud-init.service",
        "cloud-config.service",
        "cloud-final.service",
        wanted_by="cloud-init.target",
    ),
)
_SELINUX = (
    file("/etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n"),
    file("/etc/selinux/targeted/contexts/files/file_contexts", "/.*\tsystem_u:object_r:default_t:s0\n"),
)


def _release(identity: str, version: str, pretty: str, like: str = "suse opensuse") -> tuple[Entry, ...]:
    versions = f'VERSION="{version}"\nVERSION_ID="{version}"\n' if "tumbleweed" not in identity else ""
    name = pretty.removesuffix(f" {version}")
    rolling = f'VERSION_ID="{version}"\n' if not versions else ""
    return (
        file(
            "/usr/lib/os-release",
            f'NAME="{name}"\n{versions}{rolling}ID="{identity}"\nID_LIKE="{like}"\nPRETTY_NAME="{pretty}"\n'
            'ANSI_COLOR="0;32"\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/bin/systemctl"),
    )


def _btrfs(uuid: str, boot: str = "") -> Entry:
    """The fstab of a SUSE root with snapshots: no subvol= at /, the default subvolume is the snapshot."""
    parts = "".join(
        f"UUID={uuid} {path} btrfs subvol=@{path} 0 0\n"
        for path in ("/.snapshots", "/boot/grub2/x86_64-efi", "/home", "/opt", "/root", "/srv", "/usr/local", "/var")
    )
    return file("/etc/fstab", f"UUID={uuid} / btrfs defaults 0 0\n{parts}{boot}")


def _grub(distributor: str) -> tuple[Entry, ...]:
    return (
        file(
            "/etc/default/grub",
            f'GRUB_DISTRIBUTOR="{distributor}"\nGRUB_DEFAULT=saved\nGRUB_TIMEOUT=10\n'
            'GRUB_CMDLINE_LINUX_DEFAULT="rw quiet systemd.show_status=1 console=ttyS0,115200 console=tty0 '
            'net.ifnames=0"\nGRUB_CMDLINE_LINUX=""\nGRUB_TERMINAL="serial console"\n'
            'GRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0 --word=8 --parity=no --stop=1"\n',
        ),
        file("/boot/grub2/grub.cfg", "menuentry 'openSUSE' {\n\tlinux /boot/vmlinuz root=UUID=x rw quiet\n}\n", 0o600),
        directory("/boot/grub2/i386-pc"),
    )


_SSHD_15 = file(
    "/etc/ssh/sshd_config",
    "AuthorizedKeysFile\t.ssh/authorized_keys\nUsePAM yes\nX11Forwarding yes\n"
    "Subsystem\tsftp\t/usr/lib/ssh/sftp-server\n",
    0o640,
)
_LEAP_15 = phony(
    "phony-opensuse-leap-15.6",
    of("package openSUSE-release 15.6: os-release", _release("opensuse-leap", "15.6", "openSUSE Leap 15.6")),
    of(_WICKED_SOURCE, _WICKED),
    of(
        "packages aaa_base, netcfg, shadow, permissions of Leap 15.6; kiwi leaves machine-id empty",
        file("/etc/hosts", _HOSTS),
        accounts(*_SYSTEM_ACCOUNTS, shadow=_SHADOW, shadow_group=15),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        file("/etc/default/passwd", "CRYPT=sha512\n"),
        file("/etc/machine-id", "", 0o444),
        link("/var/lib/dbus/machine-id", "/etc/machine-id"),
    ),
    of(_ZONES_SOURCE, _ZONES),
    of("package openssh-server 9.6 of Leap 15.6", directory("/etc/ssh"), _SSHD_15, *enabled("sshd.service")),
    of(
        "get.opensuse.org/leap/15.6 Minimal-VM Cloud: xfs or ext4 root, ESP, GRUB 2",
        file(
            "/etc/fstab",
            "UUID=2b1a3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d / xfs defaults 0 0\n"
            "UUID=6C9B-1F7A /boot/efi vfat defaults 0 0\n",
        ),
        _grub("openSUSE Leap 15.6"),
    ),
    of("package cloud-init 23.3 of Leap 15.6", _CLOUD_INIT),
)
_USR_ETC = (
    file("/usr/etc/hosts", ""),
    file(
        "/usr/etc/ssh/sshd_config",
        "Include /etc/ssh/sshd_config.d/*.conf\nInclude /usr/etc/ssh/sshd_config.d/*.conf\n"
        "AuthorizedKeysFile\t.ssh/authorized_keys\nUsePAM yes\nSubsystem\tsftp\t/usr/libexec/ssh/sftp-server\n",
        0o600,
    ),
    directory("/usr/etc/ssh/sshd_config.d"),
    directory("/etc/ssh/sshd_config.d"),
    *enabled("sshd.service"),
    file("/usr/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD YESCRYPT\n"),
)
_USR_ETC_SOURCE = "en.opensuse.org/openSUSE:Packaging_UsrEtc: sshd_config and login.defs below /usr/etc, none in /etc"
_TUMBLEWEED = phony(
    "phony-opensuse-tumbleweed",
    of(
        "package openSUSE-release of Tumbleweed: no VERSION, VERSION_ID a date",
        _release("opensuse-tumbleweed", "20250601", "openSUSE Tumbleweed", "opensuse suse"),
    ),
    of(_NETWORKMANAGER_SOURCE, _NETWORKMANAGER),
    of(
        "packages aaa_base, netcfg, shadow of Tumbleweed",
        file("/etc/hosts", _HOSTS),
        accounts(*_SYSTEM_ACCOUNTS, shadow=_SHADOW, shadow_group=15),
        file("/etc/machine-id", "", 0o444),
    ),
    of(_USR_ETC_SOURCE, _USR_ETC),
    of(_ZONES_SOURCE, _ZONES),
    of(
        "Minimal-VM of Tumbleweed: btrfs with snapshots, SELinux since 2025-02",
        _btrfs("8c9d0e1f-2a3b-4c5d-6e7f-8091a2b3c4d5", "UUID=6C9B-1F7A /boot/efi vfat defaults 0 0\n"),
        _grub("openSUSE Tumbleweed"),
        _SELINUX,
    ),
    of("package cloud-init of Tumbleweed", _CLOUD_INIT),
)
_LEAP_16 = phony(
    "phony-opensuse-leap-16.0",
    _TUMBLEWEED,
    of(
        "package Leap-release 16.0: os-release; NetworkManager instead of wicked (release notes of Leap 16.0)",
        _release("opensuse-leap", "16.0", "openSUSE Leap 16.0"),
        _grub("openSUSE Leap 16.0"),
    ),
)
_SLES_12 = phony(
    "phony-sles-12",
    of(
        "package sles-release 12 SP5: os-release without ID_LIKE, SuSE-release as well",
        file(
            "/etc/os-release",
            'NAME="SLES"\nVERSION="12-SP5"\nVERSION_ID="12.5"\nPRETTY_NAME="SUSE Linux Enterprise Server 12 SP5"\n'
            'ID="sles"\nANSI_COLOR="0;32"\nCPE_NAME="cpe:/o:suse:sles:12:sp5"\n',
        ),
        file("/etc/SuSE-release", "SUSE Linux Enterprise Server 12 (x86_64)\nVERSION = 12\nPATCHLEVEL = 5\n"),
        *programs("/usr/lib/systemd/systemd", "/bin/bash", "/usr/sbin/sshd"),
    ),
    of(
        _WICKED_SOURCE,
        _WICKED[:-1],
        file("/etc/resolv.conf", "### /etc/resolv.conf file autogenerated by netconfig!\n"),
    ),
    of(
        "packages aaa_base, netcfg, pwdutils of SLES 12: HOSTNAME is a link to hostname",
        file("/etc/hosts", _HOSTS),
        file("/etc/hostname", "linux\n"),
        link("/etc/HOSTNAME", "hostname"),
        accounts(*_SYSTEM_ACCOUNTS, shadow=_SHADOW, shadow_group=15),
        file("/etc/login.defs", "UID_MIN\t\t\t 1000\nENCRYPT_METHOD SHA512\n"),
        file("/etc/default/passwd", "CRYPT=sha512\nCRYPT_FILES=sha512\n"),
        file("/etc/machine-id", "", 0o444),
        link("/var/lib/dbus/machine-id", "/etc/machine-id"),
        file("/etc/sysconfig/clock", 'TIMEZONE="UTC"\nHWCLOCK="-u"\n'),
        file("/etc/sysconfig/language", 'RC_LANG="en_US.UTF-8"\nROOT_USES_LANG="ctype"\n'),
        file("/etc/sysconfig/keyboard", 'KEYTABLE="us"\n'),
    ),
    of(_ZONES_SOURCE, _ZONES),
    of("package openssh 7.2 of SLES 12", directory("/etc/ssh"), _SSHD_15, *enabled("sshd.service")),
    of(
        "SLES12-SP5-JeOS-for-OpenStack-Cloud: GRUB 2, btrfs",
        _btrfs("9d0e1f2a-3b4c-4d5e-6f70-8192a3b4c5d6"),
        _grub("SLES12-SP5"),
    ),
)

GUESTS = (_LEAP_15, _TUMBLEWEED, _LEAP_16, _SLES_12)
