# SPDX-License-Identifier: GPL-2.0-or-later
"""The images of the copy's benchmark, made anew each time from a fixed seed: no image is in the repository."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

MIB = 1 << 20


def make_sparse(image: Path, size: int) -> None:
    """An eighth of data, in runs of 4 KiB to 8 MiB with holes between them, as a file system leaves them.

    Half of each run is text-like, so that compression has something to do.
    """
    dice = random.Random(20)
    words = [dice.randbytes(dice.randrange(3, 12)).hex().encode() for _ in range(500)]
    with image.open("wb") as file:
        file.truncate(size)
        position = 0
        while position < size:
            run = min(4096 << dice.randrange(12), size - position)
            text = b" ".join(dice.choices(words, k=run // 32 + 1))[: run // 2]
            os.pwrite(file.fileno(), text + dice.randbytes(run - len(text)), position)
            position += run + 4096 * round(run / 4096 * dice.uniform(4, 10))
        os.fsync(file.fileno())


def make_dense(image: Path, size: int) -> None:
    """Random data throughout."""
    with image.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())


def make_full(image: Path, sparse: Path) -> None:
    """A sparse image with every hole written as zeros."""
    subprocess.run(["cp", "--sparse=never", sparse, image], check=True)
    subprocess.run(["sync", image], check=True)


def make_qcow2(image: Path, raw: Path, compression: str = "") -> None:
    """`compression` is none, zlib or zstd."""
    options = ["-c", "-o", f"compression_type={compression}"] if compression else []
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, image], check=True)


def make_compressed(image: Path, raw: Path, *command: str) -> None:
    """What the command makes of its standard input."""
    with raw.open("rb") as source, image.open("wb") as file:
        subprocess.run(command, stdin=source, stdout=file, check=True)
