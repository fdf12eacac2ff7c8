# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks as Windows' installers lay them out, phony: real tables and real NTFS, and on C: what the caller has.

None of them boots: the boot files are one line each, so that a test can see whether they are still there. NTFS is
filled by ntfs-3g in a name space of its own, whose processes are waited for: nothing stays mounted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from images.bootstrap import CONFINED
from images.file_systems import copy_into
from images.partitions import MIB, SECTOR, SECTORS_PER_MIB
from snf_image_shared.process import Limits, run

# $1 the file system, $2 where to mount it, $3 the directory to copy into it. In the foreground, and waited for: the
# end of the name space would kill a driver that has not written everything yet.
_FILL = """
lowntfs-3g -o no_detach,windows_names "$1" "$2" & driver=$!
until mountpoint -q "$2"; do kill -0 $driver; sleep 0.05; done
cp -r --preserve=timestamps "$3/." "$2"
umount "$2"
wait $driver
"""
_LIMITS = Limits(timeout=300)


class Role(StrEnum):
    """What a partition is for; the values are labels that Windows' own tools give."""

    SYSTEM_RESERVED = "System Reserved"
    EFI_SYSTEM = "SYSTEM"
    MICROSOFT_RESERVED = "MSR"
    WINDOWS = "Windows"
    RECOVERY = "Recovery"


_MBR_TYPES = {Role.SYSTEM_RESERVED: "7", Role.WINDOWS: "7", Role.RECOVERY: "27"}
_GPT_TYPES = {
    Role.EFI_SYSTEM: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    Role.MICROSOFT_RESERVED: "E3C9E316-0B5C-4DB8-817D-F92DF00215AE",
    Role.WINDOWS: "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
    Role.RECOVERY: "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC",
}
# Microsoft, "UEFI/GPT-based hard drive partitions": no letter, and not to be removed.
_RECOVERY_ATTRIBUTES = "RequiredPartition,GUID:63"
_FILES = {
    Role.SYSTEM_RESERVED: {"bootmgr": "phony boot manager\n", "Boot/BCD": "phony store\n"},
    Role.EFI_SYSTEM: {
        "EFI/Boot/bootx64.efi": "phony boot manager\n",
        "EFI/Microsoft/Boot/bootmgfw.efi": "phony boot manager\n",
        "EFI/Microsoft/Boot/BCD": "phony store\n",
    },
    Role.RECOVERY: {"Recovery/WindowsRE/Winre.wim": "phony recovery environment\n"},
}


@dataclass(frozen=True)
class Piece:
    """A partition: where it begins, in sectors, and how long it is, in MiB."""

    role: Role
    start: int
    mib: int


@dataclass(frozen=True)
class WindowsDisk:
    """Partitions, numbered from 1 as they stand; on GPT if there is an EFI system partition among them."""

    pieces: tuple[Piece, ...]

    @property
    def is_gpt(self) -> bool:
        return any(piece.role is Role.EFI_SYSTEM for piece in self.pieces)

    def number(self, role: Role) -> int:
        """Raises ValueError when it has none of that role."""
        return [piece.role for piece in self.pieces].index(role) + 1

    @property
    def size(self) -> int:
        """Bytes: a MiB stays free behind the last partition."""
        last = self.pieces[-1]
        return last.start * SECTOR + (last.mib + 1) * MIB

    def script(self) -> str:
        """What sfdisk(8) makes the table from."""
        lines = [f"label: {'gpt' if self.is_gpt else 'dos'}", "unit: sectors"]
        lines.append(f"label-id: {'6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1303' if self.is_gpt else '0x5eed0003'}")
        active = next((piece for piece in self.pieces if piece.role is Role.SYSTEM_RESERVED), self.pieces[0])
        for number, piece in enumerate(self.pieces, 1):
            line = f"{number} : start={piece.start}, size={piece.mib * SECTORS_PER_MIB}"
            if self.is_gpt:
                line += f", type={_GPT_TYPES[piece.role]}, uuid=0F0E0D0C-0B0A-4908-8706-05040302{number:04d}"
                line += ', name="Basic data partition"' if piece.role in {Role.WINDOWS, Role.RECOVERY} else ""
                line += f', attrs="{_RECOVERY_ATTRIBUTES}"' if piece.role is Role.RECOVERY else ""
            else:
                line += f", type={_MBR_TYPES[piece.role]}" + (", bootable" if piece is active else "")
            lines.append(line)
        return "\n".join(lines) + "\n"


def _laid_out(*pieces: tuple[Role, int], start: int = SECTORS_PER_MIB) -> WindowsDisk:
    """One behind the other; each is its role and its length in MiB."""
    placed = []
    for role, mib in pieces:
        placed.append(Piece(role, start, mib))
        start += mib * SECTORS_PER_MIB
    return WindowsDisk(tuple(placed))


# Where XP and 2003 begin: behind the first track of 63 sectors. Vista and later align to a MiB.
_FIRST_TRACK = 63
_C_MIB = 64
_GPT = ((Role.EFI_SYSTEM, 100), (Role.MICROSOFT_RESERVED, 16), (Role.WINDOWS, _C_MIB))
_MBR = ((Role.SYSTEM_RESERVED, 100), (Role.WINDOWS, _C_MIB))

DISKS = {
    "phony-windows-mbr-one": _laid_out((Role.WINDOWS, _C_MIB), start=_FIRST_TRACK),
    "phony-windows-mbr": _laid_out(*_MBR),
    "phony-windows-mbr-recovery-last": _laid_out(*_MBR, (Role.RECOVERY, 32)),
    "phony-windows-gpt": _laid_out(*_GPT),
    "phony-windows-gpt-recovery-last": _laid_out(*_GPT, (Role.RECOVERY, 32)),
    "phony-windows-gpt-recovery-first": _laid_out((Role.RECOVERY, 32), *_GPT),
}


def make_windows_disk(disk: Path, name: str, tree: Path) -> WindowsDisk:
    """Make `disk` a new sparse file of that layout, with what lies in the directory `tree` on its C:."""
    layout = DISKS[name]
    with disk.open("xb") as file:
        file.truncate(layout.size)
    run(["sfdisk", "--quiet", str(disk)], stdin=layout.script().encode())
    with TemporaryDirectory(dir=disk.parent) as scratch:
        for piece in layout.pieces:
            if piece.role is not Role.MICROSOFT_RESERVED:
                source = tree if piece.role is Role.WINDOWS else _own_files(Path(scratch), piece.role)
                file_system = Path(scratch, "file-system")
                _make(file_system, piece, source)
                copy_into(file_system, disk, piece.start * SECTOR)
                file_system.unlink()
    return layout


def make_ntfs(file: Path, mib: int, tree: Path, *, start: int = SECTORS_PER_MIB, label: str = "") -> None:
    """Make `file` an NTFS that holds what lies in `tree`; `start` is where its partition will begin, in sectors."""
    with file.open("xb") as empty:
        empty.truncate(mib * MIB)
    run(["mkntfs", "-Q", "-q", "-F", "-p", str(start), "-H", "255", "-S", "63", "-s", "512", "-L", label, str(file)])
    with TemporaryDirectory(dir=file.parent) as mount:
        run([*CONFINED, "sh", "-ec", _FILL, "fill", str(file), mount, str(tree)], limits=_LIMITS)


def _own_files(scratch: Path, role: Role) -> Path:
    directory = scratch / role.name
    for name, text in _FILES[role].items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def _make(file: Path, piece: Piece, source: Path) -> None:
    if piece.role is not Role.EFI_SYSTEM:
        make_ntfs(file, piece.mib, source, start=piece.start, label="" if piece.role is Role.WINDOWS else piece.role)
        return
    with file.open("xb") as empty:
        empty.truncate(piece.mib * MIB)
    run(["mkfs.vfat", "-F", "32", "-s", "1", "-n", piece.role, str(file)])
    for entry in sorted(source.iterdir()):
        run(["mcopy", "-s", "-i", str(file), str(entry), "::/"])
