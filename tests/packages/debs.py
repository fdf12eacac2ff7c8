# SPDX-License-Identifier: GPL-2.0-or-later
"""The project's Debian packages, for tests that install them: built again only when what goes into them changed."""

from __future__ import annotations

import fcntl
import functools
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILD = ("/usr/bin/python3", "-IB", str(PROJECT / "debian/build_packages.py"))


@functools.cache
def built_debs(cache: Path, release: str = "12") -> list[Path]:
    """snf-image-common, -helper and -host for that release of Debian ("12", "13"), as files in `cache`/debs.

    Takes 15 seconds, and next to nothing when it was done before. Two processes that want them wait for each other; one
    process gets the same all its life. The packages of Debian 13 are built on 12 as well: nothing in them is compiled.
    """
    key = subprocess.run([*BUILD, "--release", release, "--key"], check=True, capture_output=True, text=True).stdout
    place = cache / "debs" / f"{release}-{key.strip()}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{release}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not place.exists():
            for old in place.parent.glob(f"*{release}-*"):
                shutil.rmtree(old)
            building = place.with_name(f".building-{release}-{key.strip()}")
            done = subprocess.run(
                [*BUILD, "--release", release, "--output", str(building)],
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            building.rename(place)
    return sorted(place.glob("*.deb"))
