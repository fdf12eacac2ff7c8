# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangeMachineId: give the guest an id of its own, in /etc/machine-id and /var/lib/dbus/machine-id.

Each file is written only if it exists, empty and "uninitialized" ones included: two deployments then differ before they
have booted, and an id that dbus kept cannot come back. A missing /etc/machine-id stays missing: that is how an image
asks systemd for a first boot with all its consequences (machine-id(5)).
"""

from __future__ import annotations

import os

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job

FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
# systemd credits it as entropy at boot: two instances must not share it.
_RANDOM_SEED = "/var/lib/systemd/random-seed"


def change_machine_id(guest: Guest, job: Job, report: Reporter) -> None:
    """Links are followed, so one that leads from one file to the other stays a link."""
    machine_id = random_id()
    present = [path for path in FILES if guest.is_file(path)]
    for path in present:
        guest.write_text(path, f"{machine_id}\n")
    if not present:
        report.warning(f"The guest has neither {' nor '.join(FILES)}: it makes its machine-id when it boots")
    if guest.is_file(_RANDOM_SEED):
        guest.remove(_RANDOM_SEED)


def random_id() -> str:
    """32 hexadecimal digits, a version 4 UUID without its dashes as machine-id(5) wants it."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    return number.hex()


TASK: Task[Guest] = Task(
    "ChangeMachineId",
    change_machine_id,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE,),
    decides="only the files that are there",
)
