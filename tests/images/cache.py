# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are expensive to make and are made once: whole or absent, whoever is killed when."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_KEY_LENGTH = 12


def cached(cache: Path, name: str, recipe: Sequence[str], build: Callable[[Path], Path]) -> Path:
    """Give `cache/name-KEY`, read-only; KEY covers this package's modules named in `recipe`, with all they say.

    When it is missing, `build` gets an empty scratch directory on the same file system and the usual umask, and
    returns the finished file inside it, which is renamed into place. What older recipes and killed builds left is
    removed. Two processes that want the same file wait for each other.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / f"{name}-{_key(recipe)}"
    with _lock(cache / f".{name}.lock"):
        if not wanted.exists():
            for scratch in cache.glob(f".{name}.building-*"):
                shutil.rmtree(scratch)
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}.building-", dir=cache))
            mask = os.umask(0o022)
            try:
                finished = build(scratch)
                finished.chmod(0o444)
                finished.rename(wanted)
            finally:
                os.umask(mask)
                shutil.rmtree(scratch)
            for other in cache.glob(f"{name}-{'?' * _KEY_LENGTH}"):
                if other != wanted:
                    other.unlink()
    return wanted


def _key(recipe: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for module in recipe:
        digest.update(hashlib.sha256(Path(__file__).with_name(f"{module}.py").read_bytes()).digest())
    return digest.hexdigest()[:_KEY_LENGTH]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
