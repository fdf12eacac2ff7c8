# SPDX-License-Identifier: GPL-2.0-or-later
"""A Ganeti cluster of one node, driven by Ganeti's own commands.

Disks are files, or come from two providers of external storage (in `extstorage`): `loopfile` gives block devices,
`nbdfile` nothing but a URI.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ganeti.node import Node
from ganeti.traces import loop_directory, programs, traces
from leaks import Traces
from snf_image_shared.process import Finished

# Ganeti 3.1 looks for the name that its address has in the node's certificate, where it has written this one.
NODE = "ganeti.example.com"
CLUSTER = "cluster.example.com"
# Ganeti 3.0 renames to a name that has an address at which nobody answers; 3.1 has no option that turns that off.
RESOLVABLE = "renamed.example.com"
NETWORK, GATEWAY, SUBNET = "backbone", "192.0.2.1", "192.0.2.0/24"
GATEWAY6, SUBNET6 = "2001:db8:7::1", "2001:db8:7::/64"
DHCP_NETWORK, DHCP_SUBNET = "leases", "198.51.100.0/24"
OS = "snf-image+default"
# What lies in the node's IMAGE_DIR: a guest that does not boot, one that does, and one that is none.
SMALL, BOOTABLE, NOISE = "small.diskdump", "debian.diskdump", "noise.diskdump"
_BRIDGE = "gnt-br0"
_NODE_ADDRESS, _CLUSTER_ADDRESS, _OTHER_ADDRESS = "203.0.113.1", "203.0.113.2", "100.64.0.3"
_TEMPLATES = "file,sharedfile,ext,diskless"
_FILES = "/srv/ganeti/file-storage"
_SHARED_FILES = "/srv/ganeti/shared-file-storage"
_LOOPFILE, _NBDFILE = "/srv/ganeti/loopfile", "/srv/ganeti/nbdfile"
_EXTSTORAGE = "/srv/ganeti/extstorage"
_STORAGE_SCRIPTS = ("create", "attach", "detach", "remove", "grow", "setinfo", "verify", "snapshot", "open", "close")
# Ganeti's own bounds begin at a disk of 1 GiB.
_BOUNDS = (
    "min:cpu-count=1,disk-count=0,disk-size=1,memory-size=1,nic-count=0,spindle-use=1"
    "/max:cpu-count=8,disk-count=16,disk-size=1048576,memory-size=32768,nic-count=8,spindle-use=12"
)
# /usr/bin/kvm would insist on KVM. No cmpxchg16b: see guest_console.
_KVM = (
    "kvm:kvm_flag=disabled,kvm_path=/usr/bin/qemu-system-x86_64,kernel_path=,initrd_path=,serial_console=true,"
    "serial_speed=115200,vhost_net=false,vnc_bind_address=,security_model=none,cpu_type=max\\,-cx16"
)
_PATIENCE = 1800.0  # seconds
_FINAL = frozenset(("success", "error", "canceled"))
_LOG_TAIL, _JOBS = 60, 8  # lines

T = TypeVar("T")


class GanetiError(AssertionError):
    """A command of Ganeti ended otherwise than expected; the text has what it said and the newest OS log."""


@dataclass(frozen=True)
class Order:
    """An instance to add: OS parameters in Ganeti's three classes, disks and NICs as --disk and --net take them.

    Without `nics` it has none. `options` are any others.
    """

    name: str
    public: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[str, ...] = ("size=600M",)
    nics: tuple[str, ...] = ()
    template: str = "file"
    hypervisor: str = "fake"
    memory: str = "64M"
    os: str = OS
    options: tuple[str, ...] = ()

    def arguments(self, *more: str) -> list[str]:
        """The arguments of gnt-instance, with `more` options."""
        words = ["add", f"--node={NODE}", "-t", self.template, "-H", self.hypervisor, "-o", self.os]
        words += [f"--backend-parameters=memory={self.memory},vcpus=1", "--no-ip-check", "--no-name-check"]
        words += [f"--disk={index}:{disk}" for index, disk in enumerate(self.disks)]
        words += [f"--net={index}:{nic}" for index, nic in enumerate(self.nics)] or ["--no-nics"]
        for option, values in (
            ("--os-parameters", self.public),
            ("--os-parameters-private", self.private),
            ("--os-parameters-secret", self.secret),
        ):
            words += [option, os_parameters(values)] if values else []
        return [*words, *self.options, *more, self.name]


@dataclass(frozen=True)
class Cluster:
    """Ganeti on `node`; `before` is what the node looked like before there was any instance."""

    node: Node
    before: Traces

    @classmethod
    def initialise(cls, node: Node) -> Cluster:
        """Make the cluster, its daemons and its networks. Raises GanetiError, NodeError."""
        _prepare(node)
        cluster = cls(node, traces(node))
        cluster.gnt(
            *("cluster", "init", "--no-ssh-init", "--no-etc-hosts", f"--master-netdev={_BRIDGE}"),
            *(f"--enabled-disk-templates={_TEMPLATES}", f"--ipolicy-disk-templates={_TEMPLATES}"),
            *(f"--file-storage-dir={_FILES}", f"--shared-file-storage-dir={_SHARED_FILES}"),
            *("--enabled-hypervisors=fake,kvm", "-H", _KVM, "--ipolicy-bounds-specs", _BOUNDS),
            *(f"--nic-parameters=mode=bridged,link={_BRIDGE}", CLUSTER),
        )
        # luxid answers some time after it was started.
        cluster.wait(cluster._is_answering, "ganeti-luxid does not answer")
        for name, options in (
            (
                NETWORK,
                (f"--network={SUBNET}", f"--gateway={GATEWAY}", f"--network6={SUBNET6}", f"--gateway6={GATEWAY6}"),
            ),
            (DHCP_NETWORK, (f"--network={DHCP_SUBNET}", "--tags=nfdhcpd")),
        ):
            cluster.gnt("network", "add", *options, name)
            cluster.gnt("network", "connect", f"--nic-parameters=mode=bridged,link={_BRIDGE}", name)
        return replace(cluster, before=traces(node))

    def gnt(self, program: str, *arguments: str) -> str:
        """Run `gnt-program` and give both its outputs. Raises GanetiError when it fails."""
        ended = self.try_gnt(program, *arguments)
        if ended.status:
            raise GanetiError(self.explain(f"gnt-{program} {' '.join(arguments)} ended with {ended.status}", ended))
        return ended.stdout + ended.stderr

    def failing_gnt(self, program: str, *arguments: str) -> str:
        """Run `gnt-program`, which has to fail, and give both its outputs. Raises GanetiError when it does not."""
        ended = self.try_gnt(program, *arguments)
        if not ended.status:
            raise GanetiError(self.explain(f"gnt-{program} {' '.join(arguments)} did not fail", ended))
        return ended.stdout + ended.stderr

    def add(self, order: Order, *options: str) -> str:
        """gnt-instance add, which does not start the instance. Raises GanetiError when it fails."""
        return self.gnt("instance", *order.arguments("--no-start", *options))

    def failing_add(self, order: Order, *options: str) -> str:
        """gnt-instance add, which has to fail."""
        return self.failing_gnt("instance", *order.arguments("--no-start", *options))

    def instances(self) -> list[str]:
        """Every instance's name."""
        return self.gnt("instance", "list", "--no-headers", "--output=name").split()

    def submit(self, order: Order) -> str:
        """Let gnt-instance add begin, and give the number of its job."""
        said = self.gnt("instance", *order.arguments("--no-start", "--submit"))
        return said.rpartition("JobID:")[2].split()[0]

    def wait_for_job(self, job: str) -> str:
        """Wait until the job is over, and give its status: success, error or canceled."""
        # Which fails as the job does. To ask again and again would take a processor from the job.
        self.try_gnt("job", "wait", job)
        return self.wait(lambda: self._final_status(job), f"job {job} does not end")

    def wait(self, until: Callable[[], T | None], complaint: str) -> T:
        """Ask again and again until there is an answer. Raises GanetiError after an age."""
        deadline = time.monotonic() + _PATIENCE
        while not (answer := until()):
            if time.monotonic() > deadline:
                raise GanetiError(self.explain(complaint))
            time.sleep(0.2)
        return answer

    def remove(self, name: str) -> None:
        """gnt-instance remove, whatever state it is in."""
        self.gnt("instance", "remove", "--force", "--ignore-failures", "--shutdown-timeout=0", name)

    def try_gnt(self, program: str, *arguments: str) -> Finished:
        """Run `gnt-program`, whatever comes of it."""
        return self.node.try_(f"gnt-{program}", *arguments)

    def processes(self, program: str) -> list[int]:
        """The numbers, in the node, of the processes of whose first three arguments one ends with this."""
        found = {number: words.split(" ")[:3] for number, words in programs(self.node).items()}
        return [number for number, words in found.items() if any(word.endswith(program) for word in words)]

    def disks(self, instance: str) -> list[Path]:
        """The files of an instance with the template `file` or `sharedfile`, in order, as they are seen from here."""
        found = [path for place in (_FILES, _SHARED_FILES) for path in self._in(f"{place}/{instance}").glob("*.disk*")]
        return sorted(found, key=lambda path: path.suffix)

    def volumes(self, provider: str) -> list[Path]:
        """The files behind the disks of one of our providers of external storage."""
        return sorted(self._in(f"/srv/ganeti/{provider}").glob("*.disk?"))

    def logs(self, pattern: str = "*") -> list[Path]:
        """The logs of the OS scripts whose names match, the newest last."""
        found = (self.node.root / "var/log/ganeti/os").glob(pattern)
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def explain(self, what: str, ended: Finished | None = None) -> str:
        """All that may say why: the command's outputs, the last jobs, and the end of the newest OS log."""
        jobs = self.try_gnt("job", "list").stdout.splitlines()[-_JOBS:]
        parts = [what, *((ended.stdout, ended.stderr) if ended else ()), *jobs]
        for log in self.logs()[-1:]:
            parts += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]]
        return "\n".join(parts)

    def _in(self, path: str) -> Path:
        return self.node.root / path.removeprefix("/")

    def _final_status(self, job: str) -> str | None:
        status = self.gnt("job", "list", "--no-headers", "--output=status", job).strip()
        return status if status in _FINAL else None

    def _is_answering(self) -> bool:
        return not self.try_gnt("node", "list", "--no-headers", "--output=name").status


def os_parameters(values: Mapping[str, str]) -> str:
    """The argument of -O and its like: Ganeti splits at each comma that has no backslash."""
    return ",".join(f"{name}={value.replace(',', chr(92) + ',')}" for name, value in values.items())


def _prepare(node: Node) -> None:
    """The network, names, directories and storage that Ganeti wants to find."""
    names = {"127.0.0.1": "localhost", _NODE_ADDRESS: NODE, _CLUSTER_ADDRESS: CLUSTER, _OTHER_ADDRESS: RESOLVABLE}
    node.write("/etc/hosts", "".join(f"{address} {name}\n" for address, name in names.items()))
    # Only a hint that the node's own package of the ssh server was configured; nobody logs in.
    if not (node.root / "etc/ssh/ssh_host_rsa_key.pub").exists():
        node.run("ssh-keygen", "-A")
    for line in (
        "link set lo up",
        f"link add {_BRIDGE} type bridge",
        f"address add {_NODE_ADDRESS}/24 dev {_BRIDGE}",
        f"link set {_BRIDGE} up",
    ):
        node.run("ip", *line.split())
    behind_loops = loop_directory(node)
    directories = (_FILES, _SHARED_FILES, behind_loops, _NBDFILE)
    node.run("mkdir", "-p", "/run/lock", *directories, "/var/log/ganeti/extstorage")
    node.run("ln", "--symbolic", "--relative", behind_loops, _LOOPFILE)
    node.write("/etc/ganeti/file-storage-paths", f"{_FILES}\n{_SHARED_FILES}\n")
    for provider in ("loopfile", "nbdfile"):
        directory = f"{_EXTSTORAGE}/{provider}"
        source = Path(__file__).parent / "extstorage" / provider
        node.write(f"{directory}/parameters.list", "")
        for script in _STORAGE_SCRIPTS:
            target = node.root / directory[1:] / script
            shutil.copyfile(source, target)
            target.chmod(0o755)
