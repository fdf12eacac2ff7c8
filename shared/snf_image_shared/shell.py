# SPDX-License-Identifier: GPL-2.0-or-later
"""What a SHELL is asked to run, and how its input and output share the one stream between node and helper VM.

Each frame is a letter, four bytes of length (big-endian) and as many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

_HEADER = struct.Struct(">cI")
LARGEST = 64 << 10  # bytes of one frame's content


class Frame(StrEnum):
    """The first five come from the node, the others from the helper VM."""

    INPUT = "i"
    END_OF_INPUT = "e"
    SIZE = "w"
    HANG_UP = "k"
    GOODBYE = "b"
    STARTED = "s"
    OUTPUT = "o"
    ERRORS = "r"
    ENDED = "x"


@dataclass(frozen=True)
class Terminal:
    """What the operator sits at; `kind` is TERM."""

    kind: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Shell:
    """What is run: `command`, or an interactive shell if it is empty.

    Without a `terminal` input and both outputs are pipes. `timeout` is in seconds, 0 for none.
    """

    command: tuple[str, ...] = ()
    writable: bool = False
    mount: bool = True
    terminal: Terminal | None = None
    timeout: int = 0


def packed(kind: Frame, content: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind.encode("ascii"), len(content)) + content


def packed_size(rows: int, columns: int) -> bytes:
    """The frame that tells of a window's size."""
    return packed(Frame.SIZE, struct.pack(">HH", rows, columns))


def unpacked_size(content: bytes) -> tuple[int, int]:
    """Rows and columns. Raises ValueError."""
    if len(content) != 4:
        raise ValueError("a window's size has four bytes")
    rows, columns = struct.unpack(">HH", content)
    return rows, columns


@dataclass
class Unpacker:
    """Frames out of bytes that come in pieces."""

    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes | memoryview) -> Iterator[tuple[Frame, bytes]]:
        """The frames that are complete now. Raises ValueError for what is none."""
        self._rest += chunk
        while len(self._rest) >= _HEADER.size:
            letter, length = _HEADER.unpack_from(self._rest)
            kind = Frame(letter.decode("latin-1"))
            if length > LARGEST:
                raise ValueError(f"a frame of {length} bytes")
            end = _HEADER.size + length
            if len(self._rest) < end:
                return
            content = bytes(self._rest[_HEADER.size : end])
            del self._rest[:end]
            yield kind, content
