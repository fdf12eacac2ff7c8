# SPDX-License-Identifier: GPL-2.0-or-later
"""How a server is asked for a file, for what is left of it, and whether it is still the same: over HTTP, over FTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

from snf_image_host.downloads.connection import Access, Answer, BrokenError, Connection
from snf_image_host.downloads.http_heads import LARGEST_HEAD, BadHeadError
from snf_image_host.downloads.urls import RefusedError, Url
from snf_image_host.downloads.validators import ChangedError, Validators

_OK, _PARTIAL = 200, 206
_BUSY = frozenset({408, 429, *range(500, 600)})
_CURES = {
    _PARTIAL: "it gives a part where all was asked for: is it healthy?",
    401: "give the URL with a user and a password that may have it",
    403: "may this node have it, and is the URL not used up?",
    404: "correct the URL, or publish the image",
    410: "correct the URL, or publish the image",
}
_FTP_FIELD = re.compile(r"(Content-Length|Last-Modified): ([^\r\n]{1,64})")
_IS_NO_FILE = re.compile(r"^$|/$|;type=(?!i$)", re.IGNORECASE)


@dataclass(frozen=True)
class Begun:
    """A body that comes through `connection` from `url`, where redirects have led; what it is a part of has `total`
    bytes.
    """

    url: Url
    connection: Connection
    validators: Validators

    @property
    def total(self) -> int | None:
        """None if nobody has said it."""
        return self.validators.size


@dataclass(frozen=True)
class Wanted:
    """The version that was begun with, and where it is to go on. A checksum of the whole decides if `is_checked`."""

    validators: Validators
    position: int
    is_checked: bool


class FileServer(Protocol):
    """Whoever gets a Begun closes its connection. All raise BrokenError, RefusedError, ConfigurationError."""

    def begin(self, url: Url, *, is_checked: bool) -> Begun:
        """All of the file."""

    def go_on(self, url: Url, wanted: Wanted) -> Begun:
        """The rest of it. Raises ChangedError too."""

    def is_unchanged(self, url: Url, validators: Validators) -> bool:
        """Whether the server says that it has this version still."""


@dataclass(frozen=True)
class HttpServer:
    """A server of HTTP, or several of them behind redirects."""

    access: Access

    def begin(self, url: Url, *, is_checked: bool) -> Begun:
        """As FileServer says."""
        answer = self._ask(url, [])
        with ExitStack() as undo:
            undo.enter_context(answer.connection)
            _check_status(answer, frozenset({_OK}))
            try:
                validators = Validators.of(answer.head)
            except BadHeadError as error:
                raise RefusedError(f"{answer.where}the answer cannot be understood: {error}") from error
            if validators.size is None and not answer.head.is_chunked and not is_checked:
                raise RefusedError(
                    f"{answer.where}the server does not tell where the image ends: "
                    "have it send a Content-Length, or give img_checksum"
                )
            undo.pop_all()
            return Begun(answer.url, answer.connection, validators)

    def go_on(self, url: Url, wanted: Wanted) -> Begun:
        """As FileServer says."""
        old = wanted.validators
        answer = self._ask(url, old.rest(wanted.position))
        with ExitStack() as undo:
            undo.enter_context(answer.connection)
            _check_status(answer, frozenset({_OK, _PARTIAL, 416}))
            try:
                total = old.check_rest(answer.head, wanted.position, is_checked=wanted.is_checked)
            except BadHeadError as error:
                raise RefusedError(f"{answer.where}the answer cannot be understood: {error}") from error
            undo.pop_all()
            return Begun(answer.url, answer.connection, Validators(old.etag, old.last_modified, total))

    def is_unchanged(self, url: Url, validators: Validators) -> bool:
        """As FileServer says."""
        answer = self._ask(url, validators.when_changed())
        with answer.connection:
            return validators.is_told_by(answer.head)

    def _ask(self, url: Url, headers: list[str]) -> Answer:
        answer = self.access.ask(url, headers)
        if answer.head.status in _BUSY:
            with answer.connection:
                pause = answer.head.retry_after(datetime.now(UTC))
                raise BrokenError(f"{answer.where}the server answered {answer.head.status}: is it healthy?", pause)
        return answer


def _check_status(answer: Answer, accepted: frozenset[int]) -> None:
    status = answer.head.status
    if status not in accepted:
        raise RefusedError(f"{answer.where}the server answered {status}: {_CURES.get(status, 'is the URL right?')}")


@dataclass(frozen=True)
class FtpServer:
    """A server of FTP, which has no ETag, and perhaps no time of the last change either."""

    access: Access

    def begin(self, url: Url, *, is_checked: bool) -> Begun:
        """As FileServer says."""
        if _IS_NO_FILE.search(urlsplit(url.text).path):  # then curl gives a list of names, or converts ends of lines
            raise RefusedError("the URL is that of a directory, or of a text (;type=): give the URL of a file")
        validators = self._version(url)
        return Begun(url, self.access.connect(url, ()), validators)

    def go_on(self, url: Url, wanted: Wanted) -> Begun:
        """As FileServer says."""
        validators = self._version(url)
        if validators != wanted.validators:
            raise ChangedError("it has another size or date now")
        return Begun(url, self.access.connect(url, ("--range", f"{wanted.position}-")), validators)

    def is_unchanged(self, url: Url, validators: Validators) -> bool:
        """As FileServer says."""
        return validators.can_be_asked and self._version(url) == validators

    def _version(self, url: Url) -> Validators:
        with self.access.connect(url, ("--head",)) as connection:
            text = connection.read_all(LARGEST_HEAD, self.access.seconds)
        found = dict(_FTP_FIELD.findall(text.decode("latin-1")))
        length = found.get("Content-Length", "")
        return Validators("", found.get("Last-Modified", ""), int(length) if length.isdecimal() else None)


# What would be fetched in another way, such as s3 and oci, is a line here and in IMAGE_SCHEMES.
_SERVERS: Mapping[str, Callable[[Access], FileServer]] = {
    "http": HttpServer,
    "https": HttpServer,
    "ftp": FtpServer,
    "ftps": FtpServer,
}


def file_server(url: Url, access: Access) -> FileServer:
    """What speaks the URL's scheme."""
    return _SERVERS[url.scheme](access)
