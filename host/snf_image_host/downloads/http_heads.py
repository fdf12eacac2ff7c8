# SPDX-License-Identifier: GPL-2.0-or-later
"""The head of an HTTP answer, read strictly: a stranger wrote it. Pure.

Control characters, folded lines and names that are none are refused, and so is a head that says two different things
where one counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

LARGEST_HEAD = 64 << 10  # bytes, of all heads that an answer has
_STATUS = re.compile(r"HTTP/[0-9](?:\.[0-9])? ([1-9][0-9]{2})(?: .*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_END = re.compile(rb"\r?\n\r?\n")
_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")
_NUMBER = re.compile(r"[0-9]{1,19}")
# What would lead astray if the second one counted.
_ONLY_ONE = frozenset({"content-length", "content-range", "etag", "last-modified", "location", "transfer-encoding"})


class BadHeadError(Exception):
    """What came is no head of an answer, and why."""


@dataclass(frozen=True)
class ContentRange:
    """Of an answer that has a part: `first` and `last` byte, None if it has none; all of it has `total` bytes."""

    first: int | None
    last: int | None
    total: int | None


@dataclass(frozen=True)
class Head:
    """`fields` by name in lower case."""

    status: int
    fields: Mapping[str, str]

    @property
    def etag(self) -> str:
        """As it was sent, or "": in quotes, a weak one behind W/."""
        return self.fields.get("etag", "")

    @property
    def last_modified(self) -> str:
        """As it was sent, or ""."""
        return self.fields.get("last-modified", "")

    @property
    def is_chunked(self) -> bool:
        """Whether the end of the body is marked in the body itself."""
        return "transfer-encoding" in self.fields

    @property
    def length(self) -> int | None:
        """Bytes of the body, None if they are not told beforehand. Raises BadHeadError."""
        text = self.fields.get("content-length")
        if text is None or self.is_chunked:
            return None
        if not _NUMBER.fullmatch(text):
            raise BadHeadError("its Content-Length is no number")
        return int(text)

    @property
    def content_range(self) -> ContentRange:
        """Raises BadHeadError if there is none that can be understood."""
        found = _RANGE.fullmatch(self.fields.get("content-range", ""))
        if not found:
            raise BadHeadError("it has no Content-Range that can be understood")
        first, last, total = (None if text in {None, "*"} else int(text) for text in found.groups())
        return ContentRange(first, last, total)

    def retry_after(self, now: datetime) -> float:
        """Seconds that the server asks us to wait, 0 if it does not."""
        text = self.fields.get("retry-after", "")
        if _NUMBER.fullmatch(text):
            return float(text)
        try:
            return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
        except (ValueError, TypeError, OverflowError):  # TypeError: a date without a time zone
            return 0.0


def split_head(received: bytes) -> tuple[Head, bytes] | None:
    """The head of the final answer, and what came behind it of the body; None if more has to be received.

    Raises BadHeadError, also for a head that is too large.
    """
    start = 0
    while found := _END.search(received, start):
        if found.end() > LARGEST_HEAD:
            break
        head = _read_head(received[start : found.start()])
        start = found.end()
        if head.status >= 200:
            return head, received[start:]
    if len(received) >= LARGEST_HEAD:
        raise BadHeadError(f"its head has more than {LARGEST_HEAD} bytes")
    return None


def _read_head(block: bytes) -> Head:
    first, *rest = [line.removesuffix("\r") for line in block.decode("latin-1").split("\n")]
    status = _STATUS.fullmatch(first)
    if not status:
        raise BadHeadError("it does not begin as an answer of HTTP does")
    fields: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not (colon and _NAME.fullmatch(name)) or _CONTROL.search(value):
            raise BadHeadError("its head has a line that is none of HTTP's")
        name, value = name.lower(), value.strip(" \t")
        if name in _ONLY_ONE and (fields.get(name, value) != value or not value.isascii()):
            raise BadHeadError(f"its head has a {name} that is none, or two")
        fields[name] = value
    if fields.get("transfer-encoding", "chunked").lower() != "chunked":
        raise BadHeadError("its body is encoded in another way than in chunks, so its end cannot be told")
    return Head(int(status[1]), fields)
