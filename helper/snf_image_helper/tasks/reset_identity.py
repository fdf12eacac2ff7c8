# SPDX-License-Identifier: GPL-2.0-or-later
"""ResetIdentity: remove what ties the guest to the machine that its image was made from, as IDENTITY_RESET lists.

Host name, machine-id and SSH host keys are tasks of their own.
"""

from __future__ import annotations

from snf_image_helper.bsd import template_state as bsd_state
from snf_image_helper.guest import Guest
from snf_image_helper.linux import template_state as linux_state
from snf_image_helper.linux.template_state import Word
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, UNIX, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

PROPERTY = "IDENTITY_RESET"
# Two instances must not share these, or they fight. Logs are history and not identity; agents and domains are joined
# by somebody, who must do that again.
DEFAULT = (Word.SEEDS, Word.LEASES, Word.CARDS, Word.JOURNAL, Word.LOGINS, Word.STORAGE, Word.SUBSCRIPTION)

# Hardened guests let nobody shorten these (chattr +a), which is no reason to deliver nothing.
_HISTORY = frozenset({Word.JOURNAL, Word.LOGINS, Word.LOGS})


def reset_identity(guest: Guest, job: Job, report: Reporter) -> None:
    """What was found is told in one line on the console. Raises GuestError for what two guests must not share."""
    reset = bsd_state.reset if guest.system.family in BSD else linux_state.reset
    found = {}
    for word in words_of(job):
        try:
            found[word] = reset(word, guest, job)
        except GuestError as error:
            if word not in _HISTORY:
                raise
            report.warning(f"The template's {word} stay: {error}")
    told = ", ".join(f"{word} ({count})" for word, count in found.items() if count)
    if told:
        print(f"Reset what was the template's own: {told}", flush=True)


def words_of(job: Job) -> tuple[Word, ...]:
    """What is asked for, in the order of doing. Raises GuestError for a word that nobody knows.

    `default` and `all` stand for several words, `none` for nothing. The default has cloud-init's state only where
    cloud-init is to begin anew (CLOUD_INIT): elsewhere it would do again what it did for the template.
    """
    default = {*DEFAULT, Word.CLOUD_INIT} if job.wishes.flag("CLOUD_INIT") else {*DEFAULT}
    groups: dict[str, set[Word]] = {"default": default, "all": {*Word}, "none": set()}
    groups |= {str(word): {word} for word in Word}
    wanted: set[Word] = set()
    for name in (job.wishes.text(PROPERTY) or "default").replace(",", " ").lower().split():
        if name not in groups:
            raise GuestError(f"property {PROPERTY}: {name[:40]!r} is none of its words: {', '.join(groups)}")
        wanted |= groups[name]
    return tuple(word for word in Word if word in wanted)


def _skip(job: Job) -> str | None:
    return None if words_of(job) else f"the property {PROPERTY} asks for nothing"


TASK: Task[Guest] = Task(
    "ResetIdentity",
    reset_identity,
    families=UNIX,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=_skip,
    decides="what is there",
    on_import=True,
)
