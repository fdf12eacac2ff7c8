# SPDX-License-Identifier: GPL-2.0-or-later
"""gzip, xz, bzip2 and lz4: streams of one kind behind one another, up to the end of the file and not a byte less."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol, cast

from snf_image_host.decoding.stored import PIECE, Stored
from snf_image_host.decoding.xz_stream import XzStream
from snf_image_host.decoding.xz_workers import MEMORY as XZ_MEMORY
from snf_image_shared.errors import ImageError

PUBLISH = "publish the image again"
_FIRST_PIECE = 4096  # bytes for a new member; what it leaves is copied, so the many are given little
_OUTPUT = 1 << 20
_MOST_EMPTY = 1000  # members in a row without a byte in them; no program writes even two
_ZEROS = bytes(PIECE)


class Decompressor(Protocol):
    """What the standard library's decompressors have in common, and what isal and lz4 took over."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview, max_length: int) -> bytes: ...


class Members:
    """The decompressed bytes of all members. `new` makes the decompressor of one."""

    def __init__(self, stored: Stored, kind: str) -> None:
        self._stored = stored
        self._kind = kind
        self._new, self._errors = _codec(kind)
        self._member = self._new()
        self._is_inside = True  # the first member is there: somebody has recognised it
        self._produced = 0
        self._empty = 0
        self._piece = _FIRST_PIECE

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the end. Raises ImageError."""
        while self._is_inside or self._begins():
            piece = self._stored.take(self._piece) if self._member.needs_input else memoryview(b"")
            if self._member.needs_input and not piece:
                raise ImageError(f"is cut off, its {self._kind} stream has no end: {PUBLISH}")
            output = self._decompressed(piece, min(len(view), _OUTPUT))
            self._piece = min(2 * self._piece, PIECE)
            self._produced += len(output)
            if self._member.eof:
                self._end()
            if output:
                view[: len(output)] = output
                return len(output)
        return 0

    def _decompressed(self, piece: memoryview, most: int) -> bytes:
        try:
            return self._member.decompress(piece, most)
        except lzma.LZMAError as error:
            if "emory usage limit" in str(error):
                raise ImageError(
                    f"needs more than {XZ_MEMORY >> 20} MiB of memory to be decompressed, for a dictionary that large "
                    "it was compressed with: compress it with xz's usual presets"
                ) from error
            raise ImageError(f"is damaged, its xz stream cannot be decompressed ({error}): {PUBLISH}") from error
        except self._errors as error:
            raise ImageError(
                f"is damaged, its {self._kind} stream cannot be decompressed ({error}): {PUBLISH}"
            ) from error

    def _end(self) -> None:
        self._stored.give_back(len(self._member.unused_data or b""))  # lz4 says None
        self._is_inside = False
        self._empty = 0 if self._produced else self._empty + 1
        if self._empty > _MOST_EMPTY:
            raise ImageError(f"has more than {_MOST_EMPTY} empty {self._kind} streams in a row: {PUBLISH}")

    def _begins(self) -> bool:
        """Start the next member, if there is one. Raises ImageError for what is none."""
        if self._kind == "xz":
            self._skip_padding()
        head = self._stored.take(len(_MAGICS[self._kind]))
        if not head:
            return False
        self._stored.give_back(len(head))
        if not self._may_begin(bytes(head)):
            raise ImageError(f"has other bytes behind its {self._kind} stream: {PUBLISH}")
        self._member, self._is_inside = self._new(), True
        self._produced, self._piece = 0, _FIRST_PIECE
        return True

    def _may_begin(self, head: bytes) -> bool:
        """Whether a member can begin with these bytes, which are cut off where a piece of the file ends."""
        if self._kind == "lz4" and 0x50 <= head[0] <= 0x5F:
            return _SKIPPABLE.startswith(head[1:])
        return _MAGICS[self._kind].startswith(head)

    def _skip_padding(self) -> None:
        """xz files may have zeros behind a stream, in fours (xz-file-format 2.2)."""
        count = 0
        while (piece := self._stored.take()) and not piece[0]:
            zeros = len(piece) - len(bytes(piece).lstrip(b"\0"))
            self._stored.give_back(len(piece) - zeros)
            count += zeros
        self._stored.give_back(len(piece))
        if count % 4:
            raise ImageError(f"has other bytes behind its xz stream: {PUBLISH}")


class _Zlib:
    """zlib as a Decompressor, where there is no isal."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._may_have_more = False

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._may_have_more

    def decompress(self, data: memoryview, max_length: int) -> bytes:
        output = self._member.decompress(self._member.unconsumed_tail or data, max_length)
        self._may_have_more = len(output) == max_length or bool(self._member.unconsumed_tail)
        return output


_SKIPPABLE = b"\x2a\x4d\x18"  # behind a byte from 50 to 5f: lz4_Frame_format.md, skippable frames
_MAGICS = {"gzip": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00", "bzip2": b"BZh", "lz4": b"\x04\x22\x4d\x18"}


def _codec(kind: str) -> tuple[Callable[[], Decompressor], tuple[type[Exception], ...]]:
    """What makes a decompressor, and what that raises for bytes that are damaged."""
    match kind:
        case "gzip":
            try:
                isal = importlib.import_module("isal.igzip_lib")
            except ImportError:  # Debian 12 has no package of it
                return _Zlib, (zlib.error,)
            return lambda: cast(Decompressor, isal.IgzipDecompressor(flag=isal.DECOMP_GZIP)), (isal.IsalError,)
        case "xz":
            return XzStream, (lzma.LZMAError,)
        case "bzip2":
            return bz2.BZ2Decompressor, (OSError, ValueError)
        case _:
            frame = importlib.import_module("lz4.frame")
            return lambda: cast(Decompressor, frame.LZ4FrameDecompressor()), (RuntimeError,)
