# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes in order -> a file, compressed on the way. Here, and not in the helper VM, whose processor may be emulated."""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from snf_image_host.tools.new_images import NewImage, not_written

_GZIP = 16  # for zlib's windowBits: with a header of gzip
_THREADS = -1  # as many as there are processors


class Compression(StrEnum):
    """The values of --compress."""

    GZ = "gz"
    XZ = "xz"
    ZST = "zst"
    NONE = "none"

    @property
    def extension(self) -> str:
        """What it adds to a file's name."""
        return "" if self is Compression.NONE else f".{self}"


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(compression: Compression) -> _Compressor:
    """What is not of the standard library is imported when it is wanted: the manual is made where it is missing."""
    match compression:
        case Compression.GZ:
            from isal import isal_zlib  # noqa: PLC0415

            made: _Compressor = isal_zlib.compressobj(3, isal_zlib.DEFLATED, isal_zlib.MAX_WBITS | _GZIP)
            return made
        case Compression.XZ:
            return lzma.LZMACompressor(preset=3)
        case Compression.ZST:
            import zstandard  # noqa: PLC0415

            return zstandard.ZstdCompressor(level=6, threads=_THREADS, write_checksum=True).compressobj()
        case Compression.NONE:
            return _Plain()


@dataclass
class Writer:
    """What is written comes compressed at the end of `file`. `taken` counts bytes before that.

    The compressor is made with the first bytes: its threads must not be there when helper VMs are forked.
    """

    file: NewImage
    compression: Compression
    told: Callable[[int], None] = lambda _taken: None
    taken: int = 0
    _compressor: _Compressor | None = field(default=None, repr=False)

    def write(self, piece: memoryview) -> None:
        """Raises ImageError."""
        self._compressor = self._compressor or _compressor(self.compression)
        self._put(self._compressor.compress(bytes(piece)))
        self.taken += len(piece)
        self.told(self.taken)

    def finish(self) -> None:
        """All is written. Raises ImageError."""
        if self._compressor:
            self._put(self._compressor.flush())

    def _put(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self.file.fd, view) :]
        except OSError as error:
            raise not_written(self.file.name, error) from error
