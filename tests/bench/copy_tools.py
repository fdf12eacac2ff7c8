# SPDX-License-Identifier: GPL-2.0-or-later
"""Who takes part in the copy's benchmark: ours, and its peers as the commands that an administrator would type."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.sampling import Sampler
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import check_fits, copy
from snf_image_host.disks.targets import open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress

DIRECT = "iflag=fullblock oflag=direct conv=notrunc,fsync status=none"
QEMU_IMG = "qemu-img convert -n -t none -T none -W -m 8 -O raw -f"
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # a peer on a host with THP "madvise", as if it were "always"


@dataclass(frozen=True)
class Usage:
    """What a run took: seconds, seconds of processors, and the most MiB of memory that its processes had."""

    seconds: float
    processors: float
    memory: float


class Tool(Protocol):
    """Copies one image onto a disk. `is_safe`: what the image has as zeros is zeros on the disk."""

    @property
    def is_safe(self) -> bool: ...

    def start(self, image: Path, disk: Path) -> int:
        """The process id of the run."""


@dataclass(frozen=True)
class Command:
    """A line for bash with $image, $disk and $url."""

    line: str
    env: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    is_safe: bool = True

    def start(self, image: Path, disk: Path) -> int:
        """As Tool says."""
        env = {"PATH": os.environ["PATH"], "image": str(image), "disk": str(disk), "url": self.url, **self.env}
        return subprocess.Popen(["bash", "-euo", "pipefail", "-c", self.line], env=env).pid


@dataclass(frozen=True)
class Ours:
    """Forked, from opening the image to the last flush: `create` is a running interpreter as well."""

    img_format: str = "diskdump"
    url: str = ""
    checksum: Checksum | None = None
    is_safe: bool = True

    def start(self, image: Path, disk: Path) -> int:
        """As Tool says."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._run(image, disk)
                status = 0
            finally:
                os._exit(status)
        return pid

    def _run(self, image: Path, disk: Path) -> None:
        settings = Settings(image_dir=image.parent, run_dir=image.parent / "run", image_allow="127.0.0.1")
        wanted = WantedImage(self.url or image.name, self.img_format, (self.checksum,) if self.checksum else ())
        with (
            Path(os.devnull).open("w") as log,
            Progress.start("bench", "", log=log) as progress,
            open_image(wanted, settings, progress) as opened,
            open_target(disk) as target,
        ):
            assert opened
            check_fits(opened, target)
            copy(opened, target, progress)


def run(tool: Tool, images: list[Path], disks: list[Path]) -> Usage:
    """All of them at once, to the end. Raises SystemExit if one fails."""
    start = time.perf_counter()
    pids = [tool.start(image, disk) for image, disk in zip(images, disks, strict=True)]
    with Sampler(pids) as sampler:
        if any(os.waitpid(pid, 0)[1] for pid in pids):
            raise SystemExit(f"{tool} failed")
        seconds = time.perf_counter() - start
    return Usage(seconds, sampler.processors, sampler.memory)


def sha256(image: Path) -> Checksum:
    """The checksum of a file."""
    with image.open("rb") as file:
        return Checksum("sha256", hashlib.file_digest(file, "sha256").hexdigest())


RAW: dict[str, Tool] = {
    "dd | dd (snf-image 0.23)": Command(
        'dd if="$image" bs=1M iflag=fullblock status=none | '
        'dd of="$disk" bs=1M iflag=fullblock oflag=direct conv=notrunc status=none'
    ),
    "dd direct": Command('dd if="$image" of="$disk" bs=4M iflag=direct oflag=direct conv=notrunc,fsync status=none'),
    "dd direct (huge pages)": Command(
        'dd if="$image" of="$disk" bs=4M iflag=direct oflag=direct conv=notrunc,fsync status=none', HUGE_PAGES
    ),
    "qemu-img": Command(f'{QEMU_IMG} raw "$image" "$disk"'),
    "qemu-img (huge pages)": Command(f'{QEMU_IMG} raw "$image" "$disk"', HUGE_PAGES),
    "nbdcopy": Command('nbdcopy --flush "$image" "$disk"'),
    "bmaptool": Command('bmaptool -q copy --bmap "$image.bmap" "$image" "$disk"', is_safe=False),
}
QCOW2: dict[str, Tool] = {
    "qemu-img": Command(f'{QEMU_IMG} qcow2 "$image" "$disk"'),
    "qemu-img (huge pages)": Command(f'{QEMU_IMG} qcow2 "$image" "$disk"', HUGE_PAGES),
    "qemu-nbd + nbdcopy": Command('nbdcopy --flush -- [ qemu-nbd -r -f qcow2 "$image" ] "$disk"'),
}


def unpacked_by(program: str) -> dict[str, Tool]:
    """The usual pipe into dd."""
    line = f'{program} <"$image" | dd of="$disk" bs=4M {DIRECT}'
    return {f"{program} | dd": Command(line), f"{program} | dd (huge pages)": Command(line, HUGE_PAGES)}


def fetched_from(url: str) -> dict[str, Tool]:
    """The same for an image at a URL."""
    line = f'curl -sf "$url" | dd of="$disk" bs=4M {DIRECT}'
    return {"curl | dd": Command(line, url=url), "curl | dd (huge pages)": Command(line, HUGE_PAGES, url)}
