# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to several files of the guest that belong together: decided first, then written, all of them or none."""

from __future__ import annotations

import posixpath
import re
from contextlib import suppress

from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

_QUOTED = re.compile(r"""(["'])(.*)\1[ \t]*(?:#.*)?""")


class Edits:
    """What files are to become. A file that would stay as it is is not written, a link that is right not replaced."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._texts: dict[str, str] = {}
        self._links: dict[str, str] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """What apply() is going to write, sorted."""
        return tuple(sorted((*self._texts, *self._links)))

    def text(self, path: str) -> str | None:
        """What the file says, or is to say; None when it is missing. Raises GuestError."""
        if path in self._texts:
            return self._texts[path]
        return self.guest.read_text(path, missing_ok=True)

    def put(self, path: str, text: str) -> None:
        """The file is to have this content."""
        if text != self.text(path):
            self._texts[path] = text

    def assign(self, path: str, name: str, value: str) -> None:
        """A shell-style file, made if need be, is to assign this once to the variable; all else in it stays."""
        self.put(path, assign(self.text(path) or "", name, value))

    def link(self, path: str, target: str) -> None:
        """The path is to be a symbolic link with this text, whatever it is now. Raises GuestError for a directory."""
        found = self.guest.link_target(path)
        if found is None and self.guest.is_dir(path):
            raise GuestError(f"{path}: is a directory where a link belongs; remove it from the image")
        if found != target:
            self._links[path] = target

    def apply(self) -> None:
        """Write everything, missing directories included. Raises GuestError; the files are then as they were."""
        for path in self.paths:
            self.guest.make_directory(posixpath.dirname(path))
        beside: dict[str, str] = {}
        try:
            for path, target in self._links.items():
                beside[path] = f"{posixpath.dirname(path)}/.snf-image-link-{posixpath.basename(path)}"
                self.guest.remove(beside[path], missing_ok=True)
                self.guest.symlink(target, beside[path])
            self.guest.write_texts(self._texts)
            for path in self._links:
                self.guest.rename(beside[path], path)
        except GuestError:
            for path in beside.values():
                with suppress(GuestError):
                    self.guest.remove(path, missing_ok=True)
            raise
        self._texts, self._links = {}, {}


def assigned(text: str, name: str) -> str | None:
    """The value of the last assignment in a shell-style file, without its quotes; nothing in it is expanded."""
    found = None
    for line in text.split("\n"):
        variable, is_assignment, value = line.strip().removeprefix("export ").partition("=")
        if is_assignment and variable.strip() == name:
            quoted = _QUOTED.fullmatch(value)
            found = quoted[2] if quoted else value.partition(" #")[0].strip()
    return found


def assign(text: str, name: str, value: str) -> str:
    """The shell-style file with the variable set: in the lines that set it, or else in a new one at its end.

    The value must need no quoting; it gets quotes where the line had some.
    """
    if assigned(text, name) == value:
        return text
    lines = text.split("\n")
    found = False
    for number, line in enumerate(lines):
        variable, is_assignment, old = line.partition("=")
        if is_assignment and variable.strip().removeprefix("export ").strip() == name:
            quote = old[:1] if old[:1] in {'"', "'"} else ""
            lines[number] = f"{variable}={quote}{value}{quote}"
            found = True
    if not found:
        lines[-1:] = [*filter(None, lines[-1:]), f'{name}="{value}"', ""]
    return "\n".join(lines)
