# SPDX-License-Identifier: GPL-2.0-or-later
"""Ignition's configuration (coreos.github.io/ignition/configuration-v3_0): what is ordered, as one JSON document.

Ours lies inside another as one of the documents that Ignition merges, so that one that the image brings stays. A type
of its own tells it from that one when the helper comes again. Pure: nothing here looks at a guest.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snf_image_shared.errors import GuestError

# Every Ignition of today takes the first; arguments for the kernel came with the second.
_VERSION, _VERSION_WITH_ARGUMENTS = "3.0.0", "3.3.0"
_OURS = "data:application/vnd.snf-image+json;base64,"
_OTHERS = "data:;base64,"  # RFC 2397

Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True)
class User:
    """An account that is made where it does not exist; `password` is a hash, None leaves what there is."""

    name: str
    password: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """`owner` and `group` are names or numbers of the guest, None for root."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Orders:
    """All that one configuration says; `links` by path. Of files of one path the last counts."""

    users: tuple[User, ...] = ()
    files: tuple[File, ...] = ()
    links: Mapping[str, str] | None = None
    arguments: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Json]:
        """The configuration itself."""
        files = {file.path: _file(file) for file in self.files}
        links: list[Json] = [
            {"path": path, "target": target, "overwrite": True}
            for path, target in (self.links or {}).items()
            if path not in files
        ]
        version = _VERSION_WITH_ARGUMENTS if self.arguments else _VERSION
        document: dict[str, Json] = {"ignition": {"version": version}}
        if self.users:
            document["passwd"] = {"users": [_user(user) for user in self.users]}
        storage: dict[str, Json] = {"files": list(files.values())} if files else {}
        if links:
            storage["links"] = links
        if storage:
            document["storage"] = storage
        if self.arguments:
            document["kernelArguments"] = {"shouldExist": list(self.arguments)}
        return document


def merged(ours: Mapping[str, Json], before: Iterable[str], after: Iterable[str]) -> str:
    """The text of a configuration that merges others: `before` yield to ours, ours yields to those `after`."""
    sources = [
        *(_OTHERS + _encoded(text) for text in before),
        _OURS + _encoded(_dumped(ours)),
        *(_OTHERS + _encoded(text) for text in after),
    ]
    config: Json = {"merge": [{"source": source} for source in sources]}
    return _dumped({"ignition": {"version": _VERSION, "config": config}}) + "\n"


def without_ours(text: str, path: str) -> tuple[str, ...]:
    """What merged() was given as `before` if `text` is its work, else `text` itself: the image's own configuration.

    Raises GuestError for what is no configuration of Ignition 3.
    """
    sources = _sources(checked(text, path))
    place = next((number for number, source in enumerate(sources) if source.startswith(_OURS)), None)
    if place is None:
        return (text,)
    return tuple(_decoded(source.removeprefix(_OTHERS), path) for source in sources[:place])


def checked(text: str, name: str) -> Mapping[str, Json]:
    """The document. Raises GuestError, naming it, unless it is a configuration of specification 3."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GuestError(f"{name}: not JSON ({error}), so Ignition could not read it; correct or remove it") from error
    section = document.get("ignition") if isinstance(document, dict) else None
    version = section.get("version") if isinstance(section, dict) else None
    if not isinstance(version, str) or not version.startswith("3."):
        raise GuestError(
            f"{name}: it is of version {str(version)[:20]!r} of Ignition's specification; give one of version 3"
        )
    return dict(document)


def _user(user: User) -> dict[str, Json]:
    found: dict[str, Json] = {"name": user.name}
    if user.password is not None:
        found["passwordHash"] = user.password
    if user.keys:
        found["sshAuthorizedKeys"] = list(user.keys)
    return found


def _file(file: File) -> dict[str, Json]:
    found: dict[str, Json] = {
        "path": file.path,
        "overwrite": True,
        "contents": {"source": _OTHERS + binascii.b2a_base64(file.content, newline=False).decode()},
        "mode": file.mode,
    }
    for key, name in (("user", file.owner), ("group", file.group)):
        if name:
            found[key] = {"id": int(name)} if name.isascii() and name.isdecimal() else {"name": name}
    return found


def _sources(document: Mapping[str, Json]) -> list[str]:
    section = document.get("ignition")
    config = section.get("config") if isinstance(section, dict) else None
    merge = config.get("merge") if isinstance(config, dict) else None
    items = merge if isinstance(merge, list) else []
    return [str(item.get("source")) for item in items if isinstance(item, dict)]


def _dumped(document: Json) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True)


def _encoded(text: str) -> str:
    return binascii.b2a_base64(text.encode("utf-8", "surrogateescape"), newline=False).decode()


def _decoded(text: str, path: str) -> str:
    try:
        return binascii.a2b_base64(text, strict_mode=True).decode("utf-8", "surrogateescape")
    except ValueError as error:
        raise GuestError(f"{path}: what it merges is no base64; correct or remove it") from error
