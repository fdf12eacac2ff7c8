# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies beside a captured image: what it is, what it was made of, and the properties that deploy it as it was.

Nothing of the node is in it, and no secret. What the helper VM has found is a tenant's word: it is for people, and of
the properties only words that are known here are taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from snf_image_host.tools.new_images import NewImage
from snf_image_shared import __version__, codec
from snf_image_shared.captured import Captured
from snf_image_shared.deployment import FILE_SYSTEMS, BootMode, TableType
from snf_image_shared.errors import HelperError
from snf_image_shared.findings import Findings

VERSION = 1
_MIB = 1 << 20
_TABLES = {"mbr": TableType.MSDOS, "gpt": TableType.GPT}


@dataclass(frozen=True)
class Facts:
    """`format` is img_format, `findings` are None if nothing was recognised; `captured` is of archives alone."""

    type: str
    format: str
    compression: str
    kernel_path: str
    findings: Findings | None
    captured: Captured | None = None

    def document(self, images: Sequence[NewImage]) -> bytes:
        """JSON with a newline."""
        content = {
            "version": VERSION,
            "snf_image": __version__,
            "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "type": self.type,
            "format": self.format,
            "compression": self.compression,
            "files": [{"name": each.name, "size": each.size, "sha256": each.digest} for each in images],
            "kernel_path": self.kernel_path,
            "properties": properties(self),
            "disk": asdict(replace(self.findings, plan=None)) if self.findings else None,
        }
        return json.dumps(content, indent=2).encode("ascii") + b"\n"


def read_captured(text: str) -> Captured:
    """What the helper says of an archive. Raises HelperError."""
    try:
        return codec.load(Captured, text)
    except codec.CodecError as error:
        raise HelperError(f"the helper VM's word on the archive cannot be read: {error}") from error


def used_bytes(findings: Findings | None) -> int:
    """What the file systems that could be looked into hold, at least."""
    partitions = findings.table.partitions if findings and findings.table else ()
    contents = [partition.content for partition in partitions]
    contents += [findings.content, *(volume.content for volume in findings.volumes)] if findings else []
    return sum(content.used or 0 for content in contents)


def properties(facts: Facts) -> dict[str, str]:
    """Properties that give a disk like the one that was captured."""
    found = facts.findings
    if facts.captured is None:
        if found is None or found.system is None:
            return {}
        return {"OSFAMILY": found.system.family, "ROOT_PARTITION": str(found.system.root_partition)}
    root, boot = facts.captured.at("/"), facts.captured.at("/boot")
    sizes = {"BOOT_SIZE": boot.size if boot else 0, "SWAP_SIZE": facts.captured.swap}
    # The definition image would make what is not told to be absent.
    wanted = {"OSFAMILY": "linux", **{name: str(-(-max(0, size) // _MIB)) for name, size in sizes.items()}}
    if root and root.type in FILE_SYSTEMS:
        wanted["FILESYSTEM"] = root.type
    table = found.table if found else None
    if table and table.kind in _TABLES:
        wanted["PARTITION_TABLE"] = _TABLES[table.kind]
    if found and found.boot.uefi and not found.boot.bios:
        wanted |= {"BOOT_MODE": BootMode.UEFI, "PARTITION_TABLE": TableType.GPT}
    return {name: str(value) for name, value in wanted.items()}
