# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks that Ganeti names in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_host.disks import InstanceDisk, Transfer
from snf_image_shared.errors import RequestError


@pytest.mark.parametrize("verb", ["EXPORT", "IMPORT"])
def test_a_disk_to_move_is_the_one_that_ganeti_names(verb: str) -> None:
    env = {"OS_API_VERSION": "20", f"{verb}_DEVICE": "/a,b c", f"{verb}_DISK_PATH": "/other", "EXP_SIZE_FD": "11"}
    found = Transfer.from_environment(env, "EXPORT" if verb == "EXPORT" else "IMPORT")
    assert found == Transfer(InstanceDisk(Path("/a,b c"), variable=f"{verb}_DISK_URI"), 11)
    assert (
        Transfer.from_environment(dict(env, EXP_SIZE_FD=""), "EXPORT" if verb == "EXPORT" else "IMPORT").size_fd is None
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OS_API_VERSION", "15"),
        ("EXPORT_DEVICE", ""),
        ("EXPORT_DEVICE", "rbd:x"),
        *(("EXP_SIZE_FD", fd) for fd in ("x", "-1", "²", "9" * 5000, "1 ")),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_by_its_variable(variable: str, value: str) -> None:
    env = {"OS_API_VERSION": "20", "EXPORT_DEVICE": "/a", variable: value}
    with pytest.raises(RequestError, match=f"^{variable}: "):
        Transfer.from_environment(env, "EXPORT")
