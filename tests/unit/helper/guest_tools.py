# SPDX-License-Identifier: GPL-2.0-or-later
"""The network software of a real Debian, unpacked beside the machine's own and run in namespaces of its own.

Nothing is installed: on a Ganeti node, ifupdown or NetworkManager would begin to configure the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from unit.helper.disk_images import sh

PACKAGES = (
    *("ifupdown", "netplan.io", "network-manager", "openssh-server", "iproute2"),
    *("isc-dhcp-client", "dhcpcd-base", "dnsmasq-base", "locales", "cloud-init"),
    *("policycoreutils", "selinux-utils", "selinux-policy-default", "acl", "attr", "libcap2-bin", "dropbear-bin"),
)
# Alpine's programs, as Debian has them.
ALPINE_PACKAGES = ("ifupdown-ng", "busybox-static", "udhcpc")
NETPLAN = ("/usr/libexec/netplan/generate", "/lib/netplan/generate", "/usr/lib/netplan/generate")
_NETWORKD = "/usr/lib/systemd/systemd-networkd"

# Cards with a carrier: each has another one at the far end of its cable, that nobody configures. A tap device would do
# for all but NetworkManager, which takes it for no Ethernet card.
_CARDS = """
import json, os, subprocess, sys
for number, (name, mac) in enumerate(json.loads(sys.argv[1]).items()):
    far = f"far{number}"
    subprocess.run(["ip", "link", "add", name, "address", mac, "type", "veth", "peer", "name", far], check=True)
    subprocess.run(["ip", "link", "set", far, "up"], check=True)
os.execvp(sys.argv[2], sys.argv[2:])
"""
# /sys is read-only as in a container: networkd then does not wait for a udev that is not there.
_ROOM = """
mount -t tmpfs room "$ROOM"
mkdir "$ROOM/upper" "$ROOM/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$ROOM/upper,workdir=$ROOM/work" /etc
mkdir -p /etc/network/if-pre-up.d /etc/network/if-up.d /etc/network/if-down.d /etc/network/if-post-down.d
cp -a "$ETC/." /etc/
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs run /run
ip link set lo up
exec "$@"
"""


class GuestTools:
    """`root` is the tree the packages were unpacked into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        found = [f"{root}{place}" for place in ("/usr/sbin", "/sbin", "/usr/bin", "/bin")]
        self.environment = {
            "PATH": ":".join((*found, os.environ["PATH"])),
            "LD_LIBRARY_PATH": ":".join(sorted({str(path.parent) for path in root.rglob("*-linux-gnu/lib*.so.*")})),
            "LC_ALL": "C",
        }

    @classmethod
    def unpack(cls, cache: Path, packages: tuple[str, ...] = PACKAGES, name: str = "guest-tools") -> GuestTools:
        """Download once, with what they need and this machine lacks; what has the same paths needs trees apart."""
        root = cache / name
        with (cache / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ready = root / ".ready"
            if not (ready.exists() and ready.read_text() == " ".join(packages)):
                _unpack(root, packages)
                ready.write_text(" ".join(packages))
        return cls(root)

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a program of the tree that must succeed; its output."""
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, env=dict(self.environment), check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def convert(self, network_config: Path, kind: str, directory: Path) -> None:
        """Let cloud-init turn a network-config of version 2 into another software's files below `directory`."""
        argv = ["/usr/bin/python3", "-W", "ignore", "-m", "cloudinit.cmd.main", "devel", "net-convert"]
        argv += ["--network-data", str(network_config), "--kind", "yaml", "--distro", "rhel"]
        path = f"PYTHONPATH={self.root}/usr/lib/python3/dist-packages"
        self.run("env", path, *argv, "--output-kind", kind, "--directory", str(directory))

    def run_in_room(self, script: str, etc: Path, room: Path, cards: Mapping[str, str]) -> str:
        """Run a shell script where /etc has the files of `etc`, and the only cards are these (name: MAC)."""
        room.mkdir(exist_ok=True)
        # With a process namespace of its own, daemons that the script started end with it.
        argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "env", f"ROOM={room}", f"ETC={etc}"]
        argv += ["sh", "-euc", _ROOM, "sh"]
        argv += [sys.executable, "-c", _CARDS, json.dumps(cards), "sh", "-euc", script]
        return self.run(*argv)

    @property
    def netplan(self) -> str:
        """The generator itself: the command is Python for another interpreter."""
        return next(f"{self.root}{path}" for path in NETPLAN if Path(f"{self.root}{path}").exists())

    @property
    def networkmanager(self) -> str:
        """The daemon."""
        return f"{self.root}/usr/sbin/NetworkManager"

    @property
    def networkd(self) -> str:
        return _NETWORKD


def _unpack(root: Path, packages: tuple[str, ...]) -> None:
    archives = root / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    install = ("apt-get", "-y", "install", "--reinstall", "--download-only", "--no-install-recommends")
    options = ("-o", f"Dir::Cache::archives={archives}", "-o", "APT::Sandbox::User=root")
    first = subprocess.run([*install, *options, *packages], capture_output=True, check=False)
    if first.returncode:
        sh("apt-get", "-q", "update")
        sh(*install, *options, *packages)
    for archive in archives.glob("*.deb"):
        sh("dpkg-deb", "--extract", str(archive), str(root))
