# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance as Ganeti's own commands tell of it, on the master; its disks are activated, and deactivated again.

Source: gnt-instance(8), gnt-cluster(8), ganeti lib/ssh.py for how its nodes call one another.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.progress import Progress, printable
from snf_image_shared.errors import ConfigurationError, DiskError, RequestError
from snf_image_shared.process import Limits, ProcessError, run

_FIELDS = ("name", "pnode", "status", "disks_active", "disk_template", "hv/kernel_path")
_DOWN = frozenset({"ADMIN_down", "USER_down"})
_KNOWN_HOSTS = Path("/var/lib/ganeti/known_hosts")
_CLUSTER_NAME = Path("/var/lib/ganeti/ssconf_cluster_name")
_PATIENCE = Limits(timeout=1800)  # seconds: a job may wait for others
_UNKNOWN = "-"  # how gnt-instance prints what it does not know


@dataclass(frozen=True)
class ClusterInstance:
    """`kernel_path` is "" for a guest that starts itself. `status` is Ganeti's word."""

    name: str
    primary: str
    status: str
    disks_active: bool
    disk_template: str
    kernel_path: str

    def check_down(self) -> None:
        """Raise RequestError unless Ganeti has stopped it, and does not start it by itself."""
        if self.status not in _DOWN:
            raise RequestError(
                f"{self.name} is not stopped, its status is {printable(self.status)}: stop it ('gnt-instance shutdown "
                f"{self.name}'), or make a snapshot of its disk and give that by --disk"
            )

    @property
    def is_here(self) -> bool:
        """Whether this node is its primary."""
        return is_this_node(self.primary)


def is_this_node(node: str) -> bool:
    """Whether a name of Ganeti's is this node's; Ganeti has long names, and nodes often have short ones."""
    own = socket.gethostname()
    return _is_same(node, own) or _is_same(node, socket.getfqdn())


def find_instance(name: str) -> ClusterInstance:
    """Ask Ganeti. Raises RequestError for a node that is not the master, and for an instance that is not there."""
    if not name or name.startswith("-") or not name.isprintable():
        raise RequestError(f"{name[:40]!r} is no name of an instance")
    master = _ganeti("gnt-cluster", "getmaster").strip()
    if not is_this_node(master):
        raise RequestError(f"instances are known on the master, {master}: run it there, or here with --disk")
    query = ["gnt-instance", "list", "--no-headers", "--separator=|", f"--output={','.join(_FIELDS)}", "--", name]
    return parse_instance(_ganeti(*query), name)


def parse_instance(text: str, name: str) -> ClusterInstance:
    """The only line of the answer. Raises RequestError. Pure."""
    lines = [line.split("|") for line in text.splitlines() if line.strip()]
    if len(lines) != 1 or len(lines[0]) < len(_FIELDS):
        raise RequestError(
            f"Ganeti tells of {len(lines)} instances called {name}; give the name as gnt-instance has it"
        )
    found, primary, status, active, template, *rest = lines[0]
    kernel = "|".join(rest)
    return ClusterInstance(found, primary, status, active == "Y", template, "" if kernel == _UNKNOWN else kernel)


def parse_disks(text: str, primary: str) -> tuple[Path, ...]:
    """The answer of activate-disks: lines NODE:disk/N:PATH, of which those of the primary count. Raises DiskError.

    Pure.
    """
    found = {}
    for line in text.splitlines():
        node, _, rest = line.partition(":")
        disk, _, path = rest.partition(":")
        kind, _, number = disk.partition("/")
        if kind == "disk" and number.isdecimal() and _is_same(node, primary):
            found[int(number)] = path
    if sorted(found) != list(range(len(found))) or not found:
        raise DiskError(
            f"activate-disks names no disks on {primary}: {printable(text.strip()[:200]) or 'it says nothing'}"
        )
    for index, path in found.items():
        if not path.startswith("/"):
            raise DiskError(
                f"disk {index} has no path on {primary}, only {printable(path.partition(':')[0])}:...: "
                "disks that QEMU alone reaches cannot be used here; map it to a block device, and give that by --disk"
            )
    return tuple(Path(found[number]) for number in sorted(found))


@contextmanager
def active_disks(instance: ClusterInstance, progress: Progress) -> Iterator[tuple[Path, ...]]:
    """Its disks on its primary node, active for the length of the block. Raises RequestError, DiskError, ProcessError.

    They are left active only if they were before.
    """
    try:
        text = _ganeti("gnt-instance", "activate-disks", "--", instance.name)
        yield parse_disks(text, instance.primary)
    finally:
        if not instance.disks_active:
            try:
                _ganeti("gnt-instance", "deactivate-disks", "--", instance.name)
            except (ProcessError, ConfigurationError) as error:
                progress.warning(f"the disks of {instance.name} are still active: {error}")


def on_node(node: str, command: Sequence[str], *, terminal: bool = False) -> list[str]:
    """The words that run a command as root on another node, as Ganeti's nodes call one another.

    Raises ConfigurationError.
    """
    try:
        cluster = _CLUSTER_NAME.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{_CLUSTER_NAME}: cannot be read: {error}; run it on a node of the cluster"
        ) from error
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": cluster,
        "GlobalKnownHostsFile": str(_KNOWN_HOSTS),
        "UserKnownHostsFile": "/dev/null",
        "CheckHostIP": "no",
        "EscapeChar": "none",
        "LogLevel": "ERROR",  # why it cannot connect, and no more
        "ServerAliveInterval": "60",  # seconds: a node that is gone is told within minutes
    }
    words = ["ssh", "-t" if terminal else "-T", "-l", "root"]
    words += [f"-o{name}={value}" for name, value in options.items()]
    return [*words, "--", node, shlex.join(command)]


def _ganeti(*command: str) -> str:
    try:
        return run(command, limits=_PATIENCE).stdout
    except ProcessError as error:
        if error.outcome == "is not installed":
            raise ConfigurationError(
                f"{command[0]} is not there, so this is no node of a cluster; give the disk by --disk"
            ) from error
        raise


def _is_same(name: str, other: str) -> bool:
    """Whether two names are one, of which one may be short."""
    if "." in name and "." in other:
        return name.lower() == other.lower()
    return bool(name) and name.partition(".")[0].lower() == other.partition(".")[0].lower()
