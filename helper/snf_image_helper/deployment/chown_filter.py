# SPDX-License-Identifier: GPL-2.0-or-later
"""For restore since 0.4b49: it gives a file its capabilities and then its owner, by which Linux takes the former away.

What root creates belongs to root:root already, so the kernel is told (seccomp) that chown() to 0:0 succeeds by doing
nothing. Capabilities of files of others are lost with such a restore; that of 0.4b47 keeps all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snf_image_shared.process import run

_PLACE = Path("/run/snf-image/chown-filter")
# linux/filter.h, linux/seccomp.h, linux/audit.h; struct seccomp_data: nr, arch, instruction pointer, six arguments
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ERRNO with the error 0
_X86_64, _CHOWN, _LCHOWN = 0xC000003E, 92, 94
_NUMBER, _ARCHITECTURE, _USER, _GROUP = 0, 4, 24, 32
_PROGRAM = (
    (_LOAD, 0, 0, _ARCHITECTURE),
    (_JUMP_IF_EQUAL, 0, 8, _X86_64),
    (_LOAD, 0, 0, _NUMBER),
    (_JUMP_IF_EQUAL, 1, 0, _CHOWN),
    (_JUMP_IF_EQUAL, 0, 5, _LCHOWN),
    (_LOAD, 0, 0, _USER),
    (_JUMP_IF_EQUAL, 0, 3, 0),
    (_LOAD, 0, 0, _GROUP),
    (_JUMP_IF_EQUAL, 0, 1, 0),
    (_RETURN, 0, 0, _SUCCEED),
    (_RETURN, 0, 0, _ALLOW),
)


@contextmanager
def under_chown_filter() -> Iterator[tuple[str, ...]]:
    """What stands ahead of a command while the block runs: nothing where setpriv is older than such a restore."""
    if "--seccomp-filter" not in run(["setpriv", "--help"]).stdout:
        yield ()
        return
    _PLACE.parent.mkdir(parents=True, exist_ok=True)
    _PLACE.write_bytes(program())
    try:
        yield ("setpriv", "--seccomp-filter", str(_PLACE))
    finally:
        _PLACE.unlink()


def program() -> bytes:
    """The filter as the kernel of an x86-64 takes it: struct sock_filter, one after another."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in _PROGRAM)
