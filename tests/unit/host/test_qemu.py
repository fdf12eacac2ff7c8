# SPDX-License-Identifier: GPL-2.0-or-later
"""The argument list for the helper VM: word by word, and before the real QEMU in its real jail."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from snf_image_host.configuration.setting_types import Accelerator, ConfigDevice
from snf_image_host.disks.instance_disks import MAX_DISKS
from snf_image_host.vm.drives import Drive, RemoteDrive
from snf_image_host.vm.jail import Jail
from snf_image_host.vm.qemu import INITRD, KERNEL, PORTS, Machine, arguments
from snf_image_shared.manifest import KERNEL_ARGUMENTS

MACHINE = Machine(
    program=("qemu-system-x86_64",),
    accelerator=Accelerator.TCG,
    memory=512,
    image=Drive(10),
    disks=(Drive(11, is_block=True, writable=True, direct=True),),
    config=Drive(12),
    config_device=ConfigDevice.FLOPPY,
    ports=(13, 14, 15),
    monitor=16,
    hypervisor="kvm",
)


def raw(name: str, fdset: int, driver: str, *, direct: bool = False, writable: bool = False) -> str:
    read_only, locking = ("false", "auto") if writable else ("true", "off")
    return (
        f'{{"driver":"raw","node-name":"{name}","read-only":{read_only},"file":{{"driver":"{driver}",'
        f'"filename":"/dev/fdset/{fdset}","cache":{{"direct":{str(direct).lower()},"no-flush":false}},'
        f'"locking":"{locking}"}}}}'
    )


def virtio_blk(name: str, serial: str) -> str:
    return f"virtio-blk-pci,drive={name},serial={serial},request-merging=off,werror=report"


@pytest.mark.row(91)
def test_the_whole_list_with_a_floppy() -> None:
    kernel = " ".join((*KERNEL_ARGUMENTS, "snf_image_activate_helper", "snf_image_config=floppy", "hypervisor=kvm"))
    assert arguments(MACHINE) == [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "pc,usb=off,vmport=off"),
        *("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-cx16"),
        *("-smp", "1", "-m", "512", "-nic", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-kernel", "/helper/kernel", "-initrd", "/helper/initrd", "-append", kernel),
        *("-add-fd", "fd=10,set=1", "-blockdev", raw("image", 1, "file")),
        *("-device", virtio_blk("image", "snf-helper")),
        *("-add-fd", "fd=11,set=2", "-blockdev", raw("disk0", 2, "host_device", direct=True, writable=True)),
        *("-device", virtio_blk("disk0", "snf-disk-0")),
        *("-add-fd", "fd=12,set=3", "-blockdev", raw("config", 3, "file")),
        *("-device", "floppy,drive=config,drive-type=144"),
        *("-chardev", "socket,id=console,fd=13", "-device", "isa-serial,chardev=console,index=0"),
        *("-chardev", "socket,id=result,fd=14", "-device", "isa-serial,chardev=result,index=1"),
        *("-chardev", "socket,id=report,fd=15", "-device", "isa-serial,chardev=report,index=2"),
        *("-chardev", "socket,id=monitor,fd=16", "-mon", "chardev=monitor,mode=control"),
    ]


def test_a_config_disk_differs_in_its_device_and_in_what_the_helper_is_told() -> None:
    floppy, disk = arguments(MACHINE), arguments(replace(MACHINE, config_device=ConfigDevice.DISK))
    changed = [(one, other) for one, other in zip(floppy, disk, strict=True) if one != other]
    assert changed == [
        (changed[0][0], changed[0][0].replace("snf_image_config=floppy", "snf_image_config=disk")),
        ("floppy,drive=config,drive-type=144", virtio_blk("config", "snf-config")),
    ]


def test_kvm_differs_in_its_processor_alone() -> None:
    words = arguments(replace(MACHINE, accelerator=Accelerator.KVM))
    assert words[words.index("-accel") : words.index("-smp")] == ["-accel", "kvm", "-cpu", "host"]


def test_options_of_the_administrators_program_stay_in_front() -> None:
    assert arguments(replace(MACHINE, program=("kvm", "-name", "x")))[:4] == ["kvm", "-name", "x", "-nodefaults"]


def test_the_debug_port_is_there_when_it_is_given() -> None:
    words = arguments(replace(MACHINE, ports=(13, 14, 15, 17)))
    assert "isa-serial,chardev=debug,index=3" in words
    assert "isa-serial,chardev=debug,index=3" not in arguments(MACHINE)


def many(count: int) -> Machine:
    return replace(MACHINE, disks=tuple(Drive(100 + index, writable=True) for index in range(count)))


@pytest.mark.parametrize("count", [1, 7, 13, MAX_DISKS])
def test_every_disk_has_a_name_a_set_and_a_serial_number_of_its_own(count: int) -> None:
    words = arguments(many(count))
    nodes = [json.loads(word) for previous, word in pairwise(words) if previous == "-blockdev"]
    assert [node["node-name"] for node in nodes] == ["image", *(f"disk{index}" for index in range(count)), "config"]
    assert [node["file"]["filename"] for node in nodes] == [f"/dev/fdset/{number}" for number in range(1, count + 3)]
    assert {node["driver"] for node in nodes} == {"raw"}
    assert [virtio_blk(f"disk{index}", f"snf-disk-{index}") in words for index in range(count)] == [True] * count


@pytest.mark.row(97)
def test_a_disk_behind_a_socket_is_named_and_none_of_its_descriptors_passed() -> None:
    machine = replace(MACHINE, disks=(RemoteDrive(Path("/run/a,b/socket"), writable=True), RemoteDrive(Path("/c"))))
    words = arguments(machine)
    nodes = [json.loads(word) for word in words if word.startswith("{") and '"nbd"' in word]
    assert [node["file"] for node in nodes] == [
        {"driver": "nbd", "server": {"type": "unix", "path": path}, "export": "disk"}
        for path in ("/run/a,b/socket", "/c")
    ]
    assert [node["read-only"] for node in nodes] == [False, True]
    assert machine.sockets == (Path("/run/a,b/socket"), Path("/c"))
    assert 11 not in machine.descriptors


def test_only_the_instances_disks_can_be_written() -> None:
    words = arguments(many(3))
    nodes = [json.loads(word) for word in words if word.startswith("{")]
    assert {node["node-name"] for node in nodes if not node["read-only"]} == {"disk0", "disk1", "disk2"}


def test_no_word_is_the_name_of_anything_on_the_node() -> None:
    assert set(re.findall(r"/[^\s\",}]+", " ".join(arguments(many(13))))) <= {
        *(KERNEL, INITRD),
        *(f"/dev/fdset/{number}" for number in range(1, 20)),
    }


def test_every_descriptor_in_the_list_is_one_to_inherit() -> None:
    machine = replace(many(13), ports=(13, 14, 15, 17))
    assert {int(number) for number in re.findall(r"fd=(\d+)", " ".join(arguments(machine)))} == set(machine.descriptors)


def boot_image() -> bytes:
    """As much of a Linux kernel as QEMU looks at before it starts one (Documentation/arch/x86/boot.rst)."""
    image = bytearray(64 << 10)
    image[0x1F1] = 4
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x020C)
    image[0x211] = 1
    image[0x22C:0x230] = struct.pack("<I", 0x7FFFFFFF)
    return bytes(image)


def ask(lines: socket.SocketIO, command: str) -> object:
    """One QMP command and its answer, past the events."""
    lines.write(json.dumps({"execute": command}).encode() + b"\n")
    buffered = bytearray()
    while True:
        while not buffered.endswith(b"\n"):
            byte = lines.read(1)
            assert byte, "QEMU is gone"
            buffered += byte
        answer = json.loads(buffered)
        buffered.clear()
        assert "error" not in answer, answer
        if "return" in answer:
            return answer["return"]


@pytest.mark.root
@pytest.mark.parametrize("config_device", [ConfigDevice.FLOPPY, ConfigDevice.DISK])
@pytest.mark.parametrize("count", [1, 13, MAX_DISKS])
def test_the_real_qemu_takes_it_in_its_jail(tmp_path: Path, config_device: ConfigDevice, count: int) -> None:
    with ExitStack() as stack:

        def opened(name: str, flags: int, content: bytes = bytes(1474560)) -> int:
            (tmp_path / name).write_bytes(content)
            fd = os.open(tmp_path / name, flags)
            stack.callback(os.close, fd)
            return fd

        pairs = [socket.socketpair() for _ in range(1 + len(PORTS))]
        for pair in pairs:
            stack.enter_context(pair[0])
            stack.enter_context(pair[1])
        machine = replace(
            MACHINE,
            memory=128,
            image=Drive(opened("image", os.O_RDONLY)),
            disks=tuple(Drive(opened(f"a,b {index}", os.O_RDWR), writable=True) for index in range(count)),
            config=Drive(opened("config", os.O_RDONLY)),
            config_device=config_device,
            ports=tuple(theirs.fileno() for _, theirs in pairs[1:]),
            monitor=pairs[0][1].fileno(),
        )
        kernel, initrd = opened("kernel", os.O_RDONLY, boot_image()), opened("initrd", os.O_RDONLY, b"initrd")
        jail = Jail(files={KERNEL: kernel, INITRD: initrd})
        process = subprocess.Popen(
            jail.argv([*arguments(machine), "-S"]),
            pass_fds=machine.descriptors + jail.descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stack.callback(process.kill)
        for _, theirs in pairs:
            theirs.close()
        pairs[0][0].settimeout(60)
        lines = socket.SocketIO(pairs[0][0], "rw")
        try:
            assert ask(lines, "qmp_capabilities") == {}
        except (AssertionError, OSError):
            pytest.fail(process.communicate()[0])
        blocks = ask(lines, "query-block")
        assert isinstance(blocks, list)
        ask(lines, "quit")
        said, _ = process.communicate(timeout=60)
    inserted = {block["inserted"]["node-name"]: block["inserted"]["ro"] for block in blocks}
    assert inserted == {"image": True, "config": True} | {f"disk{index}": False for index in range(count)}
    assert (process.returncode, said) == (0, "")
