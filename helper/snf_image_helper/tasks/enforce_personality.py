# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality: put the files of OS parameter img_personality into the guest.

Owner and group are the guest's; missing directories are made with mode 0750 and the file's owner. Under CLOUD_INIT a
script installs the files at the first boot, when the users that cloud-init makes exist.
"""

from __future__ import annotations

import binascii

from snf_image_helper import cloud_init
from snf_image_helper.accounts import owner_ids
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, PersonalityFile

_DIRECTORY_MODE = 0o750
_STORE = "/var/lib/snf-image/personality"
# Arguments: number, owner, group, mode, path. What mkdir -p would make with the wrong mode is made one by one.
_INSTALL = r"""put() {
    directory=$(dirname -- "$5")
    missing=
    while [ ! -d "$directory" ]; do
        missing="$directory
$missing"
        directory=$(dirname -- "$directory")
    done
    printf '%s' "$missing" | while IFS= read -r directory; do
        mkdir -m 0750 -- "$directory"
        chown -- "$2:$3" "$directory"
    done
    cat -- "$store/$1" > "$5.snf-image"
    chown -- "$2:$3" "$5.snf-image"
    chmod -- "$4" "$5.snf-image"
    mv -f -- "$5.snf-image" "$5"
    rm -f -- "$store/$1"
}"""


def enforce_personality(guest: Guest, job: Job, report: Reporter) -> None:
    """An existing file is replaced, owner and mode included. Raises GuestError naming the file that cannot be put."""
    if job.wishes.flag("CLOUD_INIT"):
        _leave_to_cloud_init(guest, job)
        return
    for file in job.personality:
        content = contents(file)
        try:
            uid, gid = owner_ids(guest, file.owner, file.group)
        except GuestError as error:
            raise GuestError(f"OS parameter img_personality: {file.path}: {error}") from error
        directory = file.path.rpartition("/")[0]
        if directory:
            guest.make_directory(directory, _DIRECTORY_MODE, uid, gid)
        guest.write_bytes(file.path, content, ownership=Ownership(uid, gid, file.mode & 0o7777))


def contents(file: PersonalityFile) -> bytes:
    """The decoded content. Raises GuestError when it is no base64."""
    try:
        return binascii.a2b_base64("".join(file.contents.split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise GuestError(
            f"OS parameter img_personality: {file.path}: contents: {error}; encode the contents with base64"
        ) from error


def _leave_to_cloud_init(guest: Guest, job: Job) -> None:
    guest.make_directory(_STORE, 0o700)
    lines = [f"store={cloud_init.quote(_STORE)}", *_INSTALL.split("\n")]
    for number, file in enumerate(job.personality):
        guest.write_bytes(f"{_STORE}/{number}", contents(file), ownership=cloud_init.PRIVATE)
        words = (str(number), file.owner or "0", file.group or "0", f"{file.mode & 0o7777:04o}", file.path)
        lines.append(f"put {' '.join(map(cloud_init.quote, words))}")
    cloud_init.write_script(guest, "snf-image-personality.sh", lines, debug=job.cloud_init_debug)


TASK: Task[Guest] = Task(
    "EnforcePersonality",
    enforce_personality,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "ChangePassword", "AssignHostname"),
    skip=lambda job: None if job.personality else "OS parameter img_personality is not set",
)
