# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality of Windows: files below C:, and what was there beside them."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks.windows.enforce_personality import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, PersonalityFile
from unit.helper.guest_trees import JOB, guest_in, perform
from unit.helper.windows_guests import snapshot

pytestmark = pytest.mark.root


def job(*files: tuple[str, bytes], owner: str | None = None) -> Job:
    given = (PersonalityFile(path, base64.b64encode(content).decode(), owner=owner) for path, content in files)
    return replace(JOB, personality=tuple(given))


@pytest.mark.row(161)
def test_a_file_gets_its_content_and_its_directories(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        listener = perform(TASK, guest, job(("/Users/Public/a b.txt", b"\0\xff"), ("/top", b"")))
        assert (tmp_path / "Users/Public/a b.txt").read_bytes() == b"\0\xff"
        assert (tmp_path / "top").read_bytes() == b""
    assert listener.warnings == []


@pytest.mark.row(163)
def test_what_was_there_stays_under_a_name_that_tells_when_that_was(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/boot.ini": "old"}) as guest:
        perform(TASK, guest, job(("/boot.ini", b"new")))
        name, backup = sorted(path.name for path in tmp_path.iterdir())
        assert (name, (tmp_path / name).read_text()) == ("boot.ini", "new")
        assert re.fullmatch(r"boot\.ini\.bak\.20\d{6}\.\d{6}", backup)
        assert (tmp_path / backup).read_text() == "old"


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    wanted = job(("/boot.ini", b"new"), ("/a/b", b"x"))
    with guest_in(tmp_path, {"/boot.ini": "old"}) as guest:
        perform(TASK, guest, wanted)
        before = snapshot(guest.root)
        perform(TASK, guest, wanted)
        assert snapshot(guest.root) == before


def test_an_owner_is_left_out_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        listener = perform(TASK, guest, job(("/f", b"x"), owner="nobody-knows"))
        assert (tmp_path / "f").read_bytes() == b"x"
    assert listener.warnings == ["OS parameter img_personality: owner and group are left out, Windows has no such ones"]


@pytest.mark.row(163)
def test_a_directory_in_the_way_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/Windows/x": ""}) as guest:
        with pytest.raises(GuestError, match="/Windows: is a directory where a file belongs"):
            perform(TASK, guest, job(("/Windows", b"x")))
        with pytest.raises(GuestError, match="img_personality: /b: contents"):
            perform(TASK, guest, replace(JOB, personality=(*job(("/a", b"x")).personality, PersonalityFile("/b", "?"))))
        assert [path.name for path in tmp_path.iterdir()] == ["Windows"]
