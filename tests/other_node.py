# SPDX-License-Identifier: GPL-2.0-or-later
"""A second node of a cluster on this machine, which a real sshd lets in; and a master that knows of its instance.

The node has its own name, its own /run and its own passwords. On the master, Ganeti's commands are programs that
answer as they do.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
MASTER, NODE, CLUSTER = "node1.example.com", "node2.example.com", "cluster.example.com"
_PATIENCE = 60.0  # seconds
_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_START = """
set -e
hostname node2
mount -t tmpfs -o mode=755 run /run
mkdir /run/sshd
mount --bind "$1/shadow" /etc/shadow
exec /usr/sbin/sshd -D -f "$1/sshd_config" -E "$1/sshd.log"
"""
_COMMAND = """
import socket, sys
from pathlib import Path
sys.path[:0] = [{host!r}, {shared!r}]
import snf_image_shared.process
from snf_image_host import cli
from snf_image_host.tools import clusters
snf_image_shared.process.SEARCH_PATH = {search!r}
clusters._KNOWN_HOSTS, clusters._CLUSTER_NAME = Path({known_hosts!r}), Path({cluster!r})
socket.gethostname = lambda: {master!r}
socket.getfqdn = lambda: {master!r}
sys.exit(cli.operate("snf-image-capture", Path({root!r})))
"""
_GANETI = """#!/bin/sh
echo "$(basename "$0") $1" >>{log}
case "$1" in
    getmaster) echo {master} ;;
    list) echo "web1.example.com|{node}|$(cat {status})|N|plain|" ;;
    activate-disks) cat {disks} ;;
esac
"""


@dataclass(frozen=True)
class OtherNode:
    """`programs` is what its root's shell looks through first, `pid` its sshd; the rest is the master's."""

    programs: Path
    scratch: Path
    pid: int = 0

    @property
    def asked(self) -> list[str]:
        """What Ganeti was asked on the master, in order."""
        return (self.scratch / "asked").read_text().splitlines()

    def says_of_instance(self, status: str) -> None:
        """How Ganeti calls the state of web1.example.com from now on."""
        (self.scratch / "status").write_text(status)

    def has_disks(self, *disks: Path) -> None:
        """What activate-disks finds there for web1.example.com."""
        lines = [f"{NODE}:disk/{number}:{disk}\n" for number, disk in enumerate(disks)]
        (self.scratch / "disks").write_text("".join(lines))

    def has_program(self, program: Path) -> None:
        """The node's snf-image-capture."""
        (self.programs / "snf-image-capture").symlink_to(program)

    def capture(self, *words: str) -> subprocess.Popen[str]:
        """The command on the master, with these words; in a session of its own, as at a terminal."""
        master = self.scratch / "master"
        code = _COMMAND.format(
            host=str(PROJECT / "host"),
            shared=str(PROJECT / "shared"),
            search=f"{master}:{_SEARCH_PATH}",
            known_hosts=str(self.scratch / "known_hosts"),
            cluster=str(self.scratch / "cluster_name"),
            master=MASTER,
            root=str(self.scratch),
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@contextmanager
def other_node(scratch: Path) -> Iterator[OtherNode]:
    """The node, for the length of the block. `scratch` is an empty directory."""
    node = OtherNode(scratch / "programs", scratch)
    node.programs.mkdir()
    port = _free_port()
    _write_keys(scratch)
    _write_settings(node, port)
    _write_master(scratch, port)
    node.says_of_instance("ADMIN_down")
    command = ["unshare", "--mount", "--uts", "sh", "-c", _START, "sh", str(scratch)]
    with subprocess.Popen(command) as daemon:
        try:
            _wait_for(port, daemon)
            yield replace(node, pid=daemon.pid)
        finally:
            daemon.terminate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _write_keys(scratch: Path) -> None:
    for name in ("host_key", "root_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(scratch / name)]
        subprocess.run(words, check=True)
    (scratch / "known_hosts").write_text(f"{CLUSTER} {(scratch / 'host_key.pub').read_text()}")
    (scratch / "cluster_name").write_text(f"{CLUSTER}\n")


def _write_settings(node: OtherNode, port: int) -> None:
    scratch = node.scratch
    (scratch / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": scratch / "host_key",
        "AuthorizedKeysFile": scratch / "root_key.pub",
        "PidFile": "none",
        "StrictModes": "no",  # the directory of a test is anybody's
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "SetEnv": f"PATH={node.programs}:{_SEARCH_PATH}",
    }
    (scratch / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))


def _write_master(scratch: Path, port: int) -> None:
    programs = scratch / "master"
    programs.mkdir()
    where = {"HostName": "127.0.0.1", "Port": port, "IdentityFile": scratch / "root_key", "IdentitiesOnly": "yes"}
    (scratch / "ssh_config").write_text("".join(f"{name} {value}\n" for name, value in where.items()))
    words = {"log": scratch / "asked", "master": MASTER, "node": NODE, "status": scratch / "status"}
    ganeti = _GANETI.format(disks=scratch / "disks", **words)
    ssh = f'#!/bin/sh\nexec /usr/bin/ssh -F {scratch / "ssh_config"} "$@"\n'
    for name, text in {"gnt-cluster": ganeti, "gnt-instance": ganeti, "ssh": ssh}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)


def _wait_for(port: int, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE):
            return
        assert daemon.poll() is None, "sshd does not start"
        assert time.monotonic() < deadline, "sshd does not listen"
        time.sleep(0.01)


def written_program(path: Path, lines: Sequence[str]) -> Path:
    """A Python program that has this project's modules."""
    first = [
        f"#!{sys.executable}",
        "import sys",
        f"sys.path[:0] = [{str(PROJECT / 'host')!r}, {str(PROJECT / 'shared')!r}]",
    ]
    path.write_text("\n".join((*first, *lines, "")))
    path.chmod(0o755)
    return path
