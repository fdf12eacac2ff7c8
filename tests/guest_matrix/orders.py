# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders: a template, a larger disk and the parameters of a case become an instance through the installed create."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from guest_matrix.cases import MACS, Case
from images.guests import USER, guest_image
from images.inspection import check_table
from provider import Instance, Provider
from snf_image_shared.process import run
from sparse_disks import copy_disk

PASSWORD = "correct horse: battery 'staple'"
MOTTO = "/srv/motto"
DISK_SIZE = 3 << 30


@dataclass(frozen=True)
class Delivered:
    """A disk that is ready to boot; `key` is the private half of the key that was ordered, `name` the instance's."""

    case: Case
    disk: Path
    template: Path
    key: Path
    name: str

    @property
    def hostname(self) -> str:
        return self.case.hostname or self.name


def deliver(provider: Provider, cache: Path, scratch: Path, case: Case) -> Delivered:
    """Run create to its end; AssertionError with its log unless it succeeds."""
    template = guest_image(case.image, cache)
    image = provider.images / f"{case.image}.diskdump"
    copy_disk(template, image)
    delivered = Delivered(case, scratch / "disk", template, scratch / "key", f"{case.image}.example.com")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tenant", "-f", str(delivered.key)])
    with delivered.disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    nics = ({"MAC": MACS[0], "MODE": "bridged", **case.ganeti}, {"MAC": MACS[1], "MODE": "bridged"})
    outcome = provider.run(Instance(delivered.name, (delivered.disk,), nics, _parameters(delivered)))
    image.unlink()
    assert outcome.code == 0, outcome.log
    if not case.cloud_init:  # which grows the last partition itself, at the first boot
        check_table(delivered.disk)
    return delivered


def _parameters(delivered: Delivered) -> dict[str, object]:
    case = delivered.case
    motto = {"path": MOTTO, "contents": base64.b64encode(b"festina lente\n").decode(), "owner": USER, "mode": 416}
    spec: dict[str, object] = {
        "img_properties": {"USERS": f"root {USER}", "TIMEZONE": "Asia/Kathmandu", **case.properties},
        "img_personality": [motto],
        "network": {"nics": [{"index": index, **card} for index, card in enumerate(case.cards)]},
    }
    if case.hostname:
        spec["hostname"] = case.hostname
    return {
        "img_id": f"{case.image}.diskdump",
        "img_format": "diskdump",
        "img_passwd": PASSWORD,
        "auth_keys": delivered.key.with_suffix(".pub").read_text(),
        "spec": spec,
    }
