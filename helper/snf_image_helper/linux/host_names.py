# SPDX-License-Identifier: GPL-2.0-or-later
"""Where guests keep their host name, and how an old one is exchanged for a new one in those texts. Nothing is written.

A name is only ever recognised as a whole word, never as a part of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from snf_image_helper.linux.distros import Family

HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
SYSCONFIG = "/etc/sysconfig/network"
CAPITALS = "/etc/HOSTNAME"
CONF_D = "/etc/conf.d/hostname"
RC_CONF = "/etc/rc.conf"
MAILNAME = "/etc/mailname"
LONGEST = 64  # bytes: HOST_NAME_MAX of Linux
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
_UNNAMED = frozenset({"", "(none)", *("localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6")})


@dataclass(frozen=True)
class Place:
    """A file that tells the host's name, and the pattern that finds it there as the group "name".

    The first `count` finds are names, or all of them if that is 0.
    """

    path: str
    pattern: re.Pattern[str]
    count: int = 0

    def name(self, text: str) -> str:
        """The name that counts, "" when there is none: as in a shell, the last assignment wins."""
        found = [match["name"] for match in islice(self.pattern.finditer(text), self.count or None)]
        return found[-1] if found else ""

    def renamed(self, text: str, renaming: Renaming) -> str:
        """The file with every old name exchanged, all else as it was."""
        return self.pattern.sub(lambda match: _exchanged(match, renaming), text, count=self.count)


@dataclass(frozen=True)
class Renaming:
    """From one name of the instance to another, fully qualified or not. Upper and lower case are the same."""

    old: str
    new: str

    def translated(self, name: str) -> str | None:
        """What a guest of this name is to be called, in the same style; None if it is not the instance's old name."""
        word = _folded(name)
        if is_unnamed(word):
            return None
        if word == _folded(self.old):
            return self.new if len(self.new) <= LONGEST else short(self.new)
        return short(self.new) if word == _folded(short(self.old)) else None

    def is_new(self, name: str) -> bool:
        """Whether a guest of this name has its new one already."""
        return _folded(name) in {_folded(self.new), _folded(short(self.new))} and not is_unnamed(name)

    def aliases(self, name: str) -> tuple[str, ...]:
        """What stands for `name` on a line of /etc/hosts, () if it is not the old one."""
        word = _folded(name)
        if is_unnamed(word):
            return ()
        if word == _folded(self.old):
            # An instance without a domain had no other name on the line to carry the short form.
            return (self.new,) if "." in word else names(self.new)
        return (short(self.new),) if word == _folded(short(self.old)) else ()


def is_host_name(name: str) -> bool:
    """Whether this may stand in any of the files; an underscore is allowed, as Ganeti does."""
    return len(name) <= 253 and _NAME.fullmatch(name) is not None


def is_unnamed(name: str) -> bool:
    """Whether this says no more than that nobody has given the host a name."""
    return _folded(name) in _UNNAMED


def short(name: str) -> str:
    """The name without its domain."""
    return name.partition(".")[0]


def names(name: str) -> tuple[str, ...]:
    """The name, and its short form if that differs."""
    return (name,) if short(name) == name else (name, short(name))


def places(family: Family) -> tuple[Place, ...]:
    """Where a guest of this family tells its name, the one that counts first."""
    return _PLACES.get(family, (_PLAIN,))


def renamed_hosts(text: str, renaming: Renaming) -> str:
    """hosts(5) with the old name exchanged wherever it is a name of some address; comments stay."""
    part = _folded(short(renaming.old))  # of either form; most lines of a long list are none of ours
    return "\n".join(_renamed_line(line, renaming) if part in line.lower() else line for line in text.split("\n"))


def without_template(text: str, renaming: Renaming) -> str:
    """hosts(5) for a clone: loopback addresses get the new name, others, which were the template's, lose the old one.

    A line that named nothing else goes.
    """
    part = _folded(short(renaming.old))
    lines = []
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        kept = [word for word in words[1:] if not renaming.aliases(word)]
        if part not in line.lower() or len(kept) == len(words[1:]):
            lines.append(line)
        elif words[0].startswith("127.") or words[0] == "::1":
            lines.append(_renamed_line(line, renaming))
        elif kept:
            lines.append(" ".join((words[0], *kept)))
    return "\n".join(lines)


def _plain(path: str) -> Place:
    # The first word of the first line that is neither empty nor a comment: hostname(5).
    return Place(path, re.compile(r"^[ \t]*(?P<name>[^\s#]+)", re.MULTILINE), count=1)


def _assigned(path: str, variable: str) -> Place:
    return Place(path, re.compile(rf"^[ \t]*{variable}=[\"']?(?P<name>[^\"'\s#;]*)", re.MULTILINE))


_PLAIN = _plain(HOSTNAME)
_PLACES = {
    Family.REDHAT: (_PLAIN, _assigned(SYSCONFIG, "HOSTNAME")),
    Family.SUSE: (_PLAIN, _plain(CAPITALS)),
    Family.SLACKWARE: (_plain(CAPITALS), _PLAIN),
    # The latter before OpenRC.
    Family.GENTOO: (_assigned(CONF_D, "(?:hostname|HOSTNAME)"), _PLAIN),
    Family.ARCH: (_PLAIN, _assigned(RC_CONF, "HOSTNAME")),
}
MAIL = _plain(MAILNAME)


def _exchanged(match: re.Match[str], renaming: Renaming) -> str:
    new = renaming.translated(match["name"])
    if new is None:
        return match[0]
    start, end = match.start("name") - match.start(), match.end("name") - match.start()
    return match[0][:start] + new + match[0][end:]


def _renamed_line(line: str, renaming: Renaming) -> str:
    body, mark, comment = line.partition("#")
    parts = re.findall(r"[ \t\r]+|[^ \t\r]+", body)
    words = [number for number, part in enumerate(parts) if part[0] not in " \t\r"][1:]  # the first is the address
    present = {_folded(parts[number]) for number in words}
    for number in words:
        aliases = renaming.aliases(parts[number])
        if not aliases or _folded(parts[number]) in {_folded(alias) for alias in aliases}:
            continue
        missing = [alias for alias in aliases if _folded(alias) not in present]
        present |= {_folded(alias) for alias in missing}
        parts[number] = " ".join(missing)
        if not missing:
            parts[number - 1] = ""  # and the blanks before it
    return "".join(parts) + mark + comment


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")
