# SPDX-License-Identifier: GPL-2.0-or-later
"""Real registry hives made from a script: an empty one of our own bytes, which hivex then fills.

The layout is that of github.com/msuhanov/regf, "Windows registry file format specification".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_MULTI_SZ = 1, 2, 3, 4, 7
Value = int | str | bytes | Sequence[str]
Key = Mapping[str, "Value | Key"]

_BLOCK = 4096
_ROOT, _SECURITY = 0x20, 0x80  # offsets of the two cells from the first hive bin
_NOTHING = 0xFFFF_FFFF
_FILETIME = 133_444_736_000_000_000  # 2023-11-14
_ROOT_FLAGS = 0x2C  # KEY_HIVE_ENTRY, KEY_NO_DELETE, KEY_COMP_NAME


def make_hive(path: Path, root: Key) -> Path:
    """A hive at `path` of these keys (mappings) and values: a number is a REG_DWORD, text a REG_SZ or, with a variable
    in it, a REG_EXPAND_SZ, bytes are REG_BINARY, other sequences REG_MULTI_SZ."""
    import hivex  # noqa: PLC0415  # Debian's alone; conftest.py says where it is

    path.write_bytes(empty_hive())
    hive = hivex.Hivex(str(path), write=True)
    _fill(hive, hive.root(), root)
    hive.commit(str(path))
    return path


def empty_hive(name: str = "SYSTEM") -> bytes:
    """A hive whose root has no keys and no values."""
    cells = bytearray(_BLOCK)
    struct.pack_into("<4sII8xQI", cells, 0, b"hbin", 0, _BLOCK, _FILETIME, 0)
    key = struct.pack(
        "<2sHQ10I5I2H", b"nk", _ROOT_FLAGS, _FILETIME, 0, _NOTHING, 0, 0, _NOTHING, _NOTHING, 0, _NOTHING, _SECURITY,
        _NOTHING, 0, 0, 0, 0, 0, 4, 0,
    ) + b"ROOT"  # fmt: skip
    _put_cell(cells, _ROOT, _SECURITY - _ROOT, key)
    descriptor = _descriptor()
    security = struct.pack("<2sHIIII", b"sk", 0, _SECURITY, _SECURITY, 1, len(descriptor)) + descriptor
    length = -(-(len(security) + 4) // 8) * 8
    _put_cell(cells, _SECURITY, length, security)
    free = _SECURITY + length
    struct.pack_into("<i", cells, free, _BLOCK - free)
    return _header(name) + bytes(cells)


def with_sequences(hive: bytes, primary: int, secondary: int) -> bytes:
    """The same hive with these sequence numbers and the right checksum: different ones say that a log is pending."""
    head = bytearray(hive[:_BLOCK])
    struct.pack_into("<II", head, 4, primary, secondary)
    return _summed(head) + hive[_BLOCK:]


def _header(name: str) -> bytes:
    head = bytearray(_BLOCK)
    struct.pack_into("<4sIIQ7I", head, 0, b"regf", 1, 1, _FILETIME, 1, 3, 0, 1, _ROOT, _BLOCK, 1)
    head[48 : 48 + 2 * len(name)] = name.encode("utf-16-le")
    return _summed(head)


def _summed(head: bytearray) -> bytes:
    total = 0
    for word in struct.unpack_from("<127I", head):
        total ^= word
    struct.pack_into("<I", head, 508, total)
    return bytes(head)


def _put_cell(cells: bytearray, offset: int, length: int, content: bytes) -> None:
    """A cell in use has a negative length."""
    struct.pack_into("<i", cells, offset, -length)
    cells[offset + 4 : offset + 4 + len(content)] = content


def _descriptor() -> bytes:
    """Self-relative: owner Administrators, group SYSTEM, and full access for both ([MS-DTYP] 2.4.6)."""
    administrators = struct.pack("<BB6BII", 1, 2, 0, 0, 0, 0, 0, 5, 32, 544)
    system = struct.pack("<BB6BI", 1, 1, 0, 0, 0, 0, 0, 5, 18)
    entries = b"".join(
        struct.pack("<BBHI", 0, 2, 8 + len(sid), 0xF003F) + sid for sid in (system, administrators)
    )  # allowed, inherited by subkeys, KEY_ALL_ACCESS
    rights = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 2, 0) + entries
    owner = 20 + len(rights)
    head = struct.pack("<BBHIIII", 1, 0, 0x8004, owner, owner + len(administrators), 0, 20)
    return head + rights + administrators + system


def _fill(hive: Any, node: int, key: Key) -> None:
    for name, item in key.items():
        if isinstance(item, Mapping):
            child = hive.node_get_child(node, name)
            _fill(hive, child if child is not None else hive.node_add_child(node, name), item)
        else:
            hive.node_set_value(node, {"key": name, **_encoded(item)})


def _encoded(value: Value) -> dict[str, object]:
    match value:
        case int():
            return {"t": REG_DWORD, "value": struct.pack("<I", value)}
        case str():
            kind = REG_EXPAND_SZ if "%" in value else REG_SZ
            return {"t": kind, "value": f"{value}\0".encode("utf-16-le")}
        case bytes():
            return {"t": REG_BINARY, "value": value}
        case _:
            return {"t": REG_MULTI_SZ, "value": "".join(f"{text}\0" for text in (*value, "")).encode("utf-16-le")}
