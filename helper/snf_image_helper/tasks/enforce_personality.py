# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality: put the files of OS parameter img_personality into the guest.

Owner and group are the guest's; missing directories are made with mode 0750 and the file's owner. Under CLOUD_INIT a
script installs the files of a Linux guest at the first boot, when the users that cloud-init makes exist.
"""

from __future__ import annotations

from snf_image_helper.base64_text import decoded
from snf_image_helper.cloud_init import files as cloud_init_files
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, UNIX, Task
from snf_image_helper.users.accounts import owner_ids
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, PersonalityFile

_DIRECTORY_MODE = 0o750


def enforce_personality(guest: Guest, job: Job, report: Reporter) -> None:
    """An existing file is replaced, owner and mode included. Raises GuestError naming the file that cannot be put.

    All contents and owners are checked before the first file is written.
    """
    if job.wishes.flag("CLOUD_INIT") and guest.system.family not in BSD:
        cloud_init_files.leave_personality(guest, job, {file: contents(file) for file in job.personality})
        return
    wanted = [(file.path, contents(file), _ownership(guest, file)) for file in job.personality]
    for path, content, ownership in wanted:
        directory = path.rpartition("/")[0]
        if directory:
            guest.make_directory(directory, _DIRECTORY_MODE, ownership.uid, ownership.gid)
        if not _is_there(guest, path, content, ownership):
            guest.write_bytes(path, content, ownership=ownership)


def _ownership(guest: Guest, file: PersonalityFile) -> Ownership:
    try:
        uid, gid = owner_ids(guest, file.owner, file.group)
    except GuestError as error:
        raise GuestError(f"OS parameter img_personality: {file.path}: {error}") from error
    return Ownership(uid, gid, file.mode & 0o7777)


def _is_there(guest: Guest, path: str, content: bytes, ownership: Ownership) -> bool:
    return guest.is_file(path) and guest.ownership(path) == ownership and guest.head(path, len(content) + 1) == content


def contents(file: PersonalityFile) -> bytes:
    """The decoded content. Raises GuestError when it is no base64."""
    return decoded(file.contents, f"img_personality: {file.path}: contents", "contents")


TASK: Task[Guest] = Task(
    "EnforcePersonality",
    enforce_personality,
    families=UNIX,
    after=(MOUNT_IMAGE, "ChangePassword", "AssignHostname"),
    skip=lambda job: None if job.personality else "OS parameter img_personality is not set",
)
