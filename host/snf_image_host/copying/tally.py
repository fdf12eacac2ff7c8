# SPDX-License-Identifier: GPL-2.0-or-later
"""What has been written to a disk, in four bytes, whoever wrote it, from several threads and in whatever order.

It is the CRC-32 of the disk with zeros wherever nothing was written. A CRC is linear: each piece adds its own, moved to
its place, so long as no byte is written twice. It tells what a disk lost or garbled, not what somebody meant to forge.
"""

from __future__ import annotations

import functools
import struct
import threading
import zlib

TALLY_SIZE = 4096  # bytes of memory that a tally takes; it may be shared with another process that writes instead
_FORM = struct.Struct("=II")  # whether it is wanted; the sum
_ONE = 1 << 31  # the polynomial 1, the lowest power being the highest bit, as everywhere in this CRC
_MODULUS = 0xEDB88320
_ALL = 0xFFFFFFFF
_lock = threading.Lock()


class Tally:
    """`memory` is of TALLY_SIZE bytes, zeros at first; `size` is the disk's, in bytes."""

    def __init__(self, memory: memoryview, size: int) -> None:
        self._memory = memory
        self._size = size

    @property
    def is_wanted(self) -> bool:
        """Whether add() has to see what is written."""
        return bool(_FORM.unpack_from(self._memory)[0])

    def want(self) -> None:
        """Before the first write."""
        _FORM.pack_into(self._memory, 0, 1, 0)

    @property
    def sum(self) -> int:
        """Of all that was added."""
        return int(_FORM.unpack_from(self._memory)[1])

    def add(self, piece: memoryview, offset: int) -> None:
        """`piece` is at that place of the disk now. Python's lock is not held meanwhile."""
        own = sum_of(piece, offset, self._size)
        with _lock:
            _FORM.pack_into(self._memory, 0, 1, self.sum ^ own)


def sum_of(piece: memoryview, offset: int, size: int) -> int:
    """The tally of a disk of `size` bytes that has nothing else on it. Those of several pieces are combined by xor."""
    own = zlib.crc32(piece, _ALL) ^ _ALL  # without the ones that a CRC usually begins and ends with
    return _product(own, _power(8 * (size - offset - len(piece))))


def _product(one: int, other: int) -> int:
    """Of two polynomials over GF(2), modulo that of CRC-32."""
    result = 0
    while one:
        if one & _ONE:
            result ^= other
        one = one << 1 & _ALL
        other = other >> 1 ^ (_MODULUS if other & 1 else 0)
    return result


def _power(exponent: int) -> int:
    """x to that power."""
    result = _ONE
    for bit in range(exponent.bit_length()):
        if exponent >> bit & 1:
            result = _product(result, _squared(bit))
    return result


@functools.cache
def _squared(times: int) -> int:
    """x, squared so many times."""
    if not times:
        return _ONE >> 1
    return _product(_squared(times - 1), _squared(times - 1))
