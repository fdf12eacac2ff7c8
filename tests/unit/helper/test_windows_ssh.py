# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH keys of Windows' OpenSSH server: the administrators' file, whose rights SetupComplete.cmd sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.hives import make_hive
from snf_image_helper.guest import Guest
from snf_image_helper.users.public_keys import parse_keys
from snf_image_helper.windows import ssh_keys
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import put
from unit.helper.windows_guests import SERVER, XP, hive_file, snapshot, windows_guest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJXpN0kWnZ6u2vYj2m0Yp9yVJf0Zl8mM0C3r9m6kqk1c me@example"
PATH = "ProgramData/ssh/administrators_authorized_keys"
COMPLETE = "Windows/Setup/Scripts/SetupComplete.cmd"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c", replace(SERVER, openssh=True))


def install(guest: Guest, *users: str) -> list[str]:
    listener = Listener()
    ssh_keys.install(guest, users or ("Administrator",), parse_keys(KEY), listener.reporter)
    return listener.warnings


def rights(guest: Guest) -> list[str]:
    return [line for line in Path(guest.root, COMPLETE).read_text().splitlines() if "icacls" in line]


def test_a_key_of_the_administrator_is_the_administrators(guest: Guest) -> None:
    install(guest)
    assert Path(guest.root, PATH).read_text() == f"{KEY}\n"


def test_the_rights_are_given_by_numbers_that_no_language_changes(guest: Guest) -> None:
    install(guest)
    assert rights(guest) == [
        r'icacls.exe "%ProgramData%\ssh" /inheritance:r '
        '/grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "*S-1-5-11:(OI)(CI)RX"',
        r'icacls.exe "%ProgramData%\ssh\administrators_authorized_keys" /inheritance:r '
        '/grant:r "*S-1-5-18:F" "*S-1-5-32-544:F"',
    ]


def test_keys_of_the_image_stay_and_so_do_the_rights_of_its_directory(guest: Guest) -> None:
    put(Path(guest.root), {PATH: "# of the image\r\n"})
    install(guest)
    assert Path(guest.root, PATH).read_bytes() == f"# of the image\r\n{KEY}\n".encode()
    assert len(rights(guest)) == 1


def test_a_second_run_changes_nothing(guest: Guest) -> None:
    install(guest)
    before = snapshot(guest.root)
    install(guest)
    assert snapshot(guest.root) == before


def test_a_server_that_does_not_start_is_warned_of(guest: Guest) -> None:
    assert install(guest) == [
        "The image's OpenSSH server does not start by itself: Set-Service sshd -StartupType Automatic"
    ]


def test_a_server_that_starts_is_nothing_to_warn_of(guest: Guest) -> None:
    system = replace(SERVER, openssh=True).system
    services = {"Services": {"sshd": {"Start": 2}}}
    make_hive(hive_file(guest, "SYSTEM"), {**system, "ControlSet001": services})
    assert install(guest) == []


@pytest.mark.parametrize("phony", [SERVER, XP], ids=["server", "xp"])
def test_without_a_server_nothing_is_written(tmp_path: Path, phony: object) -> None:
    guest = windows_guest(tmp_path / "other", phony)  # type: ignore[arg-type]
    before = snapshot(guest.root)
    assert install(guest) == [
        "OS parameter auth_keys has no effect: the image has no OpenSSH server; install it in the image"
    ]
    assert snapshot(guest.root) == before


def test_a_key_of_another_user_does_not_become_every_administrators(guest: Guest) -> None:
    warnings = install(guest, "Guest")
    assert "The SSH keys do not let in Guest" in warnings[-1]
    assert not Path(guest.root, PATH).exists()


def test_a_configuration_that_does_not_read_the_file_is_warned_of(guest: Guest) -> None:
    put(Path(guest.root), {"ProgramData/ssh/sshd_config": "# administrators_authorized_keys\r\nPort 22\r\n"})
    assert "does not name administrators_authorized_keys" in install(guest)[-1]


def test_a_file_that_sshd_cannot_read_is_refused(guest: Guest) -> None:
    put(Path(guest.root), {PATH: "x".encode("utf-16")})
    with pytest.raises(GuestError, match="is UTF-16, which sshd does not read"):
        install(guest)
