# SPDX-License-Identifier: GPL-2.0-or-later
"""URL -> bytes: a small document by exactly one GET of an unprivileged, confined curl, under limits of time and size.

Redirects are followed here, each as a URL of its own, so that what holds for the first holds for them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.curl import (
    ABSENT,
    GRACE,
    MARK,
    TIMED_OUT,
    TLS,
    TOO_LARGE,
    Curl,
    cannot_be_run,
    config,
    failure,
)
from snf_image_host.downloads.urls import Policy, RefusedError, Url
from snf_image_shared.errors import RequestError
from snf_image_shared.process import Finished, Limits, ProcessError, run

MAX_REDIRECTS = 5
_WRITE_OUT = "%{stderr}\\n" + MARK + "%{response_code}\\n%{redirect_url}\\n%{errormsg}\\n"
_ANY_STATUS = frozenset(range(256))
_ABSENT_ANSWERS = frozenset({"403", "404", "410"})  # 403: a store of objects whose list is not for everybody


class AbsentError(RefusedError):
    """There is no such document."""


@dataclass(frozen=True)
class Fetching:
    """How documents of one purpose are fetched. `largest` is in bytes, and `limit` names it in a message."""

    curl: Curl
    policy: Policy
    seconds: float
    largest: int
    limit: str = ""


def parse_url(text: str, parameter: str, settings: Settings) -> Url:
    """The URL that the OS parameter gives. Pure. Raises RequestError for one that can never be fetched."""
    try:
        return Policy.of_documents(settings).parse(text)
    except RefusedError as error:
        raise RequestError(f"OS parameter {parameter}: {error}") from error


def fetch(text: str, parameter: str, settings: Settings) -> bytes:
    """What lies at the URL; never empty. It is asked for once: a URL may answer only once.

    Raises RequestError naming the OS parameter, ConfigurationError when this node cannot fetch at all.
    """
    url = parse_url(text, parameter, settings)
    policy = Policy.of_documents(settings)
    size = settings.fetch_max_size
    try:
        return read_url(url, Fetching(Curl.of(settings), policy, settings.fetch_timeout, size, " (FETCH_MAX_SIZE)"))
    except RefusedError as error:
        raise RequestError(f"OS parameter {parameter}: {error}") from error


def read_url(url: Url, how: Fetching) -> bytes:
    """The document; never empty. Raises RefusedError, which shows the host that was asked; ConfigurationError."""
    deadline = time.monotonic() + how.seconds
    try:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _Question(url, how, deadline).ask()
            if not answer.location:
                return answer.body
            url = how.policy.redirected(url, answer.location)
        raise RefusedError(f"more than {MAX_REDIRECTS} redirects: give the URL they lead to")
    except RefusedError as error:
        raise type(error)(f"{url}: {error}") from error


@dataclass(frozen=True)
class _Answer:
    """The body, or where it is said to be."""

    body: bytes = field(repr=False)
    location: str = field(repr=False)


@dataclass(frozen=True)
class _Question:
    """One request. `deadline` is on the monotonic clock."""

    url: Url
    how: Fetching
    deadline: float

    def ask(self) -> _Answer:
        """Raises RefusedError, ConfigurationError."""
        body = os.memfd_create("fetched", os.MFD_CLOEXEC)
        try:
            argv = self._argv()
            limits = Limits(self._left() + GRACE, _ANY_STATUS, stdout=body)
            finished = run(argv, stdin=config(self.url), limits=limits)
            location = self._checked(finished)
            content = os.pread(body, self.how.largest, 0)
        except ProcessError as error:
            raise RefusedError(f"{error}") from error
        finally:
            os.close(body)
        if not (content or location):
            raise RefusedError("the answer is empty: is it the right URL?")
        return _Answer(content, location)

    def _argv(self) -> list[str]:
        size, left = str(self.how.largest), f"{self._left():.3f}"
        pins = self.how.curl.pins(self.url, self.how.policy, self._left())
        own = ["--fail", "--max-time", left, "--connect-timeout", left, "--max-filesize", size]
        return self.how.curl.argv(self.url, pins, [*own, "--write-out", _WRITE_OUT], self.how.largest)

    def _left(self) -> float:
        """Seconds; a little even when it is too late, for curl to say so."""
        return max(0.001, self.deadline - time.monotonic())

    def _checked(self, finished: Finished) -> str:
        """Where the answer redirects to, or "". Raises RefusedError, ConfigurationError when curl cannot be run."""
        too_large = RefusedError(f"larger than {self.how.largest} bytes{self.how.limit}")
        _, mark, after = finished.stderr.rpartition(MARK)
        if not mark and finished.status in TOO_LARGE:
            raise too_large
        if not mark:
            raise cannot_be_run(after, finished.status)
        code, location, reason = [*after.split("\n"), "", "", ""][:3]
        is_http = self.url.scheme in {"http", "https"}
        if finished.status == TIMED_OUT:
            raise RefusedError(f"no whole answer within {self.how.seconds:g} seconds (FETCH_TIMEOUT)")
        if finished.status in TLS:
            raise RefusedError(f"TLS failed: {reason[:200]}; correct the server's certificate, or CURL")
        if is_http and code[:1] not in {"0", "2"} and not (code.startswith("3") and location):
            kind = AbsentError if code in _ABSENT_ANSWERS else RefusedError
            raise kind(f"the server answered {code}: is the URL right, and not used up already?")
        if finished.status in TOO_LARGE:
            raise too_large
        if finished.status:
            kind = AbsentError if finished.status in ABSENT else RefusedError
            raise kind(failure(finished.status))
        return location if code.startswith("3") and is_http else ""
