# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of export for `image`: the guest's file systems as dumps in a tar archive, made in the helper VM.

Nothing is staged: what the VM writes goes on to Ganeti. A disk of which dumps would not tell everything is exported
whole, as an image in the same archive, and so is every disk of data, and every one with NOMOUNT=yes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import Transfer
from snf_image_host.disks.remote_disks import RemoteSource
from snf_image_host.disks.storage import open_for_reading
from snf_image_host.ganeti import known_hypervisor
from snf_image_host.images.sources import Readable, Source
from snf_image_host.instance_image.environment import check_environment
from snf_image_host.instance_image.mapping import settings_for
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.progress import Progress
from snf_image_host.transfer import announce, check_open, descriptor, send_disk, write_all
from snf_image_host.vm.deadlines import SLOWEST
from snf_image_host.vm.floppy import config_floppy
from snf_image_host.vm.helper_vm import HelperVM, Payload
from snf_image_host.vm.jobs import job_without_image
from snf_image_host.vm.overlaid_disks import overlaid
from snf_image_host.vm.stream_port import Stream
from snf_image_shared import exchange
from snf_image_shared.errors import HelperError
from snf_image_shared.exchange import DISK_IMAGE, LENGTH_LINE, NO_DUMPS, Member
from snf_image_shared.job import JOB_FILE, Action, Archive

_PASSES = 2  # over the disk: a dump's length is told before it


def export_disk(env: Mapping[str, str], root: Path) -> None:
    """Ganeti's export: the disk it names to standard output. Raises SnfImageError; the stream is cut short then."""
    out_fd = descriptor(sys.stdout, "output")
    check_environment(env, "EXPORT_DEVICE" if not env.get("EXPORT_DISK_URI") else "EXPORT_DISK_URI")
    request = Transfer.from_environment(env, "EXPORT")
    check_open(request.size_fd)
    image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
    settings = settings_for(image, env, root)
    way_out = WayOut(out_fd, request.size_fd)
    with (
        Progress.start(env["INSTANCE_NAME"], None) as progress,
        open_for_reading(request.disk, settings) as disk,
    ):
        if request.index == 0 and not image.nomount:
            _export_dumps(disk, way_out, env, settings, progress)
        if way_out.length is None:
            export_whole(disk, way_out)


@dataclass
class WayOut:
    """Where the archive goes, and its length as soon as it is known; `passed` are the bytes that went there."""

    out_fd: int
    size_fd: int | None
    limit: int = 0
    length: int | None = None
    passed: int = 0
    has_dumps: bool = True
    _line: bytearray = field(default_factory=bytearray)

    def begin(self, length: int) -> None:
        """Tell Ganeti, before the first byte. Raises SnfImageError."""
        self.length = length
        announce(length, self.size_fd)

    def take(self, view: memoryview) -> None:
        """What the helper VM sends: a line with the length, then as many bytes. Raises HelperError, SnfImageError."""
        rest = self._take_line(view) if self.length is None and self.has_dumps else view
        if self.length is None or not rest:
            return
        self.passed += len(rest)
        if self.passed > self.length:
            raise HelperError(f"the helper VM sends more than the {self.length} bytes that it has announced")
        write_all(self.out_fd, rest)

    def check_whole(self) -> None:
        """Raise HelperError unless everything came, or the word that nothing will."""
        if self.has_dumps and self.passed != self.length:
            raise HelperError(f"the helper VM has sent {self.passed} bytes of the {self.length or 0} that were to come")

    def _take_line(self, view: memoryview) -> memoryview:
        before = len(self._line)
        self._line += view[: LENGTH_LINE + 1]
        line, newline, _ = bytes(self._line).partition(b"\n")
        if line + newline == NO_DUMPS:
            self.has_dumps = False
        elif newline and line.isdigit():
            if int(line) > self.limit:
                raise HelperError(f"the dumps of the disk would have {int(line)} bytes, far more than the disk itself")
            self.begin(int(line))
        elif newline or len(self._line) > LENGTH_LINE:
            raise HelperError("the helper VM does not say how long the export is")
        return view[len(line) + len(newline) - before :]


def export_whole(disk: Readable, way_out: WayOut) -> None:
    """The disk as an image in the archive. Raises DiskError, and SnfImageError if the reader goes away."""
    member = Member(DISK_IMAGE, disk.size, is_raw=True)
    way_out.begin(exchange.length([member]))
    write_all(way_out.out_fd, memoryview(exchange.header(member)))
    send_disk(disk, way_out.out_fd)
    write_all(way_out.out_fd, memoryview(bytes(member.padding + exchange.ending([member]))))


def _export_dumps(
    disk: Source | RemoteSource, way_out: WayOut, env: Mapping[str, str], settings: Settings, progress: Progress
) -> None:
    """Send what the helper makes of the guest, if it makes anything of it."""
    way_out.limit = 2 * disk.size + (1 << 20)
    job = job_without_image(Action.EXPORT, env["INSTANCE_NAME"], settings)
    files = {JOB_FILE: replace(job, archive=Archive.EXCHANGE).dump()}
    with (
        HelperVM.ready(settings) as helper_vm,
        config_floppy(files, helper_vm.config_device) as floppy,
        # A journal is replayed in memory; the storage's own programs read what they serve, and no more.
        overlaid(disk) if isinstance(disk, Source) else nullcontext(disk) as attached,
    ):
        stream = Stream(sink=way_out.take)
        patience = _PASSES * disk.size / SLOWEST
        payload = Payload((attached,), floppy, None, known_hypervisor(env), stream=stream, patience=patience)
        helper_vm.run(payload, progress)
        if stream.failures:
            raise stream.failures[0]
    way_out.check_whole()
