# SPDX-License-Identifier: GPL-2.0-or-later
"""Arguments of the guest's kernel: what is asked for, and how it comes into a line that has some already.

A line's own words stay as they are written, quotes and variables included; only ours are quoted here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snf_image_shared.errors import GuestError

PROPERTY = "KERNEL_ARGS"
SERIAL_PORT, SERIAL_SPEED = "ttyS0", 115200
_LONGEST = 1024  # characters; a kernel takes 2048 (COMMAND_LINE_SIZE of x86), and has some already
# Given several times, each time with another value (admin-guide/kernel-parameters.txt, dracut.cmdline(7)).
_REPEATED = frozenset({"console", "earlycon", "hugepages", "hugepagesz", "memmap", "ip", "nameserver", "vlan", "bond"})
_REPEATED_OF_DRACUT = "rd."
# GRUB hands quotes and backslashes on with a backslash before them (grub-core/lib/cmdline.c), which no kernel undoes.
_UNWRITABLE = frozenset("'\\")
# A quote that is not closed goes to the end. Nothing follows the repetition that could fail, so nothing is tried twice.
_TOKEN = re.compile(r"""(?:[^ \t"']+|"[^"]*(?:"|\Z)|'[^']*(?:'|\Z))+""")
_NO_QUOTES = str.maketrans("", "", "\"'\\")
_GRUB_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+=~^*?!-]+")


@dataclass(frozen=True)
class Arguments:
    """What a kernel is to be started with besides: `words` without quotes, perhaps with blanks in them.

    `serial` makes the first serial port the console that programs see, and keeps the screen as another; at `speed`
    bits a second, or None for what is configured already, if anything is.
    """

    words: tuple[str, ...] = ()
    serial: bool = False
    speed: int | None = None

    def __bool__(self) -> bool:
        return self.serial or bool(self.words)

    @property
    def baud(self) -> int:
        """The speed for what has none yet."""
        return self.speed or SERIAL_SPEED


Quote = Callable[[str], str]


def parse(text: str) -> tuple[str, ...]:
    """The words of the property, at blanks outside double quotes, as the kernel splits them. Raises GuestError."""
    if len(text) > _LONGEST:
        raise GuestError(f"property {PROPERTY} is longer than {_LONGEST} characters; shorten it")
    found = []
    for token in split(text):
        word = bare(token)
        if not token.isascii() or not token.isprintable() or _UNWRITABLE.intersection(token) or token.count('"') % 2:
            raise GuestError(
                f"property {PROPERTY}: {token[:80]!r} cannot be handed to a kernel by every boot loader; write "
                "printable ASCII without ' and \\ and put words with blanks in double quotes"
            )
        if word.startswith("-") or not word:
            raise GuestError(f"property {PROPERTY}: {token[:80]!r} is no argument; arguments are added, not taken away")
        found.append(word)
    return tuple(found)


def split(line: str) -> list[str]:
    """The tokens of a line at blanks outside of quotes, as they are written."""
    return _TOKEN.findall(line)


def bare(token: str) -> str:
    """A token without its quotes, and the backslashes that quote those once more."""
    return token.translate(_NO_QUOTES)


def merged(tokens: Sequence[str], wanted: Arguments, quote: Quote) -> list[str]:
    """The tokens of a line with what is wanted among them; the same ones when all of it is there already.

    A word takes the place of an older one for the same thing, unless that may be said several times.
    """
    found = list(tokens)
    for word in wanted.words:
        key, has_value, _ = word.partition("=")
        if any(bare(token) == word for token in found):
            continue
        same = [number for number, token in enumerate(found) if has_value and bare(token).startswith(f"{key}=")]
        if not same or key in _REPEATED or key.startswith(_REPEATED_OF_DRACUT):
            found.append(quote(word))
            continue
        found[same[0]] = quote(word)
        for number in reversed(same[1:]):
            del found[number]
    return _with_serial_console(found, wanted) if wanted.serial else found


def raw(word: str) -> str:
    """A word as the kernel itself reads it, for loaders that hand the line on as it is."""
    return f'"{word}"' if " " in word else word


def for_grub(word: str) -> str:
    """A word for GRUB's scripts, in double quotes where they do: loaders that hand the line on take them as well."""
    return word if _GRUB_PLAIN.fullmatch(word) else f"'{word}'" if "$" in word else f'"{word}"'


def for_grub_entry(word: str) -> str:
    """A word for the entries that GRUB's blscfg reads, or what they refer to. Raises GuestError.

    It looks for variables without regard to quotes (Fedora's patch "Add BLS support", expand_val()).
    """
    if "$" in word:
        raise GuestError(
            f"property {PROPERTY}: {word[:80]!r} has a $, which GRUB cannot have in its boot loader entries"
        )
    return for_grub(word)


def changed(line: str, fixed: int, wanted: Arguments, quote: Quote) -> str:
    """A line of a configuration with what is wanted among its arguments, which come after `fixed` other tokens."""
    parts = line.split(None, fixed)
    rest = parts[fixed] if len(parts) > fixed else ""
    head = line[: len(line) - len(rest)] if rest else f"{line.rstrip()} "
    tokens = split(rest)
    end = next((number for number, token in enumerate(tokens) if _ends_command(token)), len(tokens))
    found = merged(tokens[:end], wanted, quote)
    return line if found == tokens[:end] else head + " ".join((*found, *tokens[end:]))


def changed_value(value: str, wanted: Arguments, quote: Quote) -> str:
    """As changed() for a text in which all is arguments."""
    tokens = split(value)
    found = merged(tokens, wanted, quote)
    return value if found == tokens else " ".join(found)


def _ends_command(token: str) -> bool:
    """Whether a word of a script belongs to no argument: a comment, a closing brace, a separator, a line's end."""
    return token in {"}", "\\"} or token.startswith("#") or (token[0] not in "\"'" and bool(set(token) & set(";|&")))


def _with_serial_console(tokens: list[str], wanted: Arguments) -> list[str]:
    """Messages go to every console that is named, /dev/console is the last one (admin-guide/serial-console.rst)."""
    consoles = [bare(token).removeprefix("console=") for token in tokens if bare(token).startswith("console=")]
    has_screen = any(name.startswith("tty") and not name.startswith("ttyS") for name in consoles)
    if has_screen and consoles[-1].partition(",")[0] == SERIAL_PORT and _is_fast_enough(consoles[-1], wanted):
        return tokens
    rest = [token for token in tokens if bare(token).partition(",")[0] != f"console={SERIAL_PORT}"]
    screen = [] if has_screen else ["console=tty0"]
    return [*rest, *screen, f"console={SERIAL_PORT},{wanted.baud}"]


def _is_fast_enough(console: str, wanted: Arguments) -> bool:
    """Whether the speed is the one that was asked for, if one was; a kernel that is told none takes 9600."""
    mode = console.partition(",")[2] or "9600"
    return wanted.speed is None or re.match(r"\d*", mode)[0] == str(wanted.speed)  # type: ignore[index]
