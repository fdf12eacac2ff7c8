# SPDX-License-Identifier: GPL-2.0-or-later
"""The jail QEMU and curl are started in: an own user id, no capabilities, private namespaces, a root with only /usr.

bubblewrap makes the namespaces and the empty root, setpriv drops the rest; both exec, so the program is unprivileged
before its first instruction. What it may touch reaches it as open descriptors. It dies with its parent.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import SEARCH_PATH

# Far above what adduser, systemd or subuid ranges hand out: each run gets a user id of its own, which owns nothing.
FIRST_UID = 1_900_000_000
# What finding a host by its name and trusting its certificate take, where a node has it.
_NETWORK_FILES = tuple(
    Path("/etc", name)
    for name in ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "ssl/certs", "ssl/openssl.cnf")
)


@dataclass(frozen=True)
class Jail:
    """`files` are open descriptors whose content, from where they stand, is copied to read-only files inside.

    A copy, because bwrap binds a file by its name alone, and behind the name may be another by now. `devices` are
    device nodes; `groups` are supplementary. `binds` are seen read-only where they are, as far as the user may.
    `setting` is how the administrator names `user`; without one, a user id at or above `first_uid` is taken.
    """

    user: str = ""
    groups: tuple[int, ...] = ()
    files: Mapping[str, int] | None = None
    devices: Sequence[Path] = ()
    binds: Sequence[Path] = ()
    has_network: bool = False
    setting: str = "HELPER_USER"
    first_uid: int = FIRST_UID

    def argv(self, command: Sequence[str]) -> list[str]:
        """The argument list that runs `command` inside. Raises ConfigurationError for an unknown `user`."""
        sandbox = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        sandbox += [] if self.has_network else ["--unshare-net"]
        sandbox += ["--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", SEARCH_PATH]
        sandbox += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            sandbox += ["--cap-add", capability]
        sandbox += [*self._root(), "--chdir", "/"]
        uid, gid = self._identity()
        groups = ["--groups", ",".join(map(str, self.groups))] if self.groups else ["--clear-groups"]
        drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *groups]
        drop += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        return [*sandbox, *drop, *command]

    def _root(self) -> list[str]:
        """The options of bwrap that make the file system inside."""
        if Path("/") in self.binds:
            return ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        options = ["--ro-bind", "/usr", "/usr"]
        for name in ("lib", "lib64", "bin", "sbin"):
            options += ["--symlink", f"usr/{name}", f"/{name}"]
        options += ["--dev", "/dev"]
        for device in self.devices:
            options += ["--dev-bind", str(device), str(device)]
        for inside, fd in (self.files or {}).items():
            options += [*_directories(Path(inside)), "--perms", "0444", "--ro-bind-data", str(fd), inside]
        for path in (*self.binds, *(_NETWORK_FILES if self.has_network else ())):
            options += [*_directories(path), "--ro-bind-try", str(path), str(path)]
        return options

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What bwrap has to inherit; the command does not."""
        return tuple((self.files or {}).values())

    def _identity(self) -> tuple[int, int]:
        if not self.user:
            return self.first_uid + os.getpid(), self.first_uid + os.getpid()
        try:
            entry = pwd.getpwnam(self.user)
        except KeyError as error:
            raise ConfigurationError(
                f"{self.setting}: there is no user {self.user!r} on this node; create it, or leave {self.setting} empty"
            ) from error
        if 0 in {entry.pw_uid, entry.pw_gid}:
            raise ConfigurationError(
                f"{self.setting}: nothing of QEMU is run as root, nor in root's group; leave {self.setting} empty"
            )
        return entry.pw_uid, entry.pw_gid


def _directories(inside: Path) -> list[str]:
    """Ganeti's umask is 0077, and bwrap makes the directories it needs with what the umask leaves."""
    parents = [parent for parent in reversed(inside.parents) if parent != Path("/")]
    return [word for parent in parents for word in ("--perms", "0755", "--dir", str(parent))]


def check_programs(*programs: str) -> None:
    """Raise ConfigurationError that names the Debian package of the first program that is not installed."""
    packages = {"bwrap": "bubblewrap", "setpriv": "util-linux", "mke2fs": "e2fsprogs", "curl": "curl", "gpgv": "gpgv"}
    packages |= {"qemu-storage-daemon": "qemu-system-common qemu-utils", "prlimit": "util-linux"}
    for program in programs:
        if not shutil.which(program, path=SEARCH_PATH):
            package = packages.get(program, "qemu-system-x86")
            raise ConfigurationError(f"{program} is not installed; run: apt install {package}")
