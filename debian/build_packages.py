# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the Debian packages for one release of Debian: what `make deb` runs. Neither root nor a clean tree is needed.

The project is copied aside, so that nothing of the build lands in it. The one step that uses the network is pip's: it
fetches the wheels that the release lacks, each pinned by its sha256 in releases/RELEASE/bundled.txt. Nothing of them is
run but to write the manual.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
INPUTS = (
    *("debian", "host", "helper", "shared", "helper-image-builder", "docs"),
    *("pyproject.toml", "README.md", "NEWS.md", "LICENSE"),
)
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
RELEASES = tuple(sorted(path.name for path in (HERE / "releases").iterdir()))
PYTHONS = {"12": "3.11", "13": "3.13"}


def main() -> None:
    """Parse the options of `make deb` and leave the packages in the directory they name."""
    options = _parser().parse_args()
    if options.key:
        print(key(options.release))
        return
    os.umask(0o022)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="snf-image-deb-") as scratch:
        for package in build(options.release, Path(scratch)):
            shutil.copyfile(package, options.output / package.name)
            print(options.output / package.name)


def key(release: str) -> str:
    """What the packages are made from, in 12 hexadecimal digits."""
    digest = hashlib.sha256(release.encode())
    for path in _inputs():
        mode = "x" if os.access(path, os.X_OK) else "-"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(PROJECT)} {mode} {content}\n".encode())
    return digest.hexdigest()[:12]


def build(release: str, scratch: Path) -> list[Path]:
    """The packages for `release`, in the empty directory `scratch`. Raises subprocess.CalledProcessError."""
    tree = scratch / "snf-image"
    for path in _inputs():
        target = tree / path.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    _name_release(tree, release)
    python = _python_with_pip(scratch / "venv")
    _fetch(python, release, tree / "debian/wheels")
    # The manual is written by our own code, which needs on this machine what this machine's release lacks.
    _fetch(python, _this_release(), tree / "debian/wheels-of-the-build")
    # It would ask for a compiler, which nothing here needs; `make deb` has seen to the rest.
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"]
    subprocess.run(command, cwd=tree, check=True, stdout=sys.stderr)
    return sorted(scratch.glob("*.deb"))


def _inputs() -> Iterator[Path]:
    """Every file that the packages are made from, in a fixed order."""
    for name in INPUTS:
        root = PROJECT / name
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(set(folders) - LEFT_OUT(folder, folders))
            yield from (Path(folder, file) for file in sorted(set(files) - LEFT_OUT(folder, files)))
        if root.is_file():
            yield root


def _name_release(tree: Path, release: str) -> None:
    """The two releases' packages differ, so their versions do: 1.0.0+deb12u1 before 1.0.0+deb13u1."""
    (tree / "debian/release").write_text(f"{release}\n")
    changelog = tree / "debian/changelog"
    text = re.sub(r"\(([^)]+)\)", rf"(\1+deb{release}u1)", changelog.read_text(encoding="utf-8"), count=1)
    changelog.write_text(text, encoding="utf-8")


def _python_with_pip(place: Path) -> Path:
    """A virtual environment of the release's own Python: Debian's pip is a package that nothing else here wants."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(place)], check=True, stdout=sys.stderr)
    return place / "bin/python"


def _fetch(python: Path, release: str, wheels: Path) -> None:
    """What `release` lacks. Python's version is said, because this machine's release may be another one."""
    requirements = HERE / "releases" / release / "bundled.txt"
    command = [str(python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [f"--python-version={PYTHONS[release]}", "--platform=manylinux_2_17_x86_64"]
    command += ["--require-hashes", "--only-binary=:all:", f"--dest={wheels}", f"--requirement={requirements}"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _this_release() -> str:
    """Of Debian, as a number; its newest one that we know where this is none of them."""
    found = re.search(r'(?m)^VERSION_ID="?([0-9]+)', Path("/etc/os-release").read_text(encoding="utf-8"))
    return found[1] if found and found[1] in RELEASES else RELEASES[-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Build the Debian packages.")
    parser.add_argument("--release", choices=RELEASES, default=_this_release(), help="of Debian (%(default)s)")
    parser.add_argument("--output", type=Path, default=PROJECT / "dist", metavar="DIR", help="(%(default)s)")
    parser.add_argument("--key", action="store_true", help="build nothing: say which version of its inputs this is")
    return parser


if __name__ == "__main__":
    main()
