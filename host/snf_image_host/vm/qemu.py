# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's argument list for the helper VM. Pure: descriptors in, words out. Every format is named, no path is pasted.

Works from QEMU 7.2 (Debian 12) to 10 (Debian 13).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.configuration.setting_types import Accelerator, ConfigDevice
from snf_image_host.vm.drives import Drive, RemoteDrive
from snf_image_shared.manifest import KERNEL_ARGUMENTS
from snf_image_shared.report import STREAM_PORT

KERNEL, INITRD = "/helper/kernel", "/helper/initrd"
PORTS = ("console", "result", "report", "debug")
CONFIG_SERIAL = "snf-config"
_OVERLAYS = 100  # what is added to the number of a disk's set of descriptors for its overlay's
NBD_EXPORT = "disk"  # the name under which our NBD servers offer their only disk


@dataclass(frozen=True)
class Machine:
    """All that the argument list depends on. `ports` are the descriptors of PORTS in order; `memory` in MiB.

    `inputs` are files that the helper reads as disks; `stream` is a socket for bytes in either direction.
    """

    program: tuple[str, ...]
    accelerator: Accelerator
    memory: int
    image: Drive
    disks: tuple[Drive | RemoteDrive, ...]
    config: Drive
    config_device: ConfigDevice
    ports: tuple[int, ...]
    monitor: int
    hypervisor: str
    inputs: tuple[Drive, ...] = ()
    stream: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Everything QEMU has to inherit."""
        disks = [fd for disk in self.disks if isinstance(disk, Drive) for fd in disk.descriptors]
        stream = () if self.stream is None else (self.stream,)
        inputs = [each.fd for each in self.inputs]
        return (self.image.fd, *disks, self.config.fd, *inputs, *self.ports, self.monitor, *stream)

    @property
    def sockets(self) -> tuple[Path, ...]:
        """Everything QEMU has to see by its name."""
        return tuple(disk.socket for disk in self.disks if isinstance(disk, RemoteDrive))


def disk_serial(index: int) -> str:
    """The virtio serial number by which the helper finds the instance's disk `index`."""
    return f"snf-disk-{index}"


def input_serial(index: int) -> str:
    """The virtio serial number by which the helper finds the input `index`."""
    return f"snf-input-{index}"


def arguments(machine: Machine) -> list[str]:
    """The complete argument list, program first."""
    floppy = machine.config_device is ConfigDevice.FLOPPY
    words = [*machine.program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", "pc,usb=off,vmport=off", *_accelerator(machine.accelerator)]
    words += ["-smp", "1", "-m", str(machine.memory), "-nic", "none"]
    words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    words += ["-kernel", KERNEL, "-initrd", INITRD, "-append", " ".join(_command_line(machine))]
    words += _virtio("image", 1, machine.image, "snf-helper")
    for index, disk in enumerate(machine.disks):
        words += _virtio(f"disk{index}", 2 + index, disk, disk_serial(index))
    config_set = 2 + len(machine.disks)
    if floppy:
        words += [*_node("config", config_set, machine.config), "-device", "floppy,drive=config,drive-type=144"]
    else:
        words += _virtio("config", config_set, machine.config, CONFIG_SERIAL)
    for index, each in enumerate(machine.inputs):
        words += _virtio(f"input{index}", config_set + 1 + index, each, input_serial(index))
    for index, (name, fd) in enumerate(zip(PORTS, machine.ports, strict=False)):
        words += ["-chardev", f"socket,id={name},fd={fd}", "-device", f"isa-serial,chardev={name},index={index}"]
    words += ["-chardev", f"socket,id=monitor,fd={machine.monitor}", "-mon", "chardev=monitor,mode=control"]
    if machine.stream is not None:
        words += ["-chardev", f"socket,id=stream,fd={machine.stream}", "-device", "virtio-serial-pci"]
        words += ["-device", f"virtserialport,chardev=stream,name={STREAM_PORT}"]
    return words


def _accelerator(accelerator: Accelerator) -> list[str]:
    if accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    # Without cmpxchg16b: QEMU 7.2 leaves rubbish in EFLAGS behind it, and an interrupt just then kills Linux 6.12.
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-cx16"]


def _command_line(machine: Machine) -> list[str]:
    config = f"snf_image_config={'floppy' if machine.config_device is ConfigDevice.FLOPPY else 'disk'}"
    return [*KERNEL_ARGUMENTS, "snf_image_activate_helper", config, f"hypervisor={machine.hypervisor}"]


def _virtio(name: str, fdset: int, drive: Drive | RemoteDrive, serial: str) -> list[str]:
    # QEMU before 8.1 fails merged requests that have more parts than writev(2) takes once they are aligned for O_DIRECT
    # on a file. A full disk is an error like any other; QEMU would stop the VM and wait.
    device = f"virtio-blk-pci,drive={name},serial={serial},request-merging=off"
    return [*_node(name, fdset, drive), "-device", f"{device},werror=report"]


def _node(name: str, fdset: int, drive: Drive | RemoteDrive) -> list[str]:
    """A raw block node. Of descriptors only the instance's disks are locked: nothing else can be shared."""
    if isinstance(drive, RemoteDrive):
        server = {"type": "unix", "path": str(drive.socket)}
        return _blockdev(name, {"driver": "nbd", "server": server, "export": NBD_EXPORT}, writable=drive.writable)
    file = {
        "driver": "host_device" if drive.is_block else "file",
        "filename": f"/dev/fdset/{fdset}",
        "cache": {"direct": drive.direct, "no-flush": False},
        "locking": "auto" if drive.writable else "off",
    }
    words = ["-add-fd", f"fd={drive.fd},set={fdset}"]
    if drive.overlay is None:
        return [*words, *_blockdev(name, file, writable=drive.writable)]
    below = f"{name}-below"
    number = _OVERLAYS + fdset
    words += [*_blockdev(below, file, writable=False), "-add-fd", f"fd={drive.overlay},set={number}"]
    return [*words, "-blockdev", json.dumps(_overlay(name, below, number), separators=(",", ":"))]


def _overlay(name: str, below: str, fdset: int) -> Mapping[str, object]:
    """A node in memory: nobody needs it after the run, so nothing is ever flushed."""
    cache = {"direct": False, "no-flush": True}
    file = {"driver": "file", "filename": f"/dev/fdset/{fdset}", "cache": cache, "locking": "off"}
    return {"driver": "qcow2", "node-name": name, "read-only": False, "file": file, "backing": below}


def _blockdev(name: str, file: Mapping[str, object], *, writable: bool) -> list[str]:
    node = {"driver": "raw", "node-name": name, "read-only": not writable, "file": file}
    return ["-blockdev", json.dumps(node, separators=(",", ":"))]
