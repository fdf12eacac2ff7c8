# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast is the copy? Ours against what else brings an image onto a disk, side by side in one run.

Run as root: `PYTHONPATH=tests python -m bench.copy_bench`. The ratio is the peer's time by ours: above 1 we are faster.
Each tool writes to the same loop device, refilled with garbage before each run, from an image that was evicted from the
page cache; every other round goes backwards. The run fails unless each tool's output is the image; those that are known
to leave the last owner's bytes where the image has zeros are marked with a star.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.copy_images import MIB, make_compressed, make_dense, make_full, make_qcow2, make_sparse
from bench.copy_tools import QCOW2, RAW, Ours, Tool, Usage, fetched_from, run, sha256, unpacked_by
from bench.ratios import Table
from block_devices import loop_device
from nginx import nginx
from snf_image_host.copying.buffers import huge_pages

SIZE = 2048  # MiB of the sparse image
_NEEDED = ("qemu-img", "nbdcopy", "bmaptool", "pigz", "zstd", "xz", "curl", "nginx")


@dataclass(frozen=True)
class Scenario:
    """`image` is a file; on the disk it is `raw`. It is copied onto so many disks `at_once`."""

    name: str
    image: Path
    raw: Path
    tools: Mapping[str, Tool]
    at_once: int = 1


@dataclass(frozen=True)
class Cost:
    """What a run cost: its usage, and MiB by which the page cache grew and that were written to the disks."""

    usage: Usage
    cached: float
    written: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=SIZE, metavar="MIB", help="of the sparse image; the dense has half")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="for images and disks, on a real disk")
    parser.add_argument("--json", type=Path, help="write the result there too")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose name has this")
    arguments = parser.parse_args()
    table = Table()
    measure(arguments.directory, arguments.rounds, table, arguments.size, arguments.only)
    print(table.text())
    if arguments.json:
        table.save(arguments.json)


def measure(directory: Path, rounds: int, table: Table, size: int = SIZE, only: str = "") -> None:
    """Add the rows of the copy to the table, and print what each run cost. `size` in MiB.

    Needs root and six times the size in `directory`. Raises SystemExit for a missing program, or if an output is not
    the image.
    """
    missing = [program for program in _NEEDED if not shutil.which(program)]
    if missing:
        raise SystemExit(f"{', '.join(missing)} is missing; run: make setup")
    print(f"Linux {platform.release()}, transparent huge pages: {_huge_pages()}, {os.cpu_count()} processors\n")
    with tempfile.TemporaryDirectory(dir=directory, prefix="copy-bench-") as scratch, ExitStack() as stack:
        for scenario in _scenarios(Path(scratch), size, stack, only):
            costs = _costs(scenario, Path(scratch), rounds)
            print(_costs_text(scenario, costs), flush=True)
            for name, column in costs.items():
                if name == "snf-image":
                    continue
                star = "" if scenario.tools[name].is_safe else " *"
                for peer, ours in zip(column, costs["snf-image"], strict=True):
                    table.add(f"{scenario.name}: {name}{star}", peer.usage.seconds, ours.usage.seconds)


def _scenarios(scratch: Path, size: int, stack: ExitStack, only: str) -> Iterator[Scenario]:
    """Each with its image made just before it is wanted."""
    dense, sparse, full = (scratch / f"{name}.raw" for name in ("dense", "sparse", "full"))
    make_dense(dense, size * MIB // 2)
    make_sparse(sparse, size * MIB)
    make_full(full, sparse)
    for raw in (dense, sparse, full):
        subprocess.run(["bmaptool", "-q", "create", raw, "-o", f"{raw}.bmap"], check=True)
    wanted: list[tuple[str, Path, Path, Mapping[str, Tool]]] = []
    for name, raw in (("dense raw", dense), ("sparse raw", sparse), ("full raw with zeros", full)):
        ours: dict[str, Tool] = {"snf-image, no checksum": Ours(), "snf-image": Ours(checksum=sha256(raw))}
        wanted.append((name, raw, raw, {**ours, **RAW}))
    for compression in ("", "zlib", "zstd"):
        image = scratch / f"{compression or 'plain'}.qcow2"
        wanted.append((f"qcow2 {compression}".rstrip(), image, sparse, {"snf-image": Ours("qcow2"), **QCOW2}))
    for suffix, programs in (("gz", ("gzip -dc", "pigz -dc")), ("zst", ("zstd -dc",)), ("xz", ("xz -dc -T0",))):
        tools: Mapping[str, Tool] = {name: tool for program in programs for name, tool in unpacked_by(program).items()}
        wanted.append((f"raw.{suffix}", scratch / f"sparse.raw.{suffix}", sparse, {"snf-image": Ours(), **tools}))
    for name, image, raw, tools in wanted:
        if only in name:
            _make(image, sparse)
            yield Scenario(name, image, raw, tools)
    if only in "http":
        url = f"{stack.enter_context(nginx(scratch)).url}/{dense.name}"
        yield Scenario("http", dense, dense, {"snf-image": Ours(url=url), **fetched_from(url)})
    if only in "four at once":
        peers = {name: RAW[name] for name in ("dd | dd (snf-image 0.23)", "dd direct", "qemu-img")}
        yield Scenario("four at once", sparse, sparse, {"snf-image": Ours(), **peers}, at_once=4)


def _make(image: Path, raw: Path) -> None:
    """The wrapped image, unless it is there."""
    commands = {".gz": ("gzip", "-6"), ".zst": ("zstd", "-q", "-3"), ".xz": ("xz", "-3", "-T0", "--block-size=16MiB")}
    if image.exists():
        return
    if image.suffix == ".qcow2":
        make_qcow2(image, raw, "" if image.stem == "plain" else image.stem)
    else:
        make_compressed(image, raw, *commands[image.suffix])


def _costs(scenario: Scenario, scratch: Path, rounds: int) -> dict[str, list[Cost]]:
    """What each tool cost in each round."""
    costs: dict[str, list[Cost]] = {name: [] for name in scenario.tools}
    with _disks(scratch, scenario.raw.stat().st_size, scenario.at_once) as disks:
        for number in range(rounds):
            for name in list(scenario.tools)[:: -1 if number % 2 else 1]:
                for disk in disks:
                    fill_with_garbage(disk)
                for path in {scenario.image, scenario.raw}:
                    evict(path)
                cached, written = _cached(), sum(map(_written, disks))
                usage = run(scenario.tools[name], [scenario.image] * len(disks), disks)
                costs[name].append(Cost(usage, _cached() - cached, sum(map(_written, disks)) - written))
                if number == 0 and scenario.tools[name].is_safe:
                    _check(name, scenario.raw, disks)
    return costs


@contextmanager
def _disks(scratch: Path, size: int, count: int) -> Iterator[list[Path]]:
    with ExitStack() as stack:
        files = [scratch / f"disk{number}" for number in range(count)]
        for file in files:
            with file.open("wb") as disk:
                disk.truncate(size)
        yield [stack.enter_context(loop_device(file, "--direct-io=on")) for file in files]
    for file in files:
        file.unlink()


def _check(name: str, raw: Path, disks: list[Path]) -> None:
    for disk in disks:
        if subprocess.run(["cmp", raw, disk], check=False).returncode:
            raise SystemExit(f"{name}: the disk is not the image")


def _costs_text(scenario: Scenario, costs: Mapping[str, list[Cost]]) -> str:
    """Medians, a line for each tool."""
    lines = [f"{scenario.name:<32} {'seconds':>8} {'CPU s':>8} {'MiB':>6} {'cache MiB':>10} {'written MiB':>12}"]
    for name, column in costs.items():
        usage = [cost.usage for cost in column]
        lines.append(
            f"  {name:<30} {statistics.median(each.seconds for each in usage):8.2f}"
            f" {statistics.median(each.processors for each in usage):8.2f}"
            f" {statistics.median(each.memory for each in usage):6.0f}"
            f" {statistics.median(cost.cached for cost in column):10.0f}"
            f" {statistics.median(cost.written for cost in column):12.0f}"
        )
    return "\n".join(lines) + "\n"


def _cached() -> float:
    """MiB of the page cache."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return (int(fields["Cached"].split()[0]) + int(fields["Buffers"].split()[0])) / 1024


def _written(device: Path) -> float:
    """MiB ever written to a block device; the kernel counts what it is told to zero as well."""
    return int(Path("/sys/block", device.name, "stat").read_text().split()[6]) * 512 / MIB


def _huge_pages() -> str:
    thp = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return thp.read_text().partition("[")[2].partition("]")[0] if thp.exists() else "none"


def fill_with_garbage(device: Path) -> None:
    """Overwrite all of a block device."""
    buffer = huge_pages(4 * MIB)
    buffer[:] = b"\xa5" * len(buffer)
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    size, position = os.lseek(fd, 0, os.SEEK_END), 0
    while position < size:
        position += os.pwrite(fd, buffer[: size - position], position)
    os.fsync(fd)
    os.close(fd)


def evict(image: Path) -> None:
    """Take a file out of the page cache."""
    fd = os.open(image, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


if __name__ == "__main__":
    main()
