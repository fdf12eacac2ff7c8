# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources and targets by name, in the order in which they are asked, and which of them the administrator turned off.

/etc/snf-image/backends/src and dst hold, for each, NAME.priority (one number) and NAME.disabled (that it exists is
enough); NAME.conf is read with the other settings. Programs of the administrator's own in these places are not run yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from snf_image_host.image_names import NO_IMAGE
from snf_image_shared.errors import RequestError

PRIORITY = 50  # of a source or target that neither has a number of its own nor a file with one


class Kind(StrEnum):
    """Where images come from, and where they go to; the value is the directory's name."""

    SOURCE = "src"
    TARGET = "dst"


# The numbers that snf-image always came with.
BUILT_IN: Mapping[Kind, Mapping[str, int]] = {
    Kind.SOURCE: {"null": 30, "local": 10},
    Kind.TARGET: {"uri": 20, "local": 10},
}
# Names that came with older versions: their files are on old nodes and do no harm.
RETIRED = frozenset({"network", "pithos", "rbd"})
_SUFFIXES = (".conf", ".priority", ".disabled")


@dataclass(frozen=True)
class Backend:
    """One source or target. `disabled_by` is the file that turns it off."""

    kind: Kind
    name: str
    priority: int = PRIORITY
    disabled_by: Path | None = None

    def __str__(self) -> str:
        return f"{'source' if self.kind is Kind.SOURCE else 'target'} {self.name!r}"


def ranked(backends: Iterable[Backend], kind: Kind) -> tuple[Backend, ...]:
    """Those that are not turned off, in the order in which they are asked: higher numbers first, then z before a."""
    enabled = [backend for backend in backends if backend.kind is kind and not backend.disabled_by]
    return tuple(sorted(enabled, key=lambda backend: (backend.priority, backend.name), reverse=True))


def read_backends(directory: Path, names: Mapping[Kind, Mapping[str, int]]) -> tuple[tuple[Backend, ...], list[str]]:
    """What the files in `directory`/src and dst say of each of `names` (with its own priority), and warnings."""
    backends, warnings = [], list[str]()
    for kind, priorities in names.items():
        for name, own in priorities.items():
            priority, doubts = _priority(directory / kind / f"{name}.priority", own)
            disabled = directory / kind / f"{name}.disabled"
            backend = Backend(kind, name, priority, disabled if _is_there(disabled) else None)
            backends.append(backend)
            warnings += doubts
            if backend.disabled_by:
                warnings.append(f"{disabled}: the {backend} is turned off; remove the file to have it back")
        warnings += _strangers(directory / kind, kind, {*priorities, *RETIRED})
    return tuple(backends), warnings


def refuse_disabled(backends: Iterable[Backend], img_id: str, target: str = "local") -> None:
    """Raise RequestError if what serves this image, or a first disk of this kind ("local" or "uri"), was turned off."""
    wanted = {Kind.SOURCE: "null" if img_id == NO_IMAGE else "local", Kind.TARGET: target}
    for backend in backends:
        if backend.disabled_by and backend.name == wanted[backend.kind]:
            what = "OS parameter img_id: this kind of image" if backend.kind is Kind.SOURCE else "this kind of disk"
            raise RequestError(
                f"{what} needs the {backend}, which {backend.disabled_by} turns off on this node; "
                "remove that file, or use another kind"
            )


def _strangers(directory: Path, kind: Kind, known: Set[str]) -> list[str]:
    found = [path for path in sorted(directory.glob("*")) if path.suffix in _SUFFIXES and path.stem not in known]
    return [f"{path}: there is no {Backend(kind, path.stem)} in this version; remove the file" for path in found]


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


def _is_there(path: Path) -> bool:
    """Also as a link that leads nowhere: whoever made it meant it."""
    try:
        path.lstat()
    except OSError:
        return False
    return True
