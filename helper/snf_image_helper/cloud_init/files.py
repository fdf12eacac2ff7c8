# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that come to be at the first boot under CLOUD_INIT: those of the personality, and one for swap."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.guest import Guest
from snf_image_shared.job import Job, PersonalityFile

STORE = "/var/lib/snf-image/personality"
# Arguments: number, owner, group, mode, path. What mkdir -p would make with the wrong mode is made one by one. Nobody
# else may read a file before it has its owner and mode, or ever where they cannot be given.
INSTALL = r"""umask 077
put() {
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


def leave_personality(guest: Guest, job: Job, contents: Mapping[PersonalityFile, bytes]) -> None:
    """A script puts the files, when the users that cloud-init makes exist."""
    guest.make_directory(STORE, 0o700)
    lines = [f"store={cloud_init.quote(STORE)}", *INSTALL.split("\n")]
    for number, (file, content) in enumerate(contents.items()):
        guest.write_bytes(f"{STORE}/{number}", content, ownership=cloud_init.PRIVATE)
        words = (str(number), file.owner or "0", file.group or "0", f"{file.mode & 0o7777:04o}", file.path)
        lines.append(f"put {' '.join(map(cloud_init.quote, words))}")
    cloud_init.write_script(guest, "snf-image-personality.sh", lines, debug=job.cloud_init_debug)


def leave_swap(guest: Guest, job: Job, size: int) -> None:
    """Let cloud-init make a swap file of at most `size` bytes. Raises GuestError when the guest has no cloud-init."""
    cloud_init.write_configuration(guest, "50AddSwap", {"swap": swap(job, size)})


def swap(job: Job, size: int) -> dict[str, Json]:
    """The member `swap` of a cloud-config. The file's name is new as the image may hold any other."""
    return {"filename": f"/swap-{cloud_init.deployment(job)}.img", "size": "auto", "maxsize": size}
