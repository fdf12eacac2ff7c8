# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of several NTFS volumes is the C: of a Windows, and whether that is older than Vista."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from snf_image_helper.disks import ntfs
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.windows.places import CONFIG
from snf_image_shared.errors import GuestError

BITLOCKER = "BitLocker"  # what blkid calls it, with Device Encryption, and with a protection that is suspended


def windows_in(
    disk: Disk,
    place: Place,
    looked_at: Callable[[str, str], AbstractContextManager[str]],
    family: OsFamily | None,
) -> System | None:
    """The Windows whose C: this NTFS is: it has Windows' own directory, which system and recovery partitions lack.

    `family` is believed if it is told. Raises GuestError for an NTFS that cannot be read, and for a Windows whose
    registry does not tell its version.
    """
    with (
        looked_at(place.device, ntfs.NTFS) as directory,
        Guest(directory, disk, System(family or OsFamily.WINDOWS, place.number)) as guest,
    ):
        return System(family or _family(guest), place.number) if guest.is_dir(CONFIG) else None


def why_locked(called: str) -> str:
    """Why a volume with BitLocker is not entered, and the cure."""
    return (
        f"{called} is encrypted with BitLocker (or Device Encryption); run manage-bde -off C: in the image, wait until "
        "manage-bde -status says that it is fully decrypted, and publish it anew"
    )


def _family(guest: Guest) -> OsFamily:
    # hivex is of Windows guests alone.
    from snf_image_helper.windows.facts import facts  # noqa: PLC0415

    try:
        return OsFamily.WINDOWS_LEGACY if facts(guest).legacy else OsFamily.WINDOWS
    except GuestError as error:
        raise GuestError(f"{error}; or set the properties OSFAMILY and ROOT_PARTITION") from error
