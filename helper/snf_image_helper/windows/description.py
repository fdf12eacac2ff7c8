# SPDX-License-Identifier: GPL-2.0-or-later
"""A mounted Windows in a few words, out of its registry. What keeps it from being deployed is a problem."""

from __future__ import annotations

from dataclasses import replace

from snf_image_helper.disks import ntfs
from snf_image_helper.guest import Guest
from snf_image_helper.problems import Problems
from snf_image_helper.windows.facts import Facts, facts
from snf_image_helper.windows.sysprep_state import check_sysprep
from snf_image_shared.findings import FoundSystem
from snf_image_shared.job import Job

_MACHINES = {"amd64": "x86_64", "x86": "i686", "arm64": "aarch64"}  # as uname -m has them
_CLOUDBASE = "/Program Files/Cloudbase Solutions/Cloudbase-Init"
_HIBERNATED = frozenset({b"hibr", b"HIBR"})


def described(found: FoundSystem, guest: Guest, job: Job, problems: Problems) -> FoundSystem:
    """`found` with all that the guest's files tell; what cannot be read becomes a problem."""
    with problems.noted():
        if ntfs.is_dirty(guest.mounts["/"]):
            problems.add("the NTFS of C: is dirty: run chkdsk /f in the image and shut it down fully")
        if guest.is_file("/hiberfil.sys") and guest.head("/hiberfil.sys", 4) in _HIBERNATED:
            problems.add("its Windows is hibernated, or was shut down with fast startup: shut it down fully")
    with problems.noted():
        told = facts(guest)
        found = replace(
            found,
            name=told.product,
            distribution="windows",
            release=".".join(map(str, (*told.version, told.build, *filter(None, (told.revision,))))),
            edition=told.edition,
            architecture=_MACHINES.get(told.architecture, told.architecture),
            setup_state=_setup_state(told),
            cloud_init="cloudbase-init" if guest.is_dir(_CLOUDBASE) else "",
        )
        check_sysprep(told, guest.system.family)
    return found


def _setup_state(told: Facts) -> str:
    """Before Vista there is no word for it."""
    if told.legacy:
        return "mini-setup" if told.setup_in_progress and told.mini_setup_in_progress else "not prepared"
    return told.image_state
