# SPDX-License-Identifier: GPL-2.0-or-later
"""zstd: frames behind one another, up to the end of the file and not a byte less.

The library does not say that the last frame is cut off, nor how much memory a frame will take. Both stand in headers,
and so does where the next one is (RFC 8878, 3.1): they are read on the way to the library.
"""

from __future__ import annotations

from typing import IO, cast

import zstandard

from snf_image_host.decoding.stored import PIECE, Stored
from snf_image_shared.errors import ImageError

PUBLISH = "publish the image again"
_WINDOW = 27  # logarithm of the bytes a frame may refer back to, as in the program zstd
_MAGIC, _SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_SKIPPABLE_FIRST = bytes(range(0x50, 0x60))
_MAGIC_SIZE, _BLOCK_HEADER = 4, 3
_RLE, _RESERVED = 1, 3  # types of a block
_MOST_EMPTY = 1000  # frames in a row without a byte in them; no program writes even two


class Frames:
    """The decompressed bytes of all frames."""

    def __init__(self, stored: Stored) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW)
        self._reader = decompressor.stream_reader(
            cast(IO[bytes], _Watched(stored)), read_size=PIECE, read_across_frames=True
        )

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the end. Raises ImageError."""
        try:
            return self._reader.readinto(view)
        except zstandard.ZstdError as error:
            reason = str(error).rpartition(": ")[2]
            raise ImageError(f"is damaged, its zstd stream cannot be decompressed ({reason}): {PUBLISH}") from error


class _Watched:
    """The stored bytes, with an eye on the headers in them."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._skip = 0  # bytes up to the next header
        self._header = b""  # what there is of one
        self._is_inside = False
        self._has_checksum = False
        self._is_empty = True
        self._empty = 0

    def read(self, size: int = PIECE) -> bytes:
        piece = bytes(self._stored.take(size))
        if not piece and (self._is_inside or self._skip or self._header):
            raise ImageError(f"is cut off, its zstd stream has no end: {PUBLISH}")
        self._watch(piece)
        return piece

    def _watch(self, piece: bytes) -> None:
        position = 0
        while position < len(piece):
            if self._skip:
                step = min(self._skip, len(piece) - position)
                self._skip -= step
            else:
                step = min(self._missing(), len(piece) - position)
                self._header += piece[position : position + step]
                if not self._missing():
                    header, self._header = self._header, b""
                    self._block(header) if self._is_inside else self._frame(header)
            position += step

    def _missing(self) -> int:
        """Bytes that the header we are in still lacks."""
        have = len(self._header)
        if self._is_inside:
            return _BLOCK_HEADER - have
        is_skippable = self._header[:1] in _SKIPPABLE_FIRST and _SKIPPABLE.startswith(self._header[1:_MAGIC_SIZE])
        if have and not is_skippable and not _MAGIC.startswith(self._header[:_MAGIC_SIZE]):
            raise ImageError(f"has other bytes behind its zstd stream: {PUBLISH}")
        if have < _MAGIC_SIZE + 1:
            return _MAGIC_SIZE + 1 - have
        return (_MAGIC_SIZE + 4 if is_skippable else zstandard.frame_header_size(self._header)) - have

    def _frame(self, header: bytes) -> None:
        if not header.startswith(_MAGIC):
            self._skip = int.from_bytes(header[_MAGIC_SIZE:], "little")
            self._ended()
            return
        found = zstandard.get_frame_parameters(header)
        if found.dict_id:
            raise ImageError("is compressed with a dictionary, which is not here: compress it without")
        if found.window_size > 1 << _WINDOW:
            raise ImageError(
                f"needs {found.window_size >> 20} MiB of memory to be decompressed: compress it without --long, or "
                f"with --long={_WINDOW} at most"
            )
        self._is_inside, self._has_checksum = True, found.has_checksum
        self._is_empty = True

    def _block(self, header: bytes) -> None:
        fields = int.from_bytes(header, "little")
        is_last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
        self._is_empty = self._is_empty and not size
        self._skip = 1 if kind == _RLE else size
        if is_last:
            self._skip += 4 * self._has_checksum
            self._is_inside = False
            self._ended()

    def _ended(self) -> None:
        self._empty = self._empty + 1 if self._is_empty else 0
        self._is_empty = True
        if self._empty > _MOST_EMPTY:
            raise ImageError(f"has more than {_MOST_EMPTY} empty zstd frames in a row: {PUBLISH}")
