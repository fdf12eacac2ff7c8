# SPDX-License-Identifier: GPL-2.0-or-later
"""A compressed cluster -> its bytes, never more of them than a cluster has."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

Unpacker = Callable[[memoryview, memoryview], bool]
ZLIB, ZSTD = 0, 1  # compression types of qcow2

_DEFLATE = ("isal.isal_zlib", "zlib")  # the same functions; the first has twice the speed
_RAW_DEFLATE = -12  # a window of 4 KiB without a header: what qcow2 has
_WINDOW = 8 << 20  # bytes of history that zstd may ask for; a cluster has 2 MiB at most


def unpacker(compression: int) -> Unpacker:
    """A function for one thread: stored bytes, memory of one cluster -> whether they fill it. They may have a tail."""
    return _zstd() if compression == ZSTD else _zlib()


def _zlib() -> Unpacker:
    library = _deflate()
    damaged: type[Exception] = library.error

    def unpack(stored: memoryview, cluster: memoryview) -> bool:
        try:
            found = library.decompressobj(_RAW_DEFLATE).decompress(stored, len(cluster))
        except damaged:
            return False
        if len(found) < len(cluster):
            return False
        cluster[:] = found
        return True

    return unpack


def _deflate() -> ModuleType:
    fast, sure = _DEFLATE
    try:
        return importlib.import_module(fast)
    except ImportError:
        return importlib.import_module(sure)


def _zstd() -> Unpacker:
    import zstandard  # noqa: PLC0415 - most images do not need it

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)

    def unpack(stored: memoryview, cluster: memoryview) -> bool:
        done = 0
        try:
            reader = decompressor.stream_reader(stored, read_size=len(stored))
            while done < len(cluster) and (count := reader.readinto(cluster[done:])):
                done += count
        except zstandard.ZstdError:
            return False
        return done == len(cluster)

    return unpack
