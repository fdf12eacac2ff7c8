# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers that lie in the image and are not installed: which of them fit the guest, and how Windows starts from them.

The driver of the disk that it starts from must be known before Plug and Play works. Sources: the folders of the ISO of
virtio-win; libguestfs' mlcustomize/inject_virtio_win.ml for the keys: CriticalDeviceDatabase up to 7, DriverDatabase
since.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.windows.facts import Facts
from snf_image_helper.windows.places import located
from snf_image_helper.windows.registry import Hive, control_set
from snf_image_shared.errors import GuestError

PROPERTY = "WINDOWS_DRIVERS"
# The two generations of each device, as PCI tells them.
BOOT_DRIVERS = {
    "viostor": ("VEN_1AF4&DEV_1001&REV_00", "VEN_1AF4&DEV_1042&REV_01"),
    "vioscsi": ("VEN_1AF4&DEV_1004&REV_00", "VEN_1AF4&DEV_1048&REV_01"),
}
_SCSI_CLASS = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
_CLASS_BYTES = bytes.fromhex("7be9364d25e3ce11bfc108002be10318")
_ARCHITECTURES = {"amd64": "amd64", "x86": "x86", "i386": "x86", "arm64": "arm64"}
_MACHINES = {"amd64": 0x8664, "x86": 0x014C, "arm64": 0xAA64}
_CLIENTS = {(5, 1): "xp", (6, 0): "2k8", (6, 1): "w7", (6, 2): "w8", (6, 3): "w8.1"}
_SERVERS = {(5, 2): "2k3", (6, 0): "2k8", (6, 1): "2k8r2", (6, 2): "2k12", (6, 3): "2k12r2"}
_NEW_SERVERS = ((26100, "2k25"), (20348, "2k22"), (17763, "2k19"), (0, "2k16"))
_RELEASES = frozenset({*_CLIENTS.values(), *_SERVERS.values(), "w10", "w11", *(name for _, name in _NEW_SERVERS)})
_DEEPEST, _MOST = 6, 2000
_LARGEST = 16 * 1024 * 1024  # bytes of a driver
_FIRST_WITH_DATABASE = (6, 2)


@dataclass(frozen=True)
class Drivers:
    """`folders` hold INF files that fit the guest; `boot` are the files of drivers to start from, by their names."""

    folders: tuple[str, ...]
    boot: dict[str, str]


def paths(text: str) -> tuple[str, ...]:
    r"""The folders of the property, as C:\Drivers;C:\More, as paths of the guest. Raises GuestError."""
    return tuple(_path(part.strip()) for part in text.split(";") if part.strip())


def windows_path(path: str) -> str:
    """A path of the guest as Windows writes it."""
    return "C:" + path.replace("/", "\\")


def find(guest: Guest, wanted: tuple[str, ...], facts: Facts) -> Drivers:
    """Raises GuestError for a folder that is not there, holds nothing for this Windows, or an unfit driver."""
    folders: list[str] = []
    boot: dict[str, str] = {}
    for path in wanted:
        place = located(guest, path)
        if not guest.is_dir(place):
            raise GuestError(
                f"property {PROPERTY}: the image has no folder {windows_path(path)}; put the drivers there"
            )
        fitting = [folder for folder, names in _walk(guest, place, facts) if any(map(_is_inf, names))]
        if not fitting:
            raise GuestError(
                f"property {PROPERTY}: {windows_path(place)} has no INF file for {facts.product} "
                f"({facts.architecture}); "
                "unpack the drivers there, in the folders of virtio-win's ISO or without any"
            )
        for folder in fitting:
            boot.update(_boot_drivers(guest, folder, facts))
        folders += fitting
    return Drivers(tuple(dict.fromkeys(folders)), boot)


def make_bootable(guest: Guest, hive: Hive, boot: dict[str, str], facts: Facts) -> None:
    """Put these drivers where Windows starts from them; `hive` is SYSTEM, open for changes. Those that it starts from
    already stay as they are."""
    current = control_set(hive)
    for name, path in boot.items():
        if hive.number(rf"{current}\Services\{name}", "Start") == 0:
            continue
        guest.write_bytes(
            located(guest, f"/Windows/System32/drivers/{name}.sys"), guest.read_bytes(path, limit=_LARGEST)
        )
        service = rf"{current}\Services\{name}"
        hive.set_dword(service, "Type", 1)
        hive.set_dword(service, "Start", 0)
        hive.set_string(service, "Group", "SCSI miniport")
        hive.set_dword(service, "ErrorControl", 1)
        hive.set_string(service, "ImagePath", rf"system32\drivers\{name}.sys", expand=True)
        for device in BOOT_DRIVERS[name]:
            if facts.version < _FIRST_WITH_DATABASE:
                key = rf"{current}\Control\CriticalDeviceDatabase\PCI#{device}"
                hive.set_string(key, "Service", name)
                hive.set_string(key, "ClassGUID", _SCSI_CLASS)
            else:
                _enter(hive, name, device, facts.architecture)


def _enter(hive: Hive, name: str, device: str, architecture: str) -> None:
    """A package that says nothing but which driver the device has; Plug and Play puts the real one in its place."""
    inf = f"snf_{name}.inf"
    package, configuration = f"{inf}_{architecture}_0000000000000000", f"snf_{name}"
    files, packages = rf"DriverDatabase\DriverInfFiles\{inf}", rf"DriverDatabase\DriverPackages\{package}"
    hive.set_strings(files, "", (package,))
    hive.set_string(files, "Active", package)
    hive.set_strings(files, "Configurations", (configuration,))
    hive.set_bytes(rf"DriverDatabase\DeviceIds\PCI\{device}", inf, b"\x01\xff\x00\x00")
    hive.set_bytes(packages, "Version", b"\x00\xff\x09\x00\x00\x00\x00\x00" + _CLASS_BYTES + bytes(24))
    hive.set_dword(rf"{packages}\Configurations\{configuration}", "ConfigFlags", 0)
    hive.set_string(rf"{packages}\Configurations\{configuration}", "Service", name)
    hive.set_string(rf"{packages}\Descriptors\PCI\{device}", "Configuration", configuration)


def _path(text: str) -> str:
    drive, colon, rest = text.partition(":")
    parts = rest.replace("/", "\\").strip("\\").split("\\")
    is_plain = text.isascii() and text.isprintable() and not set('"%<>|?*^&!') & set(text)
    if drive.upper() != "C" or not colon or not is_plain or {"", ".", ".."} & set(parts):
        raise GuestError(
            rf"property {PROPERTY}: {shown(text[:80])!r} is no folder of the image; write it like C:\Drivers\virtio"
        )
    return "/" + "/".join(parts)


def _walk(guest: Guest, top: str, facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The folders that may fit the guest, with the names in each; what is called after another Windows does not."""
    waiting = [(top, 0)]
    count = 0
    while waiting:
        folder, depth = waiting.pop(0)
        names = guest.list_directory(folder)
        count += len(names)
        if count > _MOST:
            raise GuestError(f"property {PROPERTY}: {windows_path(top)} holds more than {_MOST} files; name less")
        yield folder, names
        below = (name for name in names if _fits(name, facts) and guest.is_dir(f"{folder}/{name}"))
        waiting += [(f"{folder}/{name}", depth + 1) for name in below if depth < _DEEPEST]


def _fits(name: str, facts: Facts) -> bool:
    word = name.casefold()
    if word in _RELEASES:
        return word == _release(facts)
    return _ARCHITECTURES.get(word, facts.architecture) == facts.architecture


def _release(facts: Facts) -> str | None:
    if facts.version[0] >= 10:
        if facts.is_server:
            return next(name for build, name in _NEW_SERVERS if facts.build >= build)
        return "w11" if facts.build >= 22000 else "w10"
    return (_SERVERS if facts.is_server else _CLIENTS).get(facts.version)


def _is_inf(name: str) -> bool:
    return name.casefold().endswith(".inf")


def _boot_drivers(guest: Guest, folder: str, facts: Facts) -> Iterator[tuple[str, str]]:
    for name in guest.list_directory(folder):
        driver, dot, suffix = name.casefold().partition(".")
        if dot and suffix == "sys" and driver in BOOT_DRIVERS:
            path = f"{folder}/{name}"
            if _machine(guest.head(path, 4096)) != _MACHINES[facts.architecture]:
                raise GuestError(
                    f"{shown(path)}: is no driver for {facts.architecture}, so Windows would not start; take that of "
                    "its architecture"
                )
            yield driver, path


def _machine(head: bytes) -> int | None:
    """What a program's header says that it is for (Microsoft, "PE Format")."""
    if not head.startswith(b"MZ") or len(head) < 64:
        return None
    (start,) = struct.unpack_from("<I", head, 60)
    if head[start : start + 4] != b"PE\0\0" or len(head) < start + 6:
        return None
    return int(struct.unpack_from("<H", head, start + 4)[0])
