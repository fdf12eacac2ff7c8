# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a capture: disks -> what is on them -> new files -> names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress
from snf_image_host.tools.compressors import Compression, Writer
from snf_image_host.tools.disk_images import write_qcow2, write_raw, write_raw_compressed
from snf_image_host.tools.facts import Facts, read_captured, used_bytes
from snf_image_host.tools.looking import Looking
from snf_image_host.tools.new_images import ImageDirectory, NewImage, check_room, image_directory
from snf_image_host.tools.subject import check_idle, idle_disk
from snf_image_host.vm.helper_vm import HelperVM
from snf_image_host.vm.overlaid_disks import overlaid
from snf_image_host.vm.stream_port import Stream
from snf_image_shared.captured import Captured
from snf_image_shared.errors import HelperError, RequestError
from snf_image_shared.findings import Findings
from snf_image_shared.job import Action, Archive

_BEST_RATIO = 6  # how much smaller a compressed guest is at most, for the room that it surely takes
_TOLD = 64 << 20  # bytes between two words on a terminal
_SUSPENDED = "swsuspend"  # a swap area with a system's memory in it


class Kind(StrEnum):
    """The values of --type."""

    TARBALL = "tarball"
    DUMP = "dump"
    QCOW2 = "qcow2"
    RAW = "raw"

    @property
    def is_disk(self) -> bool:
        """Whether the image is a disk, not the guest on it."""
        return self in {Kind.QCOW2, Kind.RAW}

    @property
    def img_format(self) -> str:
        """How img_format calls it."""
        return "diskdump" if self is Kind.RAW else str(self)

    def compression(self, wanted: Compression | None) -> Compression:
        """How it is compressed if that is `wanted`. Raises RequestError."""
        if wanted is None:
            return Compression.GZ if self in {Kind.TARBALL, Kind.QCOW2} else Compression.NONE
        known = {Kind.DUMP: (Compression.GZ, Compression.NONE), Kind.QCOW2: tuple(set(Compression) - {Compression.XZ})}
        if wanted not in known.get(self, tuple(Compression)):
            raise RequestError(f"--compress {wanted} is nothing that a {self} has; give another, or -t tarball")
        return wanted


def _nothing() -> None:
    """For disks that belong to no instance."""


@dataclass(frozen=True)
class Capture:
    """What is asked for. `stem` is NAME-ARCH. `check` raises RequestError if the disks were in use meanwhile."""

    kind: Kind
    stem: str
    directory: Path
    compression: Compression
    kernel_path: str = ""
    check: Callable[[], None] = _nothing

    def of(self, kernel_path: str, check: Callable[[], None]) -> Capture:
        """The same for an instance."""
        return replace(self, kernel_path=kernel_path, check=check)

    def names(self, disks: int) -> list[str]:
        """Of all files that it may make."""
        match self.kind:
            case Kind.TARBALL:
                return [f"{self.stem}.tar{self.compression.extension}"]
            case Kind.DUMP:
                return [f"{self.stem}-root.dump", f"{self.stem}-boot.dump"]
            case _:
                end = f".{self.kind}{self.compression.extension if self.kind is Kind.RAW else ''}"
                return [f"{self.stem}{end}", *(f"{self.stem}-disk{number}{end}" for number in range(1, disks))]


def capture(asked: Capture, paths: Sequence[Path], settings: Settings, progress: Progress) -> list[str]:
    """The paths of the images that were made. Raises SnfImageError; there is no file then."""
    if len(paths) > 1 and not asked.kind.is_disk:
        raise RequestError(f"a {asked.kind} is made of the first disk alone; give one, or -t qcow2")
    with ExitStack() as stack:
        directory = stack.enter_context(image_directory(asked.directory))
        directory.refuse_existing(asked.names(len(paths)))
        disks = [stack.enter_context(idle_disk(path)) for path in paths]
        helper_vm = stack.enter_context(HelperVM.ready(settings))
        work = _Work(asked, directory, Looking(helper_vm, settings, progress), stack)
        findings = work.find(disks[0])
        check_room(directory, work.least_room(findings))
        captured = None
        if asked.kind.is_disk:
            images = work.disk_images(disks)
        else:
            images, captured = work.archives(disks[0])
        for image in images:
            image.complete()
        for disk in disks:
            check_idle(disk)  # somebody may have started the instance meanwhile
        asked.check()
        facts = Facts(asked.kind, asked.kind.img_format, asked.compression, asked.kernel_path, findings, captured)
        directory.publish(images, facts.document(images))
        return [str(asked.directory / image.name) for image in images]


@dataclass(frozen=True)
class _Work:
    """One capture. `stack` holds its files until they have their names."""

    asked: Capture
    directory: ImageDirectory
    looking: Looking
    stack: ExitStack

    def find(self, disk: Source) -> Findings | None:
        """What is on the disk; None if an image of a disk can be made all the same."""
        try:
            findings = self.looking.find(disk)
        except HelperError as error:
            if not self.asked.kind.is_disk:
                raise
            self.looking.progress.warning(f"nothing is known of what is on the disk: {error}")
            return None
        partitions = findings.table.partitions if findings.table else ()
        if self.asked.kind.is_disk and any(each.content.type == _SUSPENDED for each in partitions):
            self.looking.progress.warning("the guest is suspended to its disk: each copy of it will wake up as it")
        return findings

    def least_room(self, findings: Findings | None) -> int:
        """Bytes that the image surely takes."""
        used = used_bytes(findings)
        return used if self.asked.compression is Compression.NONE else used // _BEST_RATIO

    def disk_images(self, disks: Sequence[Source]) -> list[NewImage]:
        """An image of each disk."""
        images = []
        for disk, name in zip(disks, self.asked.names(len(disks)), strict=True):
            image = self._new(name)
            told = _Told(name)
            if self.asked.kind is Kind.QCOW2:
                write_qcow2(disk, image, self.asked.compression)
            elif self.asked.compression is Compression.NONE:
                write_raw(disk, image, told)
            else:
                write_raw_compressed(disk, Writer(image, self.asked.compression, told))
            told.end()
            images.append(image)
        return images

    def archives(self, disk: Source) -> tuple[list[NewImage], Captured]:
        """An archive of the guest, or a dump of its root, and of /boot where that is a file system of its own."""
        root, *boot = self.asked.names(1)
        if self.asked.kind is Kind.TARBALL:
            image, captured = self._archive(disk, Archive.TARBALL, root)
            return [image], captured
        image, captured = self._archive(disk, Archive.ROOT_DUMP, root)
        if captured.at("/boot") is None:
            return [image], captured
        return [image, self._archive(disk, Archive.BOOT_DUMP, boot[0])[0]], captured

    def _archive(self, disk: Source, archive: Archive, name: str) -> tuple[NewImage, Captured]:
        image = self._new(name)
        is_tarball = archive is Archive.TARBALL
        told = _Told(name)
        writer = Writer(image, self.asked.compression if is_tarball else Compression.NONE, told)
        compressed = self.asked.compression is Compression.GZ
        job = replace(self.looking.job(Action.EXPORT), archive=archive, compressed=compressed)
        with overlaid(disk) as drive:
            said = self.looking.run(job, (drive,), Stream(sink=writer.write))
        writer.finish()
        told.end()
        disk.check_unchanged()
        if not writer.taken:
            raise HelperError(f"the helper VM has sent nothing of {name}; run it again with -v to see its console")
        return image, read_captured(said)

    def _new(self, name: str) -> NewImage:
        return self.stack.enter_context(self.directory.new(name))


class _Told:
    """A line on the operator's terminal that tells how far it is; nothing for anybody else."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = 0
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        if self._is_terminal and done - self._said >= _TOLD:
            self._said = done
            sys.stderr.write(f"\r{self._name}: {done >> 20} MiB")
            sys.stderr.flush()

    def end(self) -> None:
        """The line is over."""
        if self._said:
            sys.stderr.write("\n")
