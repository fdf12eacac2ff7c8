# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are captured, made again by the OS definition `image` in another layout, and booted: what, and how."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache as remembered
from pathlib import Path

from guest_console import DEFAULT_MAC, Machine
from images.archives import guest_tarball
from provider import TIMEOUT, Instance, Outcome, Provider

PASSWORD = "festina: lente"
ADDRESS, GATEWAY = "192.0.2.99", "192.0.2.1"
KERNEL_ARGS = "snf.motto=/dev/null&co mitigations=off"
_ARCH = "x86_64"
DISK_SIZE = 3 << 30  # bytes
_GROWTH = 1 << 30  # bytes more that a disk has onto which a guest is imported
_CONSOLE = {"INSTANCE_HV_serial_console": "True", "INSTANCE_HV_serial_speed": "115200"}
_HOOK = """#!/bin/bash
set -eu
. common.sh
get_os_type
echo "$OS_TYPE $IMAGE_TYPE $(blkid -o value -s TYPE "$ROOT_DEV") $(wc --words <<<"$BOOT_DEV")" >"$TARGET/etc/hooked"
"""
# The overlay makes it a program of the guest's own, which its grub-mkconfig runs in the helper VM as root: what it gets
# at there beyond the guest's disk. A node is made wherever one could be of use, for all disks and ports that there are.
LOOK = r"""#!/bin/sh
exec 2>/dev/null >/etc/looked
try() {
    for place in /tmp /boot /dev /dev/shm; do
        mknod $place/look $2 ${3%:*} ${3#*:} && timeout 5 dd if=$place/look of=/dev/null count=0 && echo $1 opened
        rm -f $place/look
    done
}
for number in /sys/class/block/*/dev; do
    name=${number%/dev}; name=${name##*/}
    case $name in vdb*) ;; *) try $name b $(cat $number) ;; esac
done
for number in /sys/class/tty/ttyS[12]/dev /sys/class/virtio-ports/*/dev /sys/class/mem/mem/dev /sys/class/mem/port/dev
do test -e $number && try $number c $(cat $number); done
find /dev -type b ! -name 'vdb*'; find /dev -name 'ttyS*' -o -name 'vport*' -o -name mem
mkdir /tmp/look
mount -t devtmpfs look /tmp/look && echo mounted
unshare --user --map-root-user --mount mount -t devtmpfs look /tmp/look && echo mounted as another
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/power/state
do test -w $file && echo $file can be written; done
ls /proc/1/root/dev /proc/1/root/run /proc/1/root/old/*
perl -e 'chroot "/tmp/look"; chdir ".." for 1..64; chroot "."; print join(" ", sort </*>), "\n"'
exit 0
"""
LOOKED = "/bin /etc /guest /lib /lib64 /old /proc /sbin /usr"
# As on a busy machine: a card is there for a while before it gets its name.
_LATE_NAMES = 'ACTION=="add", SUBSYSTEM=="net", KERNEL!="lo", PROGRAM="/bin/sleep 30"\n'


@dataclass(frozen=True)
class Redeployment:
    """`settings` are those of the OS definition `image`; `boot` and `swap` are the devices that the guest must have.

    One that is exchanged is exported before it has started, and imported onto a larger disk.
    """

    name: str
    suite: str
    kind: str
    settings: Mapping[str, str] = field(default_factory=dict)
    filesystem: str = "ext4"
    boot: str = ""
    swap: str = ""
    has_kernel: bool = False
    is_exchanged: bool = False
    in_ci: bool = False

    @property
    def uefi(self) -> bool:
        return self.settings.get("BOOT_MODE") == "uefi"

    @property
    def root(self) -> str:
        """The device of the root file system when the hypervisor brings the kernel."""
        return "/dev/vda2" if self.swap else "/dev/vda1"


_BOOT = {"BOOT_SIZE": "320"}
_SWAP, _NO_SWAP = {"SWAP": "yes", "SWAP_SIZE": "64"}, {"SWAP": "no"}
REDEPLOYMENTS = (
    Redeployment(
        *("tarball-uefi-xfs", "trixie", "tarball", {"FILESYSTEM": "xfs", "BOOT_MODE": "uefi", **_BOOT, **_SWAP}),
        filesystem="xfs",
        boot="/dev/vda1",
        swap="/dev/vda2",
        in_ci=True,
    ),
    Redeployment(
        *("dump-bios-ext3", "bookworm", "dump", {"FILESYSTEM": "ext3", **_BOOT, **_SWAP}),
        filesystem="ext3",
        boot="/dev/vda1",
        swap="/dev/vda2",
        is_exchanged=True,
        in_ci=True,
    ),
    Redeployment(
        *("tarball-gpt-btrfs", "bookworm", "tarball"),
        {"FILESYSTEM": "btrfs", "PARTITION_TABLE": "gpt", **_BOOT, **_NO_SWAP},
        filesystem="btrfs",
        boot="/dev/vda1",
    ),
    Redeployment(
        *("dump-uefi-ext4", "trixie", "dump", {"FILESYSTEM": "ext4", "BOOT_MODE": "uefi", **_BOOT, **_NO_SWAP}),
        boot="/dev/vda1",
    ),
    Redeployment(
        *("tarball-kernel-ext4", "trixie", "tarball", {"FILESYSTEM": "ext4", **_SWAP}),
        swap="/dev/vda1",
        has_kernel=True,
    ),
    Redeployment(
        *("dump-kernel-xfs", "bookworm", "dump", {"FILESYSTEM": "xfs", **_NO_SWAP}), filesystem="xfs", has_kernel=True
    ),
    Redeployment(*("qcow2", "trixie", "qcow2"), boot="/dev/vda1", swap="/dev/vda2"),
    Redeployment(*("qcow2-grown", "bookworm", "qcow2", {"GROW": "yes"}), boot="/dev/vda1", swap="/dev/vda2"),
)


@dataclass(frozen=True)
class Workshop:
    """A node with `image` installed, where captured images of both releases are made as they are wanted."""

    provider: Provider
    cache: Path
    scratch: Path

    def settle(self) -> None:
        """What an administrator of instance-image has below /etc: hooks, an overlay, networks."""
        etc = self.provider.root / "etc/ganeti/instance-image"
        for path, text, mode in (
            ("hooks/50-note", _HOOK, 0o755),
            ("overlays/greeting/etc/motd", "from the overlay\n", 0o644),
            ("overlays/greeting/.in-the-root", "", 0o600),
            ("overlays/greeting/etc/udev/rules.d/60-late-names.rules", _LATE_NAMES, 0o644),
            ("overlays/greeting/etc/grub.d/60_look", LOOK, 0o755),
            ("networks/subnets/lab", f"NETMASK=255.255.255.0\nGATEWAY={GATEWAY}\n", 0o644),
            *(
                (f"networks/instances/{_fqdn(case)}", f"ADDRESS={ADDRESS}\nSUBNET=lab\n", 0o644)
                for case in REDEPLOYMENTS
            ),
        ):
            (etc / path).parent.mkdir(parents=True, exist_ok=True)
            (etc / path).write_text(text)
            (etc / path).chmod(mode)
        for hook in ("grub", "interfaces", "overlays", "ssh"):
            (etc / "hooks" / hook).chmod(0o755)

    @remembered  # noqa: B019 - for as long as the tests of one module
    def template(self, suite: str) -> Path:
        """The disk of an instance that snf-image has made, which nobody has started."""
        disk = self.scratch / f"{suite}.template"
        image = self.provider.images / f"{suite}.tar"
        if not image.exists():
            shutil.copyfile(guest_tarball(suite, self.cache), image)  # a link cannot lead into a lane
        parameters = {
            "img_id": image.name,
            "img_format": "tarball",
            "img_passwd": PASSWORD,
            "img_properties": {"FILESYSTEM": "ext4", "BOOT_SIZE": "300", "SWAP_SIZE": "64"},
        }
        self._deploy(self.provider, Instance(f"{suite}.example.com", (_empty(disk),), (_NIC,), parameters), {})
        return disk

    @remembered  # noqa: B019
    def capture(self, suite: str, kind: str) -> str:
        """Capture the template of that release, as an image of that kind with this name."""
        disk, name = self.template(suite), f"{suite}-{kind}"
        directory = self.provider.as_image().images
        command = [str(self.provider.root / "usr/sbin/snf-image-capture"), "--disk", str(disk), "-t", kind, "-n", name]
        done = subprocess.run(
            [*command, "-d", str(directory)], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return name

    def redeploy(self, case: Redeployment) -> Path:
        """The disk that `image` makes of the captured image."""
        name = self.capture(case.suite, case.kind)
        image = self.provider.as_image()
        image.configure(
            **{"IMAGE_NAME": name, "ARCH": _ARCH, "IMAGE_TYPE": case.kind, "OVERLAY": "greeting"},
            **{"KERNEL_ARGS": KERNEL_ARGS, **case.settings},
        )
        kernel = {"INSTANCE_HV_kernel_path": "/boot/vmlinuz-of-the-node"} if case.has_kernel else {}
        disk = self.scratch / case.name
        instance = Instance(_fqdn(case), (_empty(disk),), (_NIC,))
        self._deploy(image, instance, {**_CONSOLE, **kernel})
        return self._exchanged(image, instance) if case.is_exchanged else disk

    def _exchanged(self, image: Provider, instance: Instance) -> Path:
        """The disk that an import makes of what is exported; the former one is gone."""
        (disk,) = instance.disks
        stream, larger = disk.with_suffix(".stream"), disk.with_suffix(".imported")
        self._check(image.transfer(instance, "export", stream, **_CONSOLE)[0])
        disk.unlink()
        imported = replace(instance, disks=(_empty(larger, DISK_SIZE + _GROWTH),))
        self._check(image.transfer(imported, "import", stream, **_CONSOLE)[0])
        stream.unlink()
        return larger

    def machine(self, case: Redeployment) -> Machine:
        """Where it is booted: as Ganeti's KVM would start it."""
        kernel: tuple[str, ...] = ()
        if case.has_kernel:
            with tarfile.open(guest_tarball(case.suite, self.cache)) as archive:
                found = {
                    member.name.rpartition("/")[2].partition("-")[0]: member for member in archive if _boots(member)
                }
                for word, member in found.items():
                    member.name = f"{case.suite}-{word}"
                    archive.extract(member, self.scratch)
            line = f"root={case.root} ro console=ttyS0,115200"
            kernel = ("-kernel", str(self.scratch / f"{case.suite}-vmlinuz"), "-append", line)
            kernel += ("-initrd", str(self.scratch / f"{case.suite}-initrd.img"))
        return Machine(uefi=case.uefi, name=case.name, kernel=kernel)

    @classmethod
    def _deploy(cls, provider: Provider, instance: Instance, extra: Mapping[str, str]) -> None:
        cls._check(provider.run(instance, **extra))

    @staticmethod
    def _check(outcome: Outcome) -> None:
        assert outcome.code == 0, outcome.log


_NIC = {"MAC": DEFAULT_MAC, "MODE": "bridged"}


def _fqdn(case: Redeployment) -> str:
    return f"{case.name}.deep.in.example.com"


def _boots(member: tarfile.TarInfo) -> bool:
    return member.isreg() and member.name.startswith(("./boot/vmlinuz-", "./boot/initrd.img-"))


def _empty(disk: Path, size: int = DISK_SIZE) -> Path:
    with disk.open("wb") as file:
        file.truncate(size)
    return disk
