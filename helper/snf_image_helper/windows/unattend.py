# SPDX-License-Identifier: GPL-2.0-or-later
"""Which answer file Setup reads at the first start of the guest, and that it is the one that we have changed.

Source: Microsoft, "Windows Setup Automation Overview": it looks into several places at the beginning of each pass, and
the root of C: comes last. So what is found before goes; where that is the image's own file, it comes to C:.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.windows import languages, time_zones
from snf_image_helper.windows.answer_file import LIMIT, AnswerFile, Pass
from snf_image_helper.windows.facts import Facts
from snf_image_helper.windows.places import located, write_secret
from snf_image_helper.windows.registry import HIVE_SYSTEM, opened
from snf_image_helper.windows.security_accounts import accounts
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

ANSWER_FILE = "/unattend.xml"
IGNORE = "IGNORE_UNATTEND"
_PANTHER = "/Windows/Panther"
# In the order in which Setup looks, but for C:'s own: who puts one there means it for a deployment.
_ROOT = (ANSWER_FILE, "/autounattend.xml")
_ELSEWHERE = (
    f"{_PANTHER}/Unattend/unattend.xml",
    f"{_PANTHER}/Unattend/autounattend.xml",
    f"{_PANTHER}/unattend.xml",
    f"{_PANTHER}/autounattend.xml",
    "/Windows/System32/Sysprep/unattend.xml",
)
_POINTER = "UnattendFile"
_TEMPLATE = Path(__file__).with_name("unattend.xml.j2")
_OURS = "template"
_DEFAULT_ZONE = "GMT Standard Time"


@dataclass(frozen=True)
class _Source:
    """A document that did not come with the image, what messages call it, and what tells it from others."""

    content: bytes
    called: str
    mark: str


@contextmanager
def changed(guest: Guest) -> Iterator[AnswerFile]:
    """The answer file; at the end it is written if it says something else. Raises GuestError when there is none."""
    path = located(guest, ANSWER_FILE)
    content = guest.read_bytes(path, missing_ok=True, limit=LIMIT)
    if content is None:
        raise GuestError("the guest has no answer file C:\\unattend.xml; let InstallUnattend run")
    answers = AnswerFile(content, path)
    yield answers
    if answers.is_changed:
        guest.write_bytes(path, answers.content)


def choose(guest: Guest, job: Job, facts: Facts, report: Reporter) -> AnswerFile:
    """The file that is to be used: os_answer_file, else the image's own, else the node's, else ours.

    Raises GuestError when it cannot be read. Nothing is written.
    """
    given = _given(job)
    ignoring = job.secrets.answer_file is not None or job.wishes.flag(IGNORE)
    answers = _marked(guest, given.mark if given else _OURS) or (None if ignoring else _own(guest, report))
    if answers is None:
        source = given or _Source(_template(guest, job, facts, report), "the answer file of snf-image", _OURS)
        answers = AnswerFile(source.content, source.called)
        answers.set_mark(source.mark)
    for oddity in answers.oddities:
        report.warning(oddity)
    return answers


def install(guest: Guest, answers: AnswerFile) -> None:
    """Make it the one that Setup finds."""
    write_secret(guest, located(guest, ANSWER_FILE), answers.content)
    for place in (*_ROOT[1:], *_ELSEWHERE, *_pointed(guest)):
        path = located(guest, place)
        if path != located(guest, ANSWER_FILE):
            guest.remove(path, missing_ok=True)
    if _pointer(guest):
        with opened(guest, HIVE_SYSTEM, change=True) as hive:
            hive.set_string("Setup", _POINTER, r"C:\unattend.xml")


def _given(job: Job) -> _Source | None:
    for given, called in (
        (job.secrets.answer_file, "the file of os_answer_file"),
        (job.secrets.node_answer_file, "the node's answer file (UNATTEND)"),
    ):
        if given is not None:
            try:
                content = base64.b64decode(given, validate=True)
            except (binascii.Error, ValueError) as error:
                raise GuestError(f"{called}: has not come in base64") from error
            return _Source(content, called, hashlib.sha256(content).hexdigest())
    return None


def _marked(guest: Guest, mark: str) -> AnswerFile | None:
    """The file at C: if an earlier run has made it of the same source."""
    path = located(guest, ANSWER_FILE)
    content = guest.read_bytes(path, missing_ok=True, limit=LIMIT)
    if content is None or mark.encode() not in content:
        return None
    answers = AnswerFile(content, path)
    return answers if answers.mark == mark else None


def _own(guest: Guest, report: Reporter) -> AnswerFile | None:
    for place in (*_ROOT, *_pointed(guest), *_ELSEWHERE):
        path = located(guest, place)
        content = guest.read_bytes(path, missing_ok=True, limit=LIMIT)
        if content is None:
            continue
        answers = AnswerFile(content, path)
        # Setup leaves a marked copy of what it was installed with.
        if place not in _ROOT and not answers.has_pending(Pass.SPECIALIZE, Pass.OOBE_SYSTEM):
            continue
        answers.forget_done_passes()
        report.warning(f"The image's own answer file {shown(path)} is kept; {IGNORE}=yes would replace it")
        return answers
    return None


def _pointed(guest: Guest) -> tuple[str, ...]:
    """The file that the registry names, if it is on C:."""
    drive, colon, rest = _pointer(guest).partition(":")
    parts = [part for part in rest.split("\\") if part]
    on_disk = colon and drive.upper() == "C" and parts and not {".", ".."} & set(parts) and "/" not in rest
    return ("/" + "/".join(parts),) if on_disk else ()


def _pointer(guest: Guest) -> str:
    with opened(guest, HIVE_SYSTEM) as hive:
        return hive.text("Setup", _POINTER) or ""


def _template(guest: Guest, job: Job, facts: Facts, report: Reporter) -> bytes:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # a tenth of a second under emulation

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        architecture=facts.architecture,
        build=facts.build,
        version=facts.version,
        is_client=not facts.is_server,
        has_accounts=job.secrets.password is not None or accounts(guest).has_own,
        language=languages.own_language(guest),
        time_zone=_zone(guest, job, report),
    )
    return text.encode()


def _zone(guest: Guest, job: Job, report: Reporter) -> str:
    """The node's; the property TIMEZONE goes over it, as over any file's."""
    zone = job.windows_timezone or _DEFAULT_ZONE
    if time_zones.is_in(guest, zone):
        return zone
    report.warning(f"The guest's Windows has no time zone {shown(zone)} (WINDOWS_TIMEZONE): {_DEFAULT_ZONE} is taken")
    return _DEFAULT_ZONE
