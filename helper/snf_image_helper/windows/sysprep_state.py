# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether Setup will read an answer file at the next start: sysprep has generalized the image, and says so.

Source: Microsoft, "Windows Setup States"; for XP and 2003 the contract of snf-image 0.23.
"""

from __future__ import annotations

from snf_image_helper.system import OsFamily
from snf_image_helper.windows.facts import Facts
from snf_image_shared.errors import GuestError

_READY = frozenset({"IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE", "IMAGE_STATE_GENERALIZE_RESEAL_TO_AUDIT"})
_CURE = "run sysprep /generalize /oobe /shutdown in the image and take it again"
_WRONG = {
    "": "its registry has no ImageState, so its installation was never finished",
    "IMAGE_STATE_COMPLETE": "it is set up and in use (IMAGE_STATE_COMPLETE), so Setup would read no answer file",
    "IMAGE_STATE_UNDEPLOYABLE": "its Setup or sysprep failed half-way (IMAGE_STATE_UNDEPLOYABLE), so it never starts; "
    "look into C:\\Windows\\Panther\\setuperr.log or C:\\Windows\\System32\\Sysprep\\Panther there",
    "IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE": "it is specialized for its computer already "
    "(IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE), as sysprep without /generalize leaves it",
    "IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT": "it is in audit mode and specialized for its computer already "
    "(IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT)",
}


def check_sysprep(facts: Facts, family: OsFamily) -> None:
    """Raises GuestError, each state with its own sentence and cure, and for a family that the version belies."""
    number = ".".join(map(str, facts.version))
    if facts.legacy and family is OsFamily.WINDOWS:
        raise GuestError(
            f"{facts.product} (NT {number}) reads no unattend.xml; set the property OSFAMILY to windows-legacy"
        )
    if not facts.legacy and family is OsFamily.WINDOWS_LEGACY:
        raise GuestError(f"{facts.product} (NT {number}) reads no sysprep.inf; set the property OSFAMILY to windows")
    late = (
        "; its newest state is still in the registry's transaction logs, so shut it down properly"
        if facts.unflushed
        else ""
    )
    if facts.legacy:
        _check_mini_setup(facts, late)
    elif facts.image_state not in _READY:
        what = _WRONG.get(facts.image_state, f"its ImageState {facts.image_state!r} is unknown")
        raise GuestError(f"{facts.product} is not prepared for a deployment: {what}; {_CURE}{late}")


def _check_mini_setup(facts: Facts, late: str) -> None:
    """Sysprep sets both; the second alone is left by one that was cancelled."""
    cure = f"run sysprep -mini -reseal in the image, let it shut down, and take it again{late}"
    if not facts.setup_in_progress:
        raise GuestError(
            f"{facts.product} is not prepared for a deployment: SystemSetupInProgress is not 1, so no Setup starts; "
            f"{cure}"
        )
    if not facts.mini_setup_in_progress:
        raise GuestError(
            f"{facts.product} is not prepared for a deployment: MiniSetupInProgress is not 1, so another Setup than "
            f"the one that reads sysprep.inf starts; {cure}"
        )
