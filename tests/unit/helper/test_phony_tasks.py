# SPDX-License-Identifier: GPL-2.0-or-later
"""Every task over every phony guest: what changes is golden, done again nothing changes, a failure leaves old or new.

tests/golden/phony holds, for each guest, what the tasks changed in it and what they said. To accept what they do, run
with GOLDEN_UPDATE=1 and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phony_guests import BSD, MUTABLE
from snf_image_helper.network.rendering import BACKUP
from snf_image_helper.tasks import initialize_datasource
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from unit.helper.customised_phony import (
    CLOUD_JOB,
    JOB,
    changes,
    customise,
    family_of,
    identifiers,
    made,
    picture,
    state,
)
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_trees import guest_in, perform

pytestmark = pytest.mark.root

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "phony"
UPDATE = "GOLDEN_UPDATE"
_CLOUD_INIT = "/usr/bin/cloud-init"
_WITH_CLOUD_INIT = [name for name, guest in MUTABLE.items() if any(item.path == _CLOUD_INIT for item in guest.entries)]
CASES = [
    *(pytest.param(name, JOB, name, id=name) for name in MUTABLE),
    *(pytest.param(name, JOB, name, id=name) for name in BSD),
    *(pytest.param(name, CLOUD_JOB, f"{name}-cloud-init", id=f"{name}-cloud-init") for name in _WITH_CLOUD_INIT),
]


@pytest.mark.parametrize(("guest", "job", "case"), CASES)
def test_what_the_tasks_change_is_golden(tmp_path: Path, guest: str, job: Job, case: str) -> None:
    root = made(tmp_path / "guest", guest)
    known = identifiers(root)
    before = picture(root, known)
    run = customise(root, job, family=family_of(guest))
    found = "".join(f"{line}\n" for line in run.said) + changes(before, picture(root, known))
    if os.environ.get(UPDATE):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / f"{case}.txt").write_text(found)
    assert found == (GOLDEN / f"{case}.txt").read_text()


@pytest.mark.parametrize(("guest", "job", "case"), CASES)
def test_done_again_the_tasks_change_nothing_at_all(tmp_path: Path, guest: str, job: Job, case: str) -> None:
    root = made(tmp_path / "guest", guest)
    first = customise(root, job, family=family_of(guest))
    before = state(root)
    assert customise(root, job, family=family_of(guest)).said == first.said
    assert state(root) == before


@pytest.mark.parametrize("guest", sorted(MUTABLE.keys() - set(_WITH_CLOUD_INIT)))
def test_a_guest_without_cloud_init_gets_no_seed(tmp_path: Path, guest: str) -> None:
    root = made(tmp_path / "guest", guest)
    before = state(root)
    with guest_in(root) as tree, pytest.raises(GuestError, match="cloud-init"):
        perform(initialize_datasource.TASK, tree, CLOUD_JOB)
    assert state(root) == before


def test_every_golden_file_is_of_a_guest() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {str(case.id) for case in CASES}


@contextmanager
def inodes(place: Path, count: int) -> Iterator[Path]:
    """A file system in memory that has room for `count` files and directories."""
    place.mkdir(exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", f"nr_inodes={count},mode=755", "none", str(place))
    try:
        yield place
    finally:
        sh("umount", str(place))


def without_rsa(root: Path) -> Path:
    """The guest without the line that orders such a host key, each of which takes as long as all other tasks."""
    config = root / "etc/ssh/sshd_config"
    if config.exists():
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if not line.startswith("HostKey /etc/ssh/ssh_host_rsa_key")))
    return root


@pytest.mark.parametrize(
    "guest",
    [
        *("phony-rocky-8", "phony-ubuntu-24.04", "phony-alpine-3.22", "phony-opensuse-leap-15.6"),
        "phony-freebsd-14.3",
    ],
)
def test_a_file_system_that_is_full_at_any_moment_leaves_every_file_old_or_new(tmp_path: Path, guest: str) -> None:
    root = without_rsa(made(tmp_path / "guest", guest))
    known = identifiers(root)
    whole = [picture(root, known)]
    customise(root, JOB, lambda: whole.append(picture(root, known)), family_of(guest))
    allowed = {path: {shot.get(path) for shot in whole} for shot in whole for path in shot}
    made_entries = len(whole[-1])
    failures = 0
    with private_mounts():
        for room in range(made_entries - len(whole[0]) + 4):
            with inodes(Path("/run/full"), len(whole[0]) + 2 + room) as place:
                without_rsa(made(place / "guest", guest))
                failures += any(
                    "is full" in said for said in customise(place / "guest", JOB, family=family_of(guest)).said
                )
                found = picture(place / "guest", known)
            for path in allowed.keys() | found.keys():
                assert path in allowed, f"{path} was left behind with room for {room}"
                entry = found.get(path)
                is_directory = entry is not None and entry[0].startswith("directory")
                # What a file was before the network's task, whatever the tasks before that could do to it.
                is_backup = path.endswith(BACKUP)
                assert is_directory or is_backup or entry in allowed[path], (
                    f"{path} is neither old nor new with room for {room}"
                )
    assert failures > 1
