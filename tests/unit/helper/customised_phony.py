# SPDX-License-Identifier: GPL-2.0-or-later
"""Every task over a phony guest, and the tree as a picture in which what is random has a name."""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from phony_guests import PHONY
from snf_image_helper.guest import Guest
from snf_image_helper.planning import plan_for
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import BSD, Task
from snf_image_shared.errors import SnfImageError
from snf_image_shared.job import JOB_VERSION, Ipv4Method, Ipv6Method, Job, Nic, PersonalityFile, Route, Secrets
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import guest_in

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl web@example.com"
NICS = (
    Nic(
        "52:54:00:00:00:01",
        ipv4=Ipv4Method.STATIC,
        address4="192.0.2.7/24",
        gateway4="192.0.2.1",
        ipv6=Ipv6Method.STATIC,
        address6="2001:db8::7/64",
        gateway6="fe80::1",
        routes=(Route("10.0.0.0/8", "192.0.2.254"),),
        nameservers=("192.0.2.53", "2001:db8::53"),
        search=("example.com",),
        mtu=1400,
    ),
    Nic("52:54:00:00:00:02", ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC),
)
JOB = Job(
    JOB_VERSION,
    "web.example.com",
    "web.example.com",
    "diskdump",
    ("disk-0",),
    properties={"USERS": "root", "TIMEZONE": "Europe/Athens", "CONSOLE": "serial", "KERNEL_ARGS": "mitigations=off"},
    personality=(PersonalityFile("/etc/motd", base64.b64encode(b"hello\n").decode(), "root", "root", 0o644),),
    nics=NICS,
    secrets=Secrets(password="secret", authorized_keys=KEY),
    seed="5eed" * 16,
)
# The job as seen by an image with cloud-init; what cloud-init cannot do is not asked for.
CLOUD_JOB = replace(JOB, properties={**JOB.properties, "CLOUD_INIT": "yes"})
# These work on devices, which a tree does not have.
_ON_DEVICES = frozenset({"FilesystemResizeMounted", "AddSwap"})

Entry = tuple[str, str]
Picture = dict[str, Entry]


@dataclass(frozen=True)
class Run:
    """What the tasks said, in order: warnings, and the error of each that failed."""

    said: tuple[str, ...]


def family_of(guest: str) -> OsFamily:
    """Of a phony guest, by its name."""
    return next((family for family in BSD if guest.startswith(f"phony-{family}-")), OsFamily.LINUX)


def tasks_of(job: Job, family: OsFamily = OsFamily.LINUX) -> Iterator[Task[Guest]]:
    """All tasks that the job makes run on a mounted guest and that need nothing but its tree."""
    plan = plan_for(job, System(family, 1))
    return (step.task for step in plan.on_guest.steps if step.skipped is None and step.task.name not in _ON_DEVICES)


def customise(
    root: Path, job: Job, after_each: Callable[[], None] = lambda: None, family: OsFamily = OsFamily.LINUX
) -> Run:
    """Every task, also after one that failed."""
    said: list[str] = []
    with guest_in(root) as guest:
        guest.system = System(family, 1)
        for task in tasks_of(job, family):
            listener = Listener()
            try:
                task.run(guest, job, listener.reporter)
            except SnfImageError as error:
                said += [f"{task.name} warns: {text}" for text in listener.warnings]
                said.append(f"{task.name} fails: {error}")
            else:
                said += [f"{task.name} warns: {text}" for text in listener.warnings]
            after_each()
    return Run(tuple(text.replace(str(root), "") for text in said))


def made(root: Path, name: str) -> Path:
    """A phony guest laid out."""
    return PHONY[name].make(root)


def picture(root: Path, known: frozenset[str] = frozenset()) -> Picture:
    """Every file, link and directory: how it is owned, and what it holds. Identifiers in `known` are shown."""
    return {f"/{path.relative_to(root)}": _entry(path, known) for path in sorted(root.rglob("*"))}


def identifiers(root: Path) -> frozenset[str]:
    """What of the template must not be taken for something new: ids and keys."""
    texts = (
        path.read_bytes().decode("latin-1") for path in root.rglob("*") if path.is_file() and not path.is_symlink()
    )
    return frozenset(found for text in texts for found in _RANDOM_ID.findall(text))


def state(root: Path) -> Mapping[str, tuple[object, ...]]:
    """All that a second run must leave as it was, times and inodes included."""
    return {f"/{path.relative_to(root)}": _state(path) for path in root.rglob("*")}


def changes(before: Picture, after: Picture) -> str:
    """What differs, as a text for a person: one block a path, whole files."""
    blocks = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if new is None:
            blocks.append(f"--- {path} is gone\n")
            continue
        word = "is new" if old is None else "changed"
        blocks.append(f"--- {path} {word}: {new[0]}\n" + "".join(f"    {line}\n" for line in new[1].splitlines()))
    return "".join(blocks)


_RANDOM_ID = re.compile(r"\b[0-9a-f]{32}\b")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----\n)[^-]+(-----END)")
_PUBLIC_KEY = re.compile(r"\b((?:ssh-|ecdsa-)\S+) (AAAA[0-9A-Za-z+/=]+)")
_SHADOW = re.compile(r"^([^:\n]*):(\$(?:6|5|y)\$)[^:\n]+:\d{5,}:", re.MULTILINE)


def _entry(path: Path, known: frozenset[str]) -> Entry:
    if path.is_symlink():
        return "link", f"-> {path.readlink()}"
    found = path.stat()
    owned = f"{found.st_mode & 0o7777:04o} {found.st_uid} {found.st_gid}"
    if path.is_dir():
        return f"directory {owned}", ""
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"file {owned}", f"{len(content)} bytes that are no text, of CRC {zlib.crc32(content):08x}"
    return f"file {owned}", _named(text, known)


def _named(text: str, known: frozenset[str]) -> str:
    """The text with a name in the place of everything that is different every time."""
    text = _RANDOM_ID.sub(lambda match: match[0] if match[0] in known else "RANDOM-ID", text)
    text = _PRIVATE_KEY.sub(r"\1RANDOM-KEY\n\2", text)
    text = _PUBLIC_KEY.sub(lambda match: match[0] if match[2] in KEY else f"{match[1]} RANDOM-KEY", text)
    return _SHADOW.sub(r"\1:\2RANDOM-SALT-AND-HASH:TODAY:", text)


def _state(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    # A directory's time changes when a temporary file comes and goes.
    times = () if path.is_dir() else (found.st_ino, found.st_mtime_ns)
    return found.st_mode, found.st_uid, found.st_gid, content, attributes, *times
