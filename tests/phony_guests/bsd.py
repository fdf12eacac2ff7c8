# SPDX-License-Identifier: GPL-2.0-or-later
"""FreeBSD 13 to 15, NetBSD 9 and 10, OpenBSD 7 as their projects' images and installers leave them.

The databases of passwords are no real ones: they hold the text of master.passwd, so that one sees what is left of it.
"""

from __future__ import annotations

from phony_guests.tree import Entry, Kind, Sourced, directory, file, link, of, phony, programs

SPWD, PWD = "/etc/spwd.db", "/etc/pwd.db"
_HASH_DATABASE = bytes.fromhex("00061561")  # the magic number of DB_HASH files, hash(3)
_ZONES = ("UTC", "Europe/Athens")


def _accounts(master: str, groups: str) -> tuple[Entry, ...]:
    """What pwd_mkdb(8) makes of a master.passwd: passwd and both databases."""
    rows = [line.split(":") for line in master.splitlines() if not line.startswith("#")]
    passwd = "".join(":".join((row[0], "*", row[2], row[3], *row[7:])) + "\n" for row in rows)
    return (
        file("/etc/master.passwd", master, 0o600),
        file("/etc/passwd", passwd),
        file("/etc/group", groups),
        Entry(Kind.FILE, SPWD, _HASH_DATABASE + master.encode(), 0o600),
        Entry(Kind.FILE, PWD, _HASH_DATABASE + passwd.encode()),
    )


def _zones(*more: str) -> tuple[Entry, ...]:
    return tuple(file(f"/usr/share/zoneinfo/{name}", "TZif2") for name in (*_ZONES, *more))


def _rc_scripts(*names: str, mode: int = 0o555) -> tuple[Entry, ...]:
    return tuple(file(f"/etc/rc.d/{name}", f"#!/bin/sh\n\n# PROVIDE: {name}\n", mode) for name in names)


# ---- FreeBSD

_FREEBSD_MASTER = """# $FreeBSD$
#
root::0:0::0:0:Charlie &:/root:/bin/{shell}
toor:*:0:0::0:0:Bourne-again Superuser:/root:
daemon:*:1:1::0:0:Owner of many system processes:/root:/usr/sbin/nologin
operator:*:2:5::0:0:System &:/:/usr/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source:/:/usr/sbin/nologin
sshd:*:22:22::0:0:Secure Shell Daemon:/var/empty:/usr/sbin/nologin
_dhcp:*:65:65::0:0:dhcp programs:/var/empty:/usr/sbin/nologin
ntpd:*:123:123::0:0:NTP Daemon:/var/db/ntp:/usr/sbin/nologin
nobody:*:65534:65534::0:0:Unprivileged user:/nonexistent:/usr/sbin/nologin
"""
_FREEBSD_GROUP = (
    "# $FreeBSD$\n#\nwheel:*:0:root\ndaemon:*:1:\nkmem:*:2:\nsys:*:3:\ntty:*:4:\noperator:*:5:root\nbin:*:7:\n"
    "staff:*:20:\nsshd:*:22:\n_dhcp:*:65:\naudit:*:77:\nntpd:*:123:\nnogroup:*:65533:\nnobody:*:65534:\n"
)
_FREEBSD_SSHD = """#Port 22
#HostKey /etc/ssh/ssh_host_rsa_key
#HostKey /etc/ssh/ssh_host_ecdsa_key
#HostKey /etc/ssh/ssh_host_ed25519_key
#PermitRootLogin no
AuthorizedKeysFile\t.ssh/authorized_keys
#UsePAM yes
Subsystem\tsftp\t/usr/libexec/sftp-server
"""
_FREEBSD_HOSTS = """#
# Host Database
#
::1\t\t\tlocalhost localhost.my.domain
127.0.0.1\t\tlocalhost localhost.my.domain
"""
_FREEBSD_TTYS = """console\tnone\t\t\t\tunknown\toff secure
#
ttyv0\t"/usr/libexec/getty Pc"\t\txterm\tonifexists secure
ttyv1\t"/usr/libexec/getty Pc"\t\txterm\tonifexists secure
# Serial terminals
# The 'dialup' keyword identifies dialin lines to login, fingerd etc.
ttyu0\t"/usr/libexec/getty 3wire"\tvt100\tonifconsole secure
ttyu1\t"/usr/libexec/getty 3wire"\tvt100\tonifconsole secure
"""
_FREEBSD_RC = 'hostname="freebsd"\nifconfig_DEFAULT="DHCP inet6 accept_rtadv"\ngrowfs_enable="YES"\n'


def _freebsd_base(release: str, shell: str) -> tuple[Sourced, ...]:
    return (
        of(
            "github.com/freebsd/freebsd-src release/tools/vmimage.subr: fstab, rc.conf, firstboot; no resolv.conf",
            file("/etc/rc.conf", _FREEBSD_RC),
            file("/firstboot", ""),
            file(
                "/etc/fstab",
                "# Custom /etc/fstab for FreeBSD VM images\n/dev/gpt/rootfs   /       ufs     rw      1       1\n"
                "/dev/gpt/swapfs  none    swap    sw      0       0\n"
                "/dev/gpt/efiesp\t/boot/efi       msdosfs     rw      2       2\n",
            ),
            directory("/boot/efi"),
        ),
        of(
            "freebsd-src bin/freebsd-version, libexec/rc/rc.d/os-release, usr.sbin/freebsd-update",
            file("/bin/freebsd-version", f'#!/bin/sh\nset -e\n\nUSERLAND_VERSION="{release}"\n', 0o555),
            file("/etc/freebsd-update.conf", "Components src world kernel\nUpdateIfUnmodified /etc/ /var/\n"),
            link("/etc/os-release", "../var/run/os-release"),
            file(
                "/var/run/os-release",
                f'NAME=FreeBSD\nVERSION="{release}"\nVERSION_ID="{release.partition("-")[0]}"\nID=freebsd\n'
                f'ANSI_COLOR="0;31"\nPRETTY_NAME="FreeBSD {release}"\n',
            ),
            directory("/var/run"),
        ),
        of(
            "freebsd-src etc/master.passwd (root has no password), etc/group, usr.bin/login/login.conf",
            _accounts(_FREEBSD_MASTER.format(shell=shell), _FREEBSD_GROUP),
            directory("/root", 0o755),
            file(
                "/etc/login.conf",
                "default:\\\n\t:passwd_format=sha512:\\\n\t:umask=022:\n\nroot:\\\n\t:ignorenologin:\\\n\t:tc=default:\n",
            ),
        ),
        of(
            "freebsd-src libexec/rc: rc.d, rc.subr, defaults; libexec/rc/network.subr; sbin/growfs",
            *programs("/sbin/init", "/bin/sh", "/sbin/growfs", "/usr/sbin/pwd_mkdb", "/usr/sbin/sshd"),
            file("/etc/rc", "#!/bin/sh\n"),
            file("/etc/rc.subr", ": ${RC_PID:=$$}\n"),
            file(
                "/etc/defaults/rc.conf",
                'hostname=""\nsshd_enable="NO"\ngrowfs_enable="NO"\nrc_conf_files="/etc/rc.conf /etc/rc.conf.local"\n',
            ),
            directory("/etc/rc.conf.d"),
            *_rc_scripts(
                "FILESYSTEMS", "NETWORKING", "growfs", "hostid", "hostname", "netif", "routing", "sshd", "swaplate"
            ),
        ),
        of(
            "freebsd-src etc/: hosts, ttys.amd64, nsswitch.conf; secure/ssh: sshd_config; share/zoneinfo",
            file("/etc/hosts", _FREEBSD_HOSTS),
            file("/etc/ttys", _FREEBSD_TTYS),
            file("/etc/nsswitch.conf", "group: compat\ngroup_compat: nis\nhosts: files dns\npasswd: compat\n"),
            directory("/etc/ssh"),
            file("/etc/ssh/sshd_config", _FREEBSD_SSHD),
            *_zones(),
        ),
        of(
            "freebsd-src stand/: the loader's files; release/Makefile.vm writes no loader.conf for a plain image",
            *programs("/boot/loader.efi", "/boot/kernel/kernel"),
            directory("/boot/loader.conf.d"),
            directory("/var/db/entropy", 0o700, owner=2, group=5),
        ),
    )


_FREEBSD_13 = phony("phony-freebsd-13.5", *_freebsd_base("13.5-RELEASE", "csh"))
_FREEBSD_14 = phony(
    "phony-freebsd-14.3",
    *_freebsd_base("14.3-RELEASE", "sh"),
    of(
        "freebsd-src libexec/rc/rc.d/growfs_fstab and hostid_save of 14: they add swap and /etc/machine-id",
        *_rc_scripts("growfs_fstab", "hostid_save"),
    ),
)
_FREEBSD_15 = phony(
    "phony-freebsd-15.0",
    _FREEBSD_14,
    *_freebsd_base("15.0-RELEASE", "sh"),
    of(
        "freebsd-src release/tools/basic-cloudinit.conf, libexec/nuageinit of 15: the image BASIC-CLOUDINIT",
        file(
            "/etc/rc.conf",
            'hostname="freebsd"\nsshd_enable="YES"\ngrowfs_enable="YES"\nnuageinit_enable="YES"\n'
            'ifconfig_DEFAULT="SYNCDHCP accept_rtadv"\n',
        ),
        *_rc_scripts("nuageinit", "nuageinit_post_net", "nuageinit_user_data_script"),
        file("/usr/libexec/nuageinit", "#!/usr/libexec/flua\n-- phony, knows write_files\n", 0o555),
        file("/usr/share/flua/nuage.lua", "-- phony\n"),
    ),
)

# A machine that has lived, from which somebody made an image: what two instances must not share is there.
_FREEBSD_LIVED = phony(
    "phony-freebsd-lived-14.3",
    _FREEBSD_14,
    of(
        "freebsd-src libexec/rc/rc.d: hostid_save, sshd keygen, random, dhclient(8), utx(5); rc.conf.local of an admin",
        file(
            "/etc/rc.conf",
            'hostname="template.example.org"\nifconfig_vtnet0="inet 10.9.8.7 \\\n\tnetmask 255.255.255.0"\n'
            'defaultrouter="10.9.8.1"\n# sshd_enable="NO"\nsshd_enable=YES\n',
        ),
        file("/etc/rc.conf.local", "hostname='template' # the short one\n"),
        file("/etc/hosts", _FREEBSD_HOSTS + "10.9.8.7\t\ttemplate.example.org template\n10.9.8.1\t\trouter\n"),
        file("/etc/hostid", "0b1c2d3e-0000-11ee-8000-525400010203\n"),
        file("/etc/machine-id", "0b1c2d3e000011ee8000525400010203\n"),
        file("/etc/ssh/ssh_host_rsa_key", "phony private key of the template\n", 0o600),
        file("/etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAA template\n"),
        file("/etc/ssh/ssh_host_ed25519_key", "phony private key of the template\n", 0o600),
        file("/etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA template\n"),
        file("/boot/entropy", "x" * 4096, 0o600),
        file("/entropy", "x" * 4096, 0o600),
        file("/var/db/entropy/saved-entropy.1", "x" * 4096, 0o600, owner=2, group=5),
        file("/var/db/dhclient.leases.vtnet0", "lease {\n  fixed-address 10.9.8.7;\n}\n"),
        file("/var/log/utx.log", "phony\n"),
        file("/var/log/utx.lastlogin", "phony\n"),
        file("/etc/master.passwd", "", 0o600),
        _accounts(
            _FREEBSD_MASTER.format(shell="sh").replace("root::", "root:$6$old$template:")
            + "admin:$6$old$ofadmin:1001:1001:staff:0:0:An Admin:/home/admin:/bin/sh\n",
            _FREEBSD_GROUP + "admin:*:1001:\n",
        ),
        directory("/home/admin", 0o755, owner=1001, group=1001),
    ),
)

# ---- NetBSD

_NETBSD_MASTER = """root::0:0::0:0:Charlie &:/root:/bin/sh
toor:*:0:0::0:0:Bourne-again Superuser:/root:/bin/sh
daemon:*:1:31::0:0:The devil himself:/:/sbin/nologin
operator:*:2:5::0:0:System &:/usr/guest/operator:/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source:/:/sbin/nologin
sshd:*:16:16::0:0:& pseudo-user:/var/chroot/sshd:/sbin/nologin
_dhcpcd:*:35:35::0:0:& pseudo-user:/var/chroot/dhcpcd:/sbin/nologin
nobody:*:32767:39::0:0:Unprivileged user:/nonexistent:/sbin/nologin
"""
_NETBSD_GROUP = (
    "wheel:*:0:root\ndaemon:*:1:daemon\nsys:*:3:\ntty:*:4:\noperator:*:5:root\nbin:*:7:\nsshd:*:16:\nusers:*:100:\n"
    "_dhcpcd:*:35:\nnobody:*:39:\n"
)
_NETBSD_RC = """#\t$NetBSD: rc.conf,v 1.97 2014/07/15 10:37:17 skrll Exp $
#
# see rc.conf(5) for more information.
#
# Use program=YES to enable program, NO to disable it. program_flags are
# passed to the program on the command line.
#

# Load the defaults in from /etc/defaults/rc.conf (if it's readable).
# These can be overridden below.
#
if [ -r /etc/defaults/rc.conf ]; then
\t. /etc/defaults/rc.conf
fi

# If this is not set to YES, the system will drop into single-user mode.
#
rc_configured=YES

# Add local overrides below.
#
"""
_NETBSD_TTYS = """#name\tgetty\t\t\t\ttype\tstatus\t\tcomments
console\t"/usr/libexec/getty Pc"\t\twsvt25\ton secure
constty\t"/usr/libexec/getty Pc"\t\twsvt25\toff secure
ttyE0\t"/usr/libexec/getty Pc"\t\twsvt25\toff secure
tty00\t"/usr/libexec/getty std.9600"\tunknown off secure
tty01\t"/usr/libexec/getty std.9600"\tunknown off secure
"""


def _netbsd_base(release: str, fstab: str) -> tuple[Sourced, ...]:
    return (
        of(
            "github.com/NetBSD/src etc/: rc.conf, master.passwd, group; etc/Makefile writes /etc/release",
            file("/etc/rc.conf", _NETBSD_RC + "hostname=netbsd\ndhcpcd=YES\nsshd=YES\n"),
            file("/etc/release", f"NetBSD {release}/amd64\nBuild settings:\n\n"),
            _accounts(_NETBSD_MASTER, _NETBSD_GROUP),
            directory("/root"),
        ),
        of(
            "usr.sbin/sysinst of NetBSD src: fstab and hostname; distrib/utils/embedded/mkimage",
            file("/etc/fstab", fstab),
            *(directory(path) for path in ("/kern", "/proc", "/cdrom", "/dev/pts")),
        ),
        of(
            "NetBSD src etc/rc.d, etc/defaults/rc.conf, sbin/resize_ffs; every system has them",
            *programs("/sbin/init", "/bin/sh", "/sbin/resize_ffs", "/usr/sbin/pwd_mkdb", "/usr/sbin/sshd"),
            file("/etc/rc", "#!/bin/sh\n"),
            file("/etc/rc.subr", "rcorder\n"),
            file("/etc/defaults/rc.conf", 'hostname=""\nsshd=NO\nresize_root=NO\n'),
            directory("/etc/rc.conf.d"),
            *_rc_scripts(
                "DAEMON", "LOGIN", "SERVERS", "fsck_root", "mountcritremote", "network", "resize_root", "sshd", "swap2"
            ),
        ),
        of(
            "NetBSD src etc/: hosts, ttys of etc.amd64, boot.cfg of etc.amd64; crypto/external/bsd/openssh",
            file(
                "/etc/hosts",
                "#\t$NetBSD: hosts,v 1.8 2013/11/24 07:20:01 dholland Exp $\n#\n::1\t\t\tlocalhost localhost.\n"
                "127.0.0.1\t\tlocalhost localhost.\n",
            ),
            file("/etc/ttys", _NETBSD_TTYS),
            file(
                "/boot.cfg",
                "menu=Boot normally:rndseed /var/db/entropy-file;boot\nmenu=Boot single user:rndseed "
                "/var/db/entropy-file;boot -s\nmenu=Drop to boot prompt:prompt\ndefault=1\ntimeout=5\nclear=1\n",
            ),
            *programs("/boot", "/netbsd"),
            directory("/etc/ssh"),
            file(
                "/etc/ssh/sshd_config",
                "#HostKey /etc/ssh/ssh_host_rsa_key\nAuthorizedKeysFile\t.ssh/authorized_keys\nUsePam yes\n"
                "Subsystem\tsftp\t/usr/libexec/sftp-server\n",
            ),
            link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
            *_zones(),
        ),
        of(
            "NetBSD src etc/rc.d/random_seed: saved at shutdown and by security(5)",
            file("/var/db/entropy-file", "x" * 536, 0o600),
        ),
    )


_NETBSD_FSTAB = (
    "# NetBSD /etc/fstab\n# See /usr/share/examples/fstab/ for more examples.\n{0}\t\t/\tffs\trw{1}\t\t 1 1\n"
    "{2}\t\tnone\tswap\tsw,dp\t\t 0 0\nkernfs\t\t/kern\tkernfs\trw\nptyfs\t\t/dev/pts\tptyfs\trw\n"
    "procfs\t\t/proc\tprocfs\trw\n/dev/cd0a\t\t/cdrom\tcd9660\tro,noauto\n"
    "tmpfs\t\t/var/shm\ttmpfs\trw,-m1777,-sram%25\n"
)
_NETBSD_9 = phony("phony-netbsd-9.4", *_netbsd_base("9.4", _NETBSD_FSTAB.format("/dev/wd0a", ",log", "/dev/wd0b")))
_NETBSD_10 = phony(
    "phony-netbsd-10.1", *_netbsd_base("10.1", _NETBSD_FSTAB.format("NAME=netbsd-root", "", "NAME=netbsd-swap"))
)

# ---- OpenBSD

_OPENBSD_MASTER = """root:$2b$10$templateOfTheInstaller:0:0:daemon:0:0:Charlie &:/root:/bin/ksh
daemon:*:1:1::0:0:The devil himself:/root:/sbin/nologin
operator:*:2:5::0:0:System &:/operator:/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source,,,:/:/sbin/nologin
sshd:*:27:27::0:0:sshd privsep:/var/empty:/sbin/nologin
_syslogd:*:73:73::0:0:Syslog Daemon:/var/empty:/sbin/nologin
_dhcp:*:77:77::0:0:DHCP programs:/var/empty:/sbin/nologin
_slaacd:*:115:115::0:0:SLAAC Daemon:/var/empty:/sbin/nologin
nobody:*:32767:32767::0:0:Unprivileged user:/nonexistent:/sbin/nologin
"""
_OPENBSD_GROUP = (
    "wheel:*:0:root\ndaemon:*:1:daemon\nkmem:*:2:root\nsys:*:3:root\ntty:*:4:root\noperator:*:5:root\nbin:*:7:\n"
    "sshd:*:27:\n_syslogd:*:73:\n_dhcp:*:77:\n_slaacd:*:115:\nnogroup:*:32766:\nnobody:*:32767:\n"
)
_OPENBSD_TTYS = """#
# name\tgetty\t\t\t\ttype\tstatus\t\tcomments
#
console\t"/usr/libexec/getty std.9600"\tvt220\toff secure
ttyC0\t"/usr/libexec/getty std.9600"\tvt220\ton  secure
ttyC1\t"/usr/libexec/getty std.9600"\tvt220\ton  secure
tty00\t"/usr/libexec/getty std.9600"\tunknown off
tty01\t"/usr/libexec/getty std.9600"\tunknown off
"""
_DUID = "0f1e2d3c4b5a6978"


def _openbsd_base(release: str, fstab: str) -> tuple[Sourced, ...]:
    short = release.replace(".", "")
    return (
        of(
            "github.com/openbsd/src distrib/miniroot/install.sub: fstab by DUID, myname, hostname.if, hosts, localtime",
            file("/etc/fstab", fstab),
            file("/etc/myname", "openbsd.my.domain\n"),
            file("/etc/hostname.vio0", "inet autoconf\n", 0o640),
            file("/etc/hosts", "127.0.0.1\tlocalhost\n::1\t\tlocalhost\n"),
            link("/etc/localtime", "/usr/share/zoneinfo/Canada/Mountain"),
            file("/var/db/dhcpleased/vio0", "version: 2\nip: 10.9.8.7\n"),
        ),
        of(
            "openbsd/src etc/: master.passwd, group, ttys of etc.amd64, motd; sys/conf/newvers.sh",
            _accounts(_OPENBSD_MASTER, _OPENBSD_GROUP),
            directory("/root", 0o700),
            file("/etc/ttys", _OPENBSD_TTYS),
            file(
                "/etc/motd", f"OpenBSD {release} (GENERIC.MP) #1: Sun Jan  5 12:00:00 MST 2025\n\nWelcome to OpenBSD.\n"
            ),
            file(f"/etc/signify/openbsd-{short}-base.pub", "untrusted comment: openbsd public key\n"),
            file(
                "/etc/login.conf",
                "default:\\\n\t:path=/usr/bin /bin:\\\n\t:localcipher=blowfish,a:\\\n\t:tc=auth-defaults:\n",
            ),
        ),
        of(
            "openbsd/src etc/rc, etc/rc.d/rc.subr, sbin/growfs, usr.sbin/pwd_mkdb; rc.conf.local by rcctl(8)",
            *programs("/sbin/init", "/bin/ksh", "/sbin/growfs", "/usr/sbin/pwd_mkdb", "/usr/sbin/sshd"),
            *programs("/bsd", "/bsd.rd"),
            file("/etc/rc", "#\t$OpenBSD$\n"),
            file("/etc/rc.conf", "sshd_flags=\nntpd_flags=\n"),
            file("/etc/rc.d/rc.subr", "#\t$OpenBSD$\n"),
            *_rc_scripts("sshd", "ntpd"),
        ),
        of(
            "openbsd/src etc/rc make_keys(), random_seed(); the installer boots the new system once without them",
            file("/etc/random.seed", "x" * 512, 0o600),
            file("/var/db/host.random", "x" * 65536, 0o600),
            file("/etc/soii.key", "00112233445566778899aabbccddeeff\n", 0o600),
            file("/etc/isakmpd/private/local.key", "phony private key\n", 0o600),
            file("/etc/isakmpd/local.pub", "phony public key\n"),
            file("/etc/iked/private/local.key", "phony private key\n", 0o600),
            file("/etc/iked/local.pub", "phony public key\n"),
            *(
                file(f"/etc/ssh/ssh_host_{kind}_key", "phony private key\n", 0o600)
                for kind in ("rsa", "ecdsa", "ed25519")
            ),
            *(file(f"/etc/ssh/ssh_host_{kind}_key.pub", "ssh-x AAAA\n") for kind in ("rsa", "ecdsa", "ed25519")),
            file(
                "/etc/ssh/sshd_config",
                "#HostKey /etc/ssh/ssh_host_rsa_key\nPermitRootLogin yes\nAuthorizedKeysFile\t.ssh/authorized_keys\n"
                "Subsystem\tsftp\t/usr/libexec/sftp-server\n",
            ),
            *_zones("Canada/Mountain"),
        ),
    )


_OPENBSD_ONE = phony("phony-openbsd-7.6", *_openbsd_base("7.6", f"{_DUID}.b none swap sw\n{_DUID}.a / ffs rw 1 1\n"))
_OPENBSD_MANY = phony(
    "phony-openbsd-7.7",
    *_openbsd_base(
        "7.7",
        f"{_DUID}.b none swap sw\n{_DUID}.a / ffs rw 1 1\n{_DUID}.d /tmp ffs rw,nodev,nosuid 1 2\n"
        f"{_DUID}.f /usr ffs rw,nodev 1 2\n{_DUID}.e /var ffs rw,nodev,nosuid 1 2\n"
        f"{_DUID}.k /home ffs rw,nodev,nosuid 1 2\n",
    ),
    of(
        "openbsd/src etc/: rc.securelevel(8) and rc.conf.local of an admin",
        file("/etc/rc.securelevel", "#!/bin/sh\n# of the admin\nexit 0\n"),
        file("/etc/rc.conf.local", "ntpd_flags=NO\npkg_scripts=qemu_ga\n"),
    ),
)

GUESTS = (
    *(_FREEBSD_13, _FREEBSD_14, _FREEBSD_15, _FREEBSD_LIVED),
    *(_NETBSD_9, _NETBSD_10),
    *(_OPENBSD_ONE, _OPENBSD_MANY),
)
