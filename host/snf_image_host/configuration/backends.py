# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources and targets by name, in the order in which they are asked, and which of them the administrator turned off.

/etc/snf-image/backends/src and dst hold, for each, NAME.priority (one number) and NAME.disabled (that it exists is
enough); NAME.conf is read with the other settings, and NAME.user says who a program of the administrator's own runs as.
Such programs lie in backends/src of the OS definition (contract 4.1). Nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from snf_image_host.configuration.own_programs import find_programs
from snf_image_host.images.names import NO_IMAGE
from snf_image_shared.errors import RequestError

PRIORITY = 50  # of a source or target that neither has a number of its own nor a file with one


class Kind(StrEnum):
    """Where images come from, and where they go to; the value is the directory's name."""

    SOURCE = "src"
    TARGET = "dst"


# The numbers that snf-image always came with.
BUILT_IN: Mapping[Kind, Mapping[str, int]] = {
    Kind.SOURCE: {"null": 30, "network": 20, "local": 10},
    Kind.TARGET: {"uri": 20, "local": 10},
}
# Names that came with older versions: their files are on old nodes and do no harm.
RETIRED = frozenset({"pithos", "rbd"})
_SUFFIXES = (".conf", ".priority", ".disabled", ".user")


@dataclass(frozen=True)
class Backend:
    """One source or target. `disabled_by` is the file that turns it off.

    `program` is None for what is built in; `user` is who the program runs as, "" for root, and `user_file` says so.
    """

    kind: Kind
    name: str
    priority: int = PRIORITY
    disabled_by: Path | None = None
    program: Path | None = None
    user: str = ""
    user_file: Path | None = None

    def __str__(self) -> str:
        return f"{'source' if self.kind is Kind.SOURCE else 'target'} {self.name!r}"


def built_in() -> tuple[Backend, ...]:
    """What there is without any file."""
    return tuple(Backend(kind, name, own) for kind, names in BUILT_IN.items() for name, own in names.items())


def ranked(backends: Iterable[Backend], kind: Kind) -> tuple[Backend, ...]:
    """Those that are not turned off, in the order in which they are asked: higher numbers first, then z before a."""
    enabled = [backend for backend in backends if backend.kind is kind and not backend.disabled_by]
    return tuple(sorted(enabled, key=lambda backend: (backend.priority, backend.name), reverse=True))


def has_programs(backends: Iterable[Backend]) -> bool:
    """Whether images may come from a program of the administrator's own."""
    return any(backend.program for backend in ranked(backends, Kind.SOURCE))


def read_backends(directory: Path, programs: Path) -> tuple[tuple[Backend, ...], list[str]]:
    """All of them, as the files below `directory` say, with the administrator's own below `programs`; and warnings."""
    backends, warnings = [], list[str]()
    for kind, own in BUILT_IN.items():
        found, doubts = find_programs(programs, kind, {*own})
        warnings += doubts
        if kind is Kind.TARGET and found:
            warnings += [f"{path}: programs that write disks are not run; remove it" for path in found.values()]
            found = {}
        for name in (*own, *found):
            backend, doubts = _read(
                directory / kind, Backend(kind, name, own.get(name, PRIORITY), None, found.get(name))
            )
            backends.append(backend)
            warnings += doubts
        warnings += _strangers(directory / kind, kind, {*own, *found, *RETIRED})
    return tuple(backends), warnings


def refuse_disabled(backends: Iterable[Backend], img_id: str, target: str = "local") -> None:
    """Raise RequestError if a first disk of this kind ("local" or "uri") was turned off, or `null` that is wanted.

    Whether there is a source for an image is seen when it is looked for: find_origin().
    """
    wanted = {Kind.SOURCE: "null" if img_id == NO_IMAGE else "", Kind.TARGET: target}
    for backend in backends:
        if backend.disabled_by and backend.name == wanted[backend.kind]:
            raise refusal(backend)


def refusal(disabled: Backend) -> RequestError:
    """The error that says what has turned off the one that is needed."""
    what = "OS parameter img_id: this kind of image" if disabled.kind is Kind.SOURCE else "this kind of disk"
    return RequestError(
        f"{what} needs the {disabled}, which {disabled.disabled_by} turns off on this node; "
        "remove that file, or use another kind"
    )


def _read(directory: Path, backend: Backend) -> tuple[Backend, list[str]]:
    """What the files in `directory` say of it; the number it has is the one without a file."""
    name = backend.name
    priority, warnings = _priority(directory / f"{name}.priority", backend.priority)
    disabled, says_user = directory / f"{name}.disabled", directory / f"{name}.user"
    user, user_file = "", says_user if _is_there(says_user) else None
    if user_file and backend.program:
        user, doubts = _user(user_file)
        warnings += doubts
        disabled = user_file if doubts else disabled  # never as root because a file cannot be read
    elif user_file:
        warnings.append(f"{user_file}: the {backend} is no program of yours; remove the file")
    disabled_by = disabled if _is_there(disabled) else None
    found = Backend(backend.kind, name, priority, disabled_by, backend.program, user, user_file)
    if disabled_by and disabled_by != user_file:
        warnings.append(f"{disabled}: the {backend} is turned off; remove the file to have it back")
    return found, warnings


def _strangers(directory: Path, kind: Kind, known: Set[str]) -> list[str]:
    found = [path for path in sorted(directory.glob("*")) if path.suffix in _SUFFIXES and path.stem not in known]
    return [f"{path}: there is no {Backend(kind, path.stem)} here; remove the file" for path in found]


def _priority(path: Path, own: int) -> tuple[int, list[str]]:
    try:
        with path.open("rb") as file:
            text = file.read(64).strip()
    except FileNotFoundError:
        return own, []
    except OSError as error:
        return PRIORITY, [f"{path}: cannot be read: {error.strerror}; the priority is {PRIORITY}"]
    if re.fullmatch(rb"[0-9]{1,2}", text):
        return int(text), []
    return PRIORITY, [f"{path}: not one number from 0 to 99, so the priority is {PRIORITY}; write the number alone"]


def _user(path: Path) -> tuple[str, list[str]]:
    """The name of a user, as useradd(8) allows one."""
    try:
        with path.open("rb") as file:
            text = file.read(64).strip()
    except OSError as error:
        return "", [f"{path}: cannot be read: {error.strerror}; the program is not run"]
    if re.fullmatch(rb"[A-Za-z_][A-Za-z0-9_.-]{0,31}", text) and text != b"root":
        return text.decode(), []
    return "", [f"{path}: not the name of one user other than root, so the program is not run; write the name alone"]


def _is_there(path: Path) -> bool:
    """Also as a link that leads nowhere: whoever made it meant it."""
    try:
        path.lstat()
    except OSError:
        return False
    return True
