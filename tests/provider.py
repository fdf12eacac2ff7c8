# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed provider, and its scripts called with the environment, umask and cwd that Ganeti gives them.

Source: what a real Ganeti 3.0.2 was seen to pass (OS interface 20).
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
GANETI_PATH = "/sbin:/bin:/usr/sbin:/usr/bin"
TIMEOUT = 900  # seconds for one script
_INSTALLED = ("host", "helper", "shared", "helper-image-builder", "docs/man", "pyproject.toml", "README.md", "LICENSE")
_IMAGES = {"snf-image": "var/lib/snf-image", "image": "var/cache/ganeti-instance-image"}
_SETTINGS = {
    "snf-image": ("snf-image/snf-image.conf", "ganeti/snf-image/variants"),
    "image": ("default/ganeti-instance-image", "ganeti/instance-image/variants"),
}
_COPYING = 600.0  # seconds, and more than a copy takes


@dataclass(frozen=True)
class Instance:
    """One instance as Ganeti would describe it. `nics` are dictionaries of NIC_<n>_* without the prefix."""

    name: str
    disks: tuple[Path, ...]
    nics: tuple[Mapping[str, str], ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """All that create gets; parameters that are no text become JSON."""
        env = {
            "DEBUG_LEVEL": "0",
            "DISK_COUNT": str(len(self.disks)),
            "HYPERVISOR": "kvm",
            "INSTANCE_BE_maxmem": "512",
            "INSTANCE_BE_minmem": "512",
            "INSTANCE_BE_vcpus": "1",
            "INSTANCE_HV_disk_type": "paravirtual",
            "INSTANCE_NAME": self.name,
            "INSTANCE_OS": "snf-image+default",
            "INSTANCE_UUID": "18868594-ae23-41fc-a291-d2d355a2c281",
            "NIC_COUNT": str(len(self.nics)),
            "OS_API_VERSION": "20",
            "OS_NAME": "snf-image",
            "OS_VARIANT": "default",
            "PATH": GANETI_PATH,
        }
        for index, disk in enumerate(self.disks):
            env |= {
                f"DISK_{index}_ACCESS": "rw",
                f"DISK_{index}_BACKEND_TYPE": "file:loop",
                f"DISK_{index}_FRONTEND_TYPE": "paravirtual",
                f"DISK_{index}_PATH": str(disk),
                f"DISK_{index}_SIZE": str(disk.stat().st_size >> 20) if disk.exists() else "0",
                f"DISK_{index}_UUID": f"087a1c73-7164-473a-99d7-{index:012d}",
            }
        for index, nic in enumerate(self.nics):
            env |= {f"NIC_{index}_{name}": value for name, value in nic.items()}
        for name, value in self.parameters.items():
            env[f"OSP_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
        return env


@dataclass(frozen=True)
class Outcome:
    """How a script ended: exit code and the log that Ganeti would keep."""

    code: int
    log: str

    @property
    def last_line(self) -> str:
        """What an administrator reads first."""
        return self.log.rstrip("\n").rpartition("\n")[2]

    @property
    def messages(self) -> list[dict[str, object]]:
        """The progress messages in the log."""
        mark = "[MONITOR] "
        return [json.loads(line.removeprefix(mark)) for line in self.log.splitlines() if line.startswith(mark)]


@dataclass(frozen=True)
class Provider:
    """The provider below `root`, as `make install DESTDIR=root PREFIX=/usr` leaves it, by one of its OS definitions."""

    root: Path
    definition: str = "snf-image"

    @classmethod
    def install(cls, root: Path, cache: Path) -> Provider:
        """Install into `root`, with settings that use the helper image of the cache."""
        # Not links: a test may write into what it was given.
        subprocess.run(["cp", "--archive", "--reflink=auto", f"{_installed(cache)}/.", str(root)], check=True)
        helper = cache / "helper"
        provider = cls(root)
        provider.images.mkdir(parents=True, exist_ok=True)
        provider.configure(HELPER_DIR=str(helper))
        return provider

    @property
    def images(self) -> Path:
        """IMAGE_DIR."""
        return self.root / _IMAGES[self.definition]

    @property
    def os_directory(self) -> Path:
        """What Ganeti sees."""
        return self.root / "usr/share/ganeti/os" / self.definition

    def as_image(self) -> Provider:
        """The same installation by its OS definition `image`, which snf-image.conf counts for as well."""
        provider = replace(self, definition="image")
        provider.images.mkdir(parents=True, exist_ok=True)
        return provider

    def configure(self, variant: str = "", **settings: str) -> None:
        """Write the definition's main file, or a variant of that name."""
        main, variants = _SETTINGS[self.definition]
        text = "".join(f"{key}='{value}'\n" for key, value in settings.items())
        (self.root / "etc" / (f"{variants}/{variant}.conf" if variant else main)).write_text(text)

    def run(self, instance: Instance, script: str = "create", **extra: str) -> Outcome:
        """Run a script to its end with the instance's environment, and `extra` over it."""
        process = self.start(instance, script, **extra)
        log, _ = process.communicate(timeout=TIMEOUT)
        return Outcome(process.returncode, log)

    def transfer(self, instance: Instance, script: str, stream: Path, **extra: str) -> tuple[Outcome, str]:
        """Export the instance's only disk to the file `stream`, or import it; and what EXP_SIZE_FD was told."""
        (disk,) = instance.disks
        sizes, size_fd = os.pipe()
        verb = script.upper()
        place = {f"{verb}_DEVICE": str(disk), f"{verb}_DISK_PATH": str(disk), f"{verb}_INDEX": "0"}
        with stream.open("rb" if script == "import" else "wb") as file:
            done = subprocess.run(
                [str(self.os_directory / script)],
                cwd=self.os_directory,
                env=instance.environment() | {"OS_NAME": self.definition, "EXP_SIZE_FD": str(size_fd)} | place | extra,
                stdin=file if script == "import" else subprocess.DEVNULL,
                stdout=file if script == "export" else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                umask=0o077,
                pass_fds=[size_fd],
                timeout=TIMEOUT,
                check=False,
            )
        os.close(size_fd)
        with os.fdopen(sizes) as said:
            return Outcome(done.returncode, done.stderr), said.read()

    def start(self, instance: Instance, script: str = "create", **extra: str) -> subprocess.Popen[str]:
        """Start a script; both its outputs are one pipe, as the OS log of Ganeti is one file."""
        return subprocess.Popen(
            [str(self.os_directory / script)],
            cwd=self.os_directory,
            env=instance.environment()
            | {"OS_NAME": self.definition, "INSTANCE_OS": f"{self.definition}+default"}
            | extra,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=0o077,
        )


@functools.cache
def _installed(cache: Path) -> Path:
    """What `make install` leaves of the code as it is now, kept in `cache`: pip takes its time every time."""
    files = [path for name in _INSTALLED for path in (PROJECT / name, *(PROJECT / name).rglob("*")) if path.is_file()]
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(f"{path}\0{path.stat().st_mode}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    place = cache / "installed" / digest.hexdigest()[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not place.exists():
            for old in place.parent.iterdir():
                # Not what another process, which began before the last change, may be copying just now.
                if old.name == ".building" or (old.is_dir() and time.time() - old.stat().st_mtime > _COPYING):
                    shutil.rmtree(old)
            building = place.with_name(".building")
            installer = [sys.executable, str(PROJECT / "host/ganeti/install.py"), "--destdir", str(building)]
            subprocess.run(installer, check=True, stdout=subprocess.DEVNULL)
            building.rename(place)
    return place
