# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory of hooks: which of its programs run, by run-parts' rules, and which stand for a task of ours.

instance-image ships six hooks, of which an administrator makes those executable that he wants; one more was proposed
for it. Tasks do their work here. A file counts as shipped by its content: one that was edited is the administrator's
own program, and runs.
Source of the digests: the files of all releases of instance-image, 0.1 to 0.7.3.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from snf_image_shared.errors import ConfigurationError


class Switch(StrEnum):
    """The hooks that instance-image ships, and one that it never did, in the order in which it runs them."""

    CLOUD_INIT = "cloud-init"
    CRON_RANDOMIZE = "cron_randomize"
    GRUB = "grub"
    INTERFACES = "interfaces"
    OVERLAYS = "overlays"
    SSH = "ssh"
    ZZ_DDNS = "zz_ddns"


class Shipped(StrEnum):
    """The values of SHIPPED_HOOKS: what a shipped hook that is executable leads to."""

    TASKS = "tasks"
    PROGRAMS = "programs"


# What we ship ourselves under each of these names. It is never run.
SWITCH_FILE = b"""\
#!/bin/sh
# A switch of snf-image: executable, it turns on what ganeti-instance-image's hook of this name did.
# A program of your own in its place is run instead.
exit 0
"""
_DIGESTS: Mapping[Switch, frozenset[str]] = {
    Switch.CLOUD_INIT: frozenset({"500d75607b11f5c41da2a983a12f36aa068423010e6e5351204d13d4b9fc41f3"}),
    Switch.CRON_RANDOMIZE: frozenset(),
    Switch.GRUB: frozenset(
        {
            "eb81363f67dda9e16933578f59eb6b19bf5867ce8f86edd3f521caf84d3583f8",
            "16cf8d400888e8a6ecfca20f72ad1da01af7ee230ac3921ba7ec79c4c581881b",
            "bdac648bcaaa35d28d02365bfb3e70d18e99dc4f1eeec0496b4b3d395a35bab8",
            "de76cc37c944565431e9bf79fd735076bbfa48f9b3d8e602a7693c0602c456c2",
        }
    ),
    Switch.INTERFACES: frozenset(
        {
            "bf7ffc640d306cc29ebabd8057d78c9339f52117eac897d85a56ce9bd17f469a",
            "e03c6fa64e3fde5c04bb07aaae30a6ee55ddc2deb1d9df4ed89f59e682fcdfe2",
            "64f79a067e4b46c82c3b05431298b8a73c0b1a760f4c1210fc003782ccf68548",
            "47b637040e36ca2a3c617d9d5b3e9b6478e8775c271f1cc65d7526016cb4c26f",
            "9c3648e596155f8aa404758f73485de522892686685bb2d52207a68f91d7d7ea",
        }
    ),
    Switch.OVERLAYS: frozenset(
        {
            "0102076d7e43583e7a3e3d7fc3bfcba5e2f9749c8defdd161d00324f9f254bdf",
            "524a95f4b0abdc22cc389297f1ed5b147d3ba1d2d68cb0b07314cd80c04fbe36",
        }
    ),
    Switch.SSH: frozenset(
        {
            "2246a3e6a4b4c9db4f568899f4b5fb8f291238fe2b089b0fbef9df31f4399c68",
            "f2e76e041fd35ce5ce2111761aa4df2ebf4fcbe0ea97a677cc67f2c110d5d8a1",
        }
    ),
    Switch.ZZ_DDNS: frozenset(
        {
            "af5b190765d72b9aec81f251f0acc854dafdcb6f028466f467bbb939edb4e7bc",
            "04fbc4b3c13336be6b7f3788f7c2cdfa30e41025566b8c51263f9032f30a537d",
        }
    ),
}
_TASKS: Mapping[Switch, tuple[str, ...]] = {
    Switch.INTERFACES: ("ConfigureNetwork", "AssignHostname"),
    Switch.SSH: ("DeleteSSHKeys",),
}
_NAME = re.compile(r"[A-Za-z0-9_-]+")  # run-parts(8) of Debian, without options
_LARGEST_SWITCH = 1 << 16  # bytes: the shipped ones have some thousand


@dataclass(frozen=True)
class HookSet:
    """What is switched on in `directory`: `programs` are the names of those that run, in order."""

    directory: Path
    programs: tuple[str, ...] = ()
    switches: frozenset[Switch] = frozenset()
    arguments: tuple[str, ...] = ()

    def for_import(self) -> HookSet:
        """What an import runs: the hook grub alone."""
        return self._only(Switch.GRUB)

    def for_rename(self) -> HookSet:
        """What a rename runs: the hook zz_ddns alone, and told so."""
        return replace(self._only(Switch.ZZ_DDNS), arguments=("-r",))

    def tasks_off(self) -> Mapping[str, str]:
        """The tasks that do the work of shipped hooks that are off, and why each does not run. For Job.kept_off.

        A hook of the administrator's own with such a name does the work in the task's place. The boot loader is not
        among them: without the hook grub it only gets no kernel arguments.
        """
        return {
            task: f"{self.directory / switch} is the administrator's own"
            if switch in self.programs
            else f"the hook {switch} is not switched on; chmod +x {self.directory / switch} does that"
            for switch, tasks in _TASKS.items()
            if switch not in self.switches
            for task in tasks
        }

    def _only(self, switch: Switch) -> HookSet:
        return replace(
            self,
            programs=tuple(name for name in self.programs if name == switch),
            switches=self.switches & {switch},
        )


def read_hook_set(directory: Path, shipped: Shipped = Shipped.TASKS) -> HookSet:
    """Look into `directory`; one that does not exist has no hooks. Raises ConfigurationError."""
    try:
        programs = runnable(directory)
        switches = frozenset(
            Switch(name)
            for name in programs
            if shipped is Shipped.TASKS and name in set(Switch) and _is_shipped(directory, Switch(name))
        )
    except (FileNotFoundError, NotADirectoryError):
        return HookSet(directory)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or directory}: {error.strerror}; the hooks cannot be read"
        ) from error
    return HookSet(directory, tuple(name for name in programs if name not in switches), switches)


def runnable(directory: Path) -> tuple[str, ...]:
    """What run-parts(8) runs in a directory, in its order: that of the C locale. Raises OSError.

    A link counts as what it leads to, and one that leads nowhere as nothing.
    """
    names = sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return tuple(name for name in names if _is_program(directory / name))


def overlay_directory(overlays: Path, name: str) -> Path:
    """The overlay called `name`, which is one of the directories in `overlays`. Raises ConfigurationError."""
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", name):
        raise ConfigurationError(f"OVERLAY: {name[:40]!r} is no name of a directory in {overlays}; write only its name")
    path = overlays / name
    if not path.is_dir():
        raise ConfigurationError(f"OVERLAY: {path} not found; make this directory, or correct OVERLAY")
    return path


def _is_program(path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)


def _is_shipped(directory: Path, switch: Switch) -> bool:
    path = directory / switch
    with path.open("rb") as file:
        content = file.read(_LARGEST_SWITCH)
    return content == SWITCH_FILE or hashlib.sha256(content).hexdigest() in _DIGESTS[switch]
