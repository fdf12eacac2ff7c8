# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the kernel's lines are about a device. What it says of real ones is seen where they are mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snf_image_helper.disks.kernel_log import messages_about


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log in a file, which ends where the kernel's would have no more to say."""
    path = tmp_path / "kmsg"
    path.write_bytes(b"")
    monkeypatch.setattr("snf_image_helper.disks.kernel_log._LOG", str(path))
    return path


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("EXT4-fs (vdx1): recovery complete", ("recovery complete",)),
        ("XFS (vdx1): Ending recovery (logdev: internal)", ("Ending recovery (logdev: internal)",)),
        ("BTRFS info (device vdx1 state M): start tree-log replay", ("start tree-log replay",)),
        ("EXT4-fs (vdx10): recovery complete", ()),
        ("EXT4-fs (vdx): recovery complete", ()),
        ("EXT4-fs error (device vdx1): bad \x1b[2J name", ("bad [2J name",)),
        (f"EXT4-fs (vdx1): {'x' * 500}", ("x" * 200,)),
    ],
)
def test_lines_about_the_device_alone_are_told(log: Path, line: str, told: tuple[str, ...]) -> None:
    with messages_about("/dev/vdx1") as messages:
        with log.open("ab") as file:
            file.write(f"6,1,2,-;{line}\n".encode())
        assert messages.read() == told


def test_a_machine_without_such_a_log_has_nothing_to_tell(log: Path) -> None:
    log.unlink()
    with messages_about(os.devnull) as messages:
        assert messages.read() == ()
