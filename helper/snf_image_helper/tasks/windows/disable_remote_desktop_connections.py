# SPDX-License-Identifier: GPL-2.0-or-later
"""DisableRemoteDesktopConnections: nobody logs in by RDP before Setup has finished.

Until then the image's password would still do. SetupComplete.cmd puts back what the image had.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.windows.registry import HIVE_SYSTEM, control_set, opened
from snf_image_helper.windows.setup_scripts import at_setup_complete
from snf_image_shared.job import Job

_KEY = r"Control\Terminal Server"
_VALUE = "fDenyTSConnections"


def disable_remote_desktop_connections(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the registry cannot be changed.

    Where connections are denied already, by the image or by an earlier run, there is nothing to put back.
    """
    with opened(guest, HIVE_SYSTEM, change=True) as hive:
        key = rf"{control_set(hive)}\{_KEY}"
        original = hive.number(key, _VALUE)
        if original == 1:
            return
        # Before the hive is replaced: a failure in between leaves a line that is right, not a door that stays shut.
        at_setup_complete(guest, _restoring(original))
        hive.set_dword(key, _VALUE, 1)


def _restoring(original: int | None) -> str:
    key = rf'"HKLM\SYSTEM\CurrentControlSet\{_KEY}" /v {_VALUE}'
    return f"reg delete {key} /f" if original is None else f"reg add {key} /t REG_DWORD /d {original} /f"


TASK: Task[Guest] = Task(
    "DisableRemoteDesktopConnections",
    disable_remote_desktop_connections,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    after=(MOUNT_IMAGE, "InstallUnattend"),
)
