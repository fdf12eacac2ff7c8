# SPDX-License-Identifier: GPL-2.0-or-later
"""Where hooks run: the helper's own root, in which they may write, and in it the files that they know from the node.

What they write there is memory and gone afterwards; the guest alone is real. Each has name spaces of its own for mounts
and processes: what it starts ends with it, and what it unmounts is still mounted for us.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import snf_image_helper
import snf_image_shared
from snf_image_helper import cloud_init, inputs
from snf_image_helper.disks.filesystems import unmount
from snf_image_helper.guest import Guest
from snf_image_shared.deployment import Hooks, Input
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.pipeline import chain
from snf_image_shared.process import SEARCH_PATH, Limits, ProcessError, run

PLACE = Path("/run/snf-image/hooks")
OS_DIRECTORY = "/usr/share/ganeti/os/image"  # where hooks are started, and find common.sh
_CODE = tuple(dict.fromkeys(str(Path(each.__path__[0]).parent) for each in (snf_image_helper, snf_image_shared)))
_SHARED = ("/dev", "/sys", "/run", *_CODE)
_LONGEST = 120 * 1024  # bytes: the kernel refuses an environment string of 128 KiB (MAX_ARG_STRLEN)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARTITION = re.compile(r"/dev/([a-z]+)([0-9]+)")
_FILES = 120.0  # seconds for what the archives hold
# The first process of the name space is timeout(1), without a time: it outlives the hook, and all others end with it.
_START = """\
set -e
cd "$1"; shift
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work hooks root
mount -t proc proc root/proc
for each in $SHARED; do mkdir -p "root$each"; mount --rbind "$each" "root$each"; done
mount -o remount,bind,dev,suid,exec "root$TARGET"
echo 1000 >/proc/self/oom_score_adj
unset SHARED
exec timeout --foreground 0 chroot root sh -c 'cd "$0" && exec "$@"' "$@"
"""


@dataclass(frozen=True)
class Room:
    """What hooks can be run in, while it is open."""

    environment: Mapping[str, str]

    def command(self, hooks: Hooks, name: str) -> list[str]:
        """The command that runs a hook, in the environment of the room."""
        confined = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _START, "sh", str(PLACE)]
        return [*confined, OS_DIRECTORY, f"{hooks.directory}/{name}", *hooks.arguments]


@dataclass(frozen=True)
class Packed:
    """An archive that is open, and where hooks look for what is in it."""

    archive: Input
    fd: int
    at: str = "/"


@contextmanager
def opened_archives(hooks: Hooks, job: Job) -> Iterator[tuple[Packed, ...]]:
    """What hooks get to see of the node. Raises GuestError, OSError."""
    with inputs.opened(hooks.archive) as fd:
        if job.overlay and hooks.overlay:
            with inputs.opened(job.overlay) as overlay:
                yield Packed(hooks.archive, fd), Packed(job.overlay, overlay, hooks.overlay)
        else:
            yield (Packed(hooks.archive, fd),)


@contextmanager
def room_for(archives: Sequence[Packed], guest: Guest, job: Job, hooks: Hooks) -> Iterator[Room]:
    """Make it, and take it away. Raises GuestError, ProcessError."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        run(["mount", "-t", "tmpfs", "-o", "size=50%,mode=755", "hooks", str(PLACE)])
        stack.callback(unmount, str(PLACE), lazily=True)
        for name in ("upper", "work", "root"):
            (PLACE / name).mkdir()
        for packed in archives:
            _unpack(packed)
        environment = {**_given(hooks.environment), **_places(guest)}
        started = PLACE / "upper" / OS_DIRECTORY.lstrip("/")
        started.mkdir(parents=True, exist_ok=True)
        (PLACE / "settings").write_text(_assignments(hooks.settings))
        (started / "common.sh").write_bytes(Path(__file__).with_name("common.sh").read_bytes())
        (started / "cloud_init.rb").write_text(_CLOUD_INIT)
        (started / "cloud_init.rb").chmod(0o755)
        search = f"/usr/local/sbin:/usr/local/bin:{SEARCH_PATH}:{OS_DIRECTORY}"
        own = {"PATH": search, "HOME": "/root", "SNF_IMAGE_HOOK_SETTINGS": str(PLACE / "settings")}
        own |= {"SNF_IMAGE_INSTANCE_ID": f"{job.instance}-{cloud_init.deployment(job)}", "SHARED": " ".join(_SHARED)}
        yield Room({**environment, **own})


def _unpack(packed: Packed) -> None:
    """Put the files of an archive where hooks look for them. Raises GuestError, ProcessError."""
    place = PLACE / "upper" / packed.at.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    tar = ["tar", "-x", "-C", str(place), "-f", "-", "--numeric-owner", "--same-owner", "-p"]
    try:
        chain([inputs.only(packed.archive), tar], packed.fd, Limits(timeout=_FILES))
    except ProcessError as error:
        room = os.statvfs(PLACE)
        if room.f_bavail * room.f_frsize < 1 << 20:
            raise GuestError(
                f"{packed.archive.name}: there is no room for it in the memory of the helper VM; raise HELPER_MEMORY"
            ) from error
        raise


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if _NAME.fullmatch(name) and "\0" not in value and len(value.encode("utf-8", "replace")) < _LONGEST
    }


def _places(guest: Guest) -> dict[str, str]:
    """Where the guest is, and its devices in the place of the node's."""
    boot = guest.mounts.get("/boot", "")
    return {
        "TARGET": guest.root,
        "BLOCKDEV": guest.disk.device,
        "ROOT_DEV": _partition(guest.mounts["/"]),
        "BOOT_DEV": _partition(boot) if boot else "",
        **{f"DISK_{number}_PATH": device for number, device in enumerate(guest.disk.devices)},
    }


def _partition(device: str) -> str:
    """A name that ends with "-NUMBER", by which instance-image's own hooks find the number."""
    found = _PARTITION.fullmatch(device)
    if found is None:
        return device
    link = PLACE / f"{found[1]}-{found[2]}"
    if not link.is_symlink():
        link.symlink_to(device)
    return str(link)


def _assignments(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items() if _NAME.fullmatch(name))


# instance-image's hook cloud-init starts this, and there it is a program in Ruby.
_CLOUD_INIT = f"""\
#!/usr/bin/python3 -IS
import os, sys

sys.path += {list(_CODE)}
from snf_image_helper.hooks.cloud_config import from_environment

print(from_environment(os.environ), end="")
"""
