# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast is the copy? Ours against dd in a pipe, as upstream did it, and against qemu-img, side by side in one run.

Run as root: `python tests/bench/copy_bench.py`. The ratio is the peer's time by ours: above 1 we are faster. Each tool
writes to the same loop device, refilled with garbage before each run, from an image that was evicted from the page
cache; every other round goes backwards. The run fails unless each tool's output is the image, so that no tool wins by
skipping the zeros.

Ours is timed in a forked child, from opening the image to the last flush: `create` is a running interpreter as well.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("host", "shared", "tests", "tests/bench")]

from bench.ratios import Table  # noqa: E402
from block_devices import loop_device  # noqa: E402
from snf_image_host.buffers import huge_pages  # noqa: E402
from snf_image_host.formats import HEAD  # noqa: E402
from snf_image_host.integrity import Integrity  # noqa: E402
from snf_image_host.pipeline import PlainImage, check_fits, copy  # noqa: E402
from snf_image_host.progress import Progress  # noqa: E402
from snf_image_host.recipes import recipe_for  # noqa: E402
from snf_image_host.sources import open_source  # noqa: E402
from snf_image_host.targets import open_target  # noqa: E402

MIB = 1 << 20
SIZE = 2048  # MiB of the sparse image
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # a peer on a host with THP "madvise", as if it were "always"
Tool = Callable[[Path, Path], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=SIZE, metavar="MIB", help="of the sparse image; the dense has half")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="for images and disk, on a real disk")
    parser.add_argument("--json", type=Path, help="write the result there too")
    arguments = parser.parse_args()
    table = Table()
    measure(arguments.directory, arguments.rounds, table, arguments.size)
    print(table.text())
    if arguments.json:
        table.save(arguments.json)


def measure(directory: Path, rounds: int, table: Table, size: int = SIZE) -> None:
    """Add the rows of the copy to the table. `size` in MiB. Needs root, qemu-utils, and thrice the size in `directory`.

    Raises SystemExit if an output is not the image.
    """
    peers: dict[str, Tool] = {
        "dd | dd": run_pipe,
        "qemu-img": run_qemu_img,
        "qemu-img (huge pages)": partial(run_qemu_img, env=HUGE_PAGES),
    }
    with tempfile.TemporaryDirectory(dir=directory, prefix="copy-bench-") as scratch:
        for name, make, length in (("sparse", make_sparse, size * MIB), ("dense", make_dense, size * MIB // 2)):
            image = Path(scratch, f"{name}.diskdump")
            make(image, length)
            times = _times(image, Path(scratch, "disk"), {"snf-image": run_ours, **peers}, rounds)
            for peer in peers:
                for pair in zip(times[peer], times["snf-image"], strict=True):
                    table.add(f"copy {name}: {peer} / ours", *pair)
            image.unlink()


def _times(image: Path, disk: Path, tools: dict[str, Tool], rounds: int) -> dict[str, list[float]]:
    """Seconds of each tool in each round."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size)
    with loop_device(disk, "--direct-io=on") as device:
        for number in range(rounds):
            for name in list(tools)[:: -1 if number % 2 else 1]:
                fill_with_garbage(device)
                evict(image)
                start = time.perf_counter()
                tools[name](image, device)
                times[name].append(time.perf_counter() - start)
                if number == 0 and subprocess.run(["cmp", image, device], check=False).returncode:
                    raise SystemExit(f"{name}: the disk is not the image")
    disk.unlink()
    return times


def run_ours(image: Path, disk: Path) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with (
                Path(os.devnull).open("w") as log,
                Progress.start("bench", "", log=log) as progress,
                open_source(image.name, image.parent) as source,
                open_target(disk) as target,
            ):
                recipe_for("diskdump", source.head(HEAD), source.name)
                plain = PlainImage(source, Integrity(None), "diskdump")
                check_fits(plain, target)
                copy(plain, target, progress)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("our copy failed")


def run_pipe(image: Path, disk: Path, env: dict[str, str] | None = None) -> None:
    read = ["dd", f"if={image}", "bs=1M", "iflag=fullblock", "status=none"]
    write = ["dd", f"of={disk}", "bs=1M", "iflag=fullblock", "oflag=direct", "conv=notrunc", "status=none"]
    with subprocess.Popen(read, stdout=subprocess.PIPE, env=_environment(env)) as reader:
        subprocess.run(write, stdin=reader.stdout, check=True, env=_environment(env))


def run_qemu_img(image: Path, disk: Path, env: dict[str, str] | None = None) -> None:
    convert = ["qemu-img", "convert", "-n", "-t", "none", "-T", "none", "-W", "-m", "8", "-f", "raw", "-O", "raw"]
    subprocess.run([*convert, str(image), str(disk)], check=True, env=_environment(env))


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **(env or {})}


def make_sparse(image: Path, size: int) -> None:
    """An eighth of data, in runs of 4 KiB to 8 MiB with holes between them, as a file system leaves them."""
    dice = random.Random(20)  # the same image each time
    with image.open("wb") as file:
        file.truncate(size)
        position = 0
        while position < size:
            run = min(4096 << dice.randrange(12), size - position)
            os.pwrite(file.fileno(), dice.randbytes(run), position)
            position += run + 4096 * round(run / 4096 * dice.uniform(4, 10))
        os.fsync(file.fileno())


def make_dense(image: Path, size: int) -> None:
    """Random data throughout."""
    with image.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())


def fill_with_garbage(device: Path) -> None:
    buffer = huge_pages(4 * MIB)
    buffer[:] = b"\xa5" * len(buffer)
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    size, position = os.lseek(fd, 0, os.SEEK_END), 0
    while position < size:
        position += os.pwrite(fd, buffer[: size - position], position)
    os.fsync(fd)
    os.close(fd)


def evict(image: Path) -> None:
    fd = os.open(image, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


if __name__ == "__main__":
    main()
