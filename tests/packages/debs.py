# SPDX-License-Identifier: GPL-2.0-or-later
"""The project's Debian packages, for tests that install them: built again only when what goes into them changed."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_A_DAY = 86400.0
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
                # Not what another process, which began before the last change, may still be using.
                if old.name.startswith(".") or time.time() - old.stat().st_mtime > _A_DAY:
                    shutil.rmtree(old)
            building = place.with_name(f".building-{release}-{key.strip()}")
            building.mkdir()
            done = subprocess.run(
                [*BUILD, "--release", release, "--output", str(building / "done")],
                check=False,
                # What a killed build leaves goes with the next one, and none of it is ever in /tmp.
                env={**os.environ, "TMPDIR": str(building)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            (building / "done").rename(place)
            building.rmdir()
    return sorted(place.glob("*.deb"))
