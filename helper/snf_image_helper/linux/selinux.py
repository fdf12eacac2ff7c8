# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels what was changed in an SELinux guest, by the guest's own policy and with the helper's own setfiles(8).

setfiles needs no kernel with SELinux: it reads file_contexts, and writes extended attributes. Only the policy's text is
given to it, never the compiled form beside it, which is serialised memory that a tenant may have written.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.files.scratch import scratch_directory
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits, run

CONFIG = "/etc/selinux/config"
_LABEL = "security.selinux"
_ASSIGNMENT = re.compile(r"^[ \t]*(SELINUX|SELINUXTYPE)[ \t]*=[ \t]*([A-Za-z0-9_-]{1,64})[ \t\r]*$", re.MULTILINE)
_ACTIVE = frozenset({"enforcing", "permissive"})
# Homes and root's directory are in a file of their own, and what the administrator has added in another.
_CONTEXTS = ("file_contexts", *(f"file_contexts.{part}" for part in ("homedirs", "local", "subs", "subs_dist")))
_TIMEOUT = 120.0  # seconds: some six thousand patterns, under emulation
_MAGIC = re.compile(r"([][*?{}~\\])")  # of glob(3), which setfiles applies to every name


@dataclass(frozen=True)
class Policy:
    """What selinux_config(5) says: whether the guest uses SELinux at all, and the name of its policy."""

    active: bool
    name: str = "targeted"

    @property
    def directory(self) -> str:
        """Where its file contexts are."""
        return f"/etc/selinux/{self.name}/contexts/files"


def policy_of(guest: Guest) -> Policy | None:
    """None for a guest that was never told of SELinux."""
    text = guest.read_text(CONFIG, missing_ok=True)
    if text is None:
        return None
    members = {match[1]: match[2] for match in _ASSIGNMENT.finditer(text)}
    return Policy(members.get("SELINUX", "").lower() in _ACTIVE, members.get("SELINUXTYPE", Policy.name))


def relabel(guest: Guest, policy: Policy, paths: Iterable[str]) -> int:
    """Label those of `paths` that are there, directories with all they hold; how many were given to setfiles.

    A label that the policy lets an administrator choose stays. Raises GuestError when the policy has no file contexts,
    and ProcessError when setfiles fails or finds no end: what it reads was written by a tenant.
    """
    wanted = [path for path in sorted(paths) if _label(guest, path) is not None]
    if not wanted:
        return 0
    names = "".join(_MAGIC.sub(r"\\\1", guest.root + path) + "\0" for path in wanted)
    with scratch_directory() as directory:
        for name in _CONTEXTS:
            content = guest.read_bytes(f"{policy.directory}/{name}", missing_ok=True)
            if content is not None:
                (directory / name).write_bytes(content)
        if not (directory / _CONTEXTS[0]).exists():
            raise GuestError(f"{policy.directory}/{_CONTEXTS[0]} is missing; install the policy in the image")
        # -m: labels of mounts count although this kernel gives them no "seclabel"; -s: names from standard input.
        argv = ["setfiles", "-m", "-0", "-s", "-r", guest.root, str(directory / _CONTEXTS[0])]
        run(argv, stdin=os.fsencode(names), limits=Limits(timeout=_TIMEOUT))
    # Of some paths a policy says that they have none, but never of all that we write.
    if not any(_label(guest, path) for path in wanted):
        raise GuestError(f"{policy.directory}/{_CONTEXTS[0]} has no label for any of it; install the policy again")
    return len(wanted)


def _label(guest: Guest, path: str) -> bytes | None:
    """The label of an entry itself, b"" for none; None when it has gone, or lies on a file system like vfat."""
    head, _, name = path.rpartition("/")
    if not guest.is_dir(head or "/"):
        return None
    directory = guest.open_directory(head or "/")
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", _LABEL, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return b""
        if error.errno in {errno.ENOENT, errno.ENOTSUP}:
            return None
        raise GuestError(f"{shown(path)}: its SELinux label cannot be read: {error.strerror}") from error
    finally:
        os.close(directory)
