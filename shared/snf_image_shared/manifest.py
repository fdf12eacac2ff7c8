# SPDX-License-Identifier: GPL-2.0-or-later
"""What a directory with a helper image holds, and how its kernel wants to be started.

The builder writes the manifest, the host reads it before it opens the instance's disk: a helper that is missing,
damaged or of another version is the administrator's to rebuild, never a VM that hangs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError

MANIFEST = "manifest.json"
SCHEMA = 1
PARTS = ("kernel", "initrd", "image")
CURE = "run snf-image-update-helper"

# Three tenths of a second under TCG for tracing, a random source that the kernel's own does not use, and the keys of
# modules that the manifest's checksum already covers. A kernel without one of these names ignores it.
_NOT_STARTED = ("jent_mod_init", "trace_eval_init", "init_kprobe_trace", "load_system_certificate_list")

# Best measured under TCG, harmless under KVM. `quiet` and the serial console leave room for what goes wrong; panic=-1
# with QEMU's -no-reboot turns a panic into an exit. Mitigations and LSMs go because nothing but the helper runs there;
# rodata stays on because the file systems it mounts are hostile. Four UARTs: console, result, report, debug shell.
# Debian's kernel has no vsyscalls unless it is told, and boot loaders of RHEL 6 and Debian 7 end by SIGSEGV without.
KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "mitigations=off",
    "random.trust_cpu=on",
    "tsc=reliable",
    "no_timer_check",
    "cryptomgr.notests",
    "8250.nr_uarts=4",
    "lsm=",
    "apparmor=0",
    "audit=0",
    "vsyscall=xonly",
    "initcall_blacklist=" + ",".join(_NOT_STARTED),
)


@dataclass(frozen=True)
class Part:
    """One file of the helper: sha256 in lower-case hex, size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Part:
        """Raises OSError when `path` cannot be read."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(digest, os.fstat(file.fileno()).st_size)


@dataclass(frozen=True)
class Manifest:
    """`kernel` is a release as uname -r says it, `inputs` the builder's key of all it was made from.

    `ufs`: whether the kernel writes UFS.
    """

    version: str
    suite: str
    kernel: str
    debian_packages: Mapping[str, str]
    files: Mapping[str, Part]
    inputs: str
    root_fs: str
    ufs: bool = False

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Raises ConfigurationError when the manifest is missing, unreadable, not JSON or of another schema."""
        path = directory / MANIFEST
        try:
            document: object = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ConfigurationError(f"there is no helper image in {directory}: {CURE}") from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}: {CURE}") from error
        try:
            return _parse(document)
        except ValueError as error:
            raise ConfigurationError(f"{path} is not a helper's manifest: {error}: {CURE}") from error

    def dump(self) -> str:
        """The same JSON for the same manifest, ended by a newline."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    def check(self, directory: Path, *, deep: bool) -> None:
        """Sizes, with `deep` the sha256 of every part. Raises ConfigurationError for the first thing that is wrong."""
        if self.version != __version__:
            raise ConfigurationError(
                f"the helper image in {directory} is of version {self.version}, not {__version__}: {CURE}"
            )
        for name, expected in self.files.items():
            path = directory / name
            try:
                good = Part.of(path) == expected if deep else path.stat().st_size == expected.size
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be read: {error.strerror}: {CURE}") from error
            if not good:
                raise ConfigurationError(f"{path} is not what the manifest beside it says: {CURE}")


def _parse(document: object) -> Manifest:
    fields = _object(document, "the document")
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"schema {fields.get('schema')!r}, expected {SCHEMA}")
    packages = _object(fields.get("debian_packages"), "debian_packages")
    files = _object(fields.get("files"), "files")
    missing = set(PARTS) - set(files)
    if missing or len(files) != len(PARTS):
        raise ValueError(f"files are {', '.join(sorted(files)) or 'none'}, expected {', '.join(PARTS)}")
    return Manifest(
        version=_string(fields, "version"),
        suite=_string(fields, "suite"),
        kernel=_string(fields, "kernel"),
        debian_packages={name: _string(packages, name) for name in packages},
        files={name: _part(_object(files[name], name)) for name in PARTS},
        inputs=_string(fields, "inputs"),
        root_fs=_string(fields, "root_fs"),
        ufs=_boolean(fields, "ufs"),
    )


def _part(fields: Mapping[str, object]) -> Part:
    size = fields.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size {size!r} is not a number of bytes")
    return Part(_string(fields, "sha256"), size)


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")  # noqa: TRY004 - the document is wrong, not a caller
    return value


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string")  # noqa: TRY004
    return value


def _boolean(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")  # noqa: TRY004
    return value
