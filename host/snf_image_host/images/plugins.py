# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's own programs as sources of images: asked, measured and read by the protocol of contract 4.1.

`PROGRAM -p ID` says yes or no, `PROGRAM -s ID` the size in bytes, `PROGRAM ID` the bytes. A program gets nothing but
its arguments: no environment, no input. What it writes is not trusted: it is bounded, measured and hashed. It ends with
us, however we end, and so does all that it started.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_host.configuration.backends import Backend
from snf_image_host.configuration.settings import Settings
from snf_image_host.images.origins import OriginKind
from snf_image_host.images.running_program import RunningProgram, SilentError, running
from snf_image_host.parameters.faults import shown
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

_LONGEST_ID = 4096  # characters: it becomes an argument
_LARGEST_ANSWER = 4096  # bytes
_PASSWORD = re.compile(r"[^/?#]*//[^/?#]*:[^/?#]*@")


def program_origin(program: Backend, img_id: str, settings: Settings, progress: Progress) -> ProgramOrigin | None:
    """The program as the image's origin, if it says that it has it. To be called before any thread is started.

    Raises ConfigurationError for a user who does not exist. A program that fails is warned of, and has nothing.
    """
    try:
        answer = _answer(program, ["-p", img_id], settings)
    except ImageError as error:
        progress.warning(f"{error}; it is not asked for this image")
        return None
    if answer not in {"yes", "no"}:
        progress.warning(f"the {program} says neither yes nor no but {shown(answer)}; it is not asked for this image")
    return ProgramOrigin(program, img_id, settings, progress) if answer == "yes" else None


def why_not_told(img_id: str) -> str | None:
    """Why an image of this name is not for programs, who would get it as an argument; None if it may be."""
    if img_id.startswith("-"):
        return "begins with a '-', as an option does"
    if len(img_id) > _LONGEST_ID:
        return f"has more than {_LONGEST_ID} characters"
    if _PASSWORD.match(img_id):
        return "holds a password, which every user of this node could read in the list of processes"
    return None


@dataclass(frozen=True)
class ProgramOrigin:
    """An image that a program says it has."""

    program: Backend
    img_id: str
    settings: Settings
    progress: Progress

    kind = OriginKind.PROGRAM

    @property
    def name(self) -> str:
        """Without what may be a password: a query is not shown."""
        plain, mark, _ = self.img_id.partition("?")
        return f"image {shown(plain + mark)} of the {self.program}"

    @property
    def basename(self) -> str:
        return self.img_id.partition("?")[0].rpartition("/")[2]

    @contextmanager
    def open(self) -> Iterator[ProgramStream]:
        """The stream. To be entered before any thread is started. Raises ImageError, ConfigurationError."""
        answer = _answer(self.program, ["-s", self.img_id], self.settings)
        if not re.fullmatch(r"[0-9]{1,18}", answer):
            raise ImageError(f"{self.name}: the {self.program} tells no size in bytes but {shown(answer)}; correct it")
        with running(self.program, [self.img_id], self.progress.log) as process:
            yield ProgramStream(self.name, int(answer), process, self.settings.image_stall_timeout)

    def beside(self, name: str) -> bytes | None:
        """The protocol knows no such files."""
        return None


class ProgramStream:
    """What a program writes, which has to be `size` bytes, and the program's success.

    `patience` is how many seconds it may write nothing.
    """

    def __init__(self, name: str, size: int, process: RunningProgram, patience: float) -> None:
        self.name = name
        self.size = size
        self.patience = patience
        self._process = process
        self._count = 0
        self._is_complete = False

    def readinto(self, view: memoryview) -> int:
        """As Stream says."""
        if self._is_complete or not view:
            return 0
        try:
            count = self._process.readinto(view, time.monotonic() + self.patience)
            if not count:
                self._process.check_success(time.monotonic() + self.patience)
        except SilentError as error:
            raise ImageError(
                f"{self.name}: the {self._process.program} was silent for {self.patience:g} seconds "
                "(IMAGE_STALL_TIMEOUT): is its storage well?"
            ) from error
        self._count += count
        if self._count > self.size or (not count and self._count < self.size):
            told = f"has {'more than' if count else 'only'} {self.size if count else self._count} bytes"
            raise ImageError(
                f"{self.name} {told}, but the {self._process.program} told a size of {self.size}: correct the program"
            )
        self._is_complete = not count
        return count


def _answer(program: Backend, arguments: list[str], settings: Settings) -> str:
    """The program's answer to a question, in one line. Raises ImageError, ConfigurationError."""
    patience = settings.image_stall_timeout
    deadline = time.monotonic() + patience
    answer = memoryview(bytearray(_LARGEST_ANSWER))
    length = 0
    with running(program, arguments) as process:
        try:
            while count := process.readinto(answer[length:], deadline):
                length += count
                if length == len(answer):
                    raise ImageError(f"the {program} answers {arguments[0]} with more than {length} bytes")
            process.check_success(deadline)
        except SilentError as error:
            raise ImageError(
                f"the {program} does not answer {arguments[0]} within {patience:g} seconds (IMAGE_STALL_TIMEOUT)"
            ) from error
    return answer[:length].tobytes().decode("utf-8", "replace").strip()
