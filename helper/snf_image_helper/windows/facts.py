# SPDX-License-Identifier: GPL-2.0-or-later
"""What the registry of a Windows guest says of it: version, edition, architecture, and how far sysprep has come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from snf_image_helper.guest import Guest
from snf_image_helper.problems import fact
from snf_image_helper.windows.registry import HIVE_SOFTWARE, HIVE_SYSTEM, Hive, control_set, opened
from snf_image_shared.errors import GuestError

VERSION_KEY = r"Microsoft\Windows NT\CurrentVersion"
STATE_KEY = r"Microsoft\Windows\CurrentVersion\Setup\State"
FIRST_WITH_ANSWER_FILE = (6, 0)  # Vista: Setup reads unattend.xml instead of sysprep.inf
_ARCHITECTURES = frozenset({"amd64", "x86", "arm64"})
_FIRST_WINDOWS_11 = 22000  # the build; its ProductName still says Windows 10


@dataclass(frozen=True)
class Facts:
    """`version` is NT's, as (6, 3) or (10, 0); `build` as 20348 and `revision` what updates have made of it, 0 if there
    is none. `product` is the name that people know, `edition` as ServerStandard, "" where there is none.

    `image_state` is Setup's since Vista, "" where there is none; the two of `setup_in_progress` and
    `mini_setup_in_progress` are what sysprep sets in XP and 2003. `unflushed` says that the newest state is in logs
    that are not read here.
    """

    version: tuple[int, int]
    build: int
    revision: int
    product: str
    edition: str
    is_server: bool
    architecture: str
    image_state: str
    setup_in_progress: bool
    mini_setup_in_progress: bool
    unflushed: bool

    @property
    def legacy(self) -> bool:
        """Whether Setup reads a sysprep.inf: the family windows-legacy."""
        return self.version < FIRST_WITH_ANSWER_FILE


@lru_cache(maxsize=1)  # several tasks ask, and under emulation it takes seconds to go through a hive of 100 MiB
def facts(guest: Guest) -> Facts:
    """Read the two hives, once. Raises GuestError when they are damaged or miss what every Windows has."""
    with opened(guest, HIVE_SYSTEM) as hive:
        architecture = _architecture(hive)
        running, mini = (hive.number("Setup", f"{kind}SetupInProgress") == 1 for kind in ("System", "Mini"))
        unflushed = hive.unflushed
    with opened(guest, HIVE_SOFTWARE) as hive:
        build = _number(hive, "CurrentBuildNumber") or _number(hive, "CurrentBuild")
        return Facts(
            _version(hive),
            build,
            hive.number(VERSION_KEY, "UBR") or 0,
            _product(hive, build),
            fact(hive.text(VERSION_KEY, "EditionID") or ""),
            _is_server(hive),
            architecture,
            fact(hive.text(STATE_KEY, "ImageState") or ""),
            running,
            mini,
            unflushed or hive.unflushed,
        )


def _architecture(hive: Hive) -> str:
    """Of the system, not of a program: %PROCESSOR_ARCHITECTURE% as services get it."""
    key = rf"{control_set(hive)}\Control\Session Manager\Environment"
    found = (hive.text(key, "PROCESSOR_ARCHITECTURE") or "").lower()
    if found not in _ARCHITECTURES:
        raise GuestError(
            f"{HIVE_SYSTEM}: PROCESSOR_ARCHITECTURE is {fact(found) or 'missing'}, not one of "
            f"{', '.join(sorted(_ARCHITECTURES))}; make the image anew"
        )
    return found


def _version(hive: Hive) -> tuple[int, int]:
    """CurrentVersion has stayed at 6.3 since Windows 10, which has two numbers for it instead."""
    numbers = [hive.number(VERSION_KEY, f"Current{part}VersionNumber") for part in ("Major", "Minor")]
    if numbers[0] is not None:
        return numbers[0], numbers[1] or 0
    text = hive.text(VERSION_KEY, "CurrentVersion") or ""
    major, _, minor = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 4 for part in (major, minor)):
        raise GuestError(
            f"{HIVE_SOFTWARE}: {VERSION_KEY} has no version of Windows in CurrentVersion ({fact(text) or 'missing'}); "
            "correct the property ROOT_PARTITION, or make the image anew"
        )
    return int(major), int(minor)


def _number(hive: Hive, name: str) -> int:
    text = hive.text(VERSION_KEY, name) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _product(hive: Hive, build: int) -> str:
    name = fact(hive.text(VERSION_KEY, "ProductName") or "Windows")
    return name.replace("Windows 10", "Windows 11", 1) if build >= _FIRST_WINDOWS_11 else name


def _is_server(hive: Hive) -> bool:
    """InstallationType is there since Vista; before, the name tells."""
    kind = hive.text(VERSION_KEY, "InstallationType")
    return kind.startswith("Server") if kind else "Server" in (hive.text(VERSION_KEY, "ProductName") or "")
