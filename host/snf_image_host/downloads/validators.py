# SPDX-License-Identifier: GPL-2.0-or-later
"""Which version of a file a server has given, and whether another answer of it is of the same version. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_host.downloads.http_heads import BadHeadError, Head

_OK, _PARTIAL, _UNCHANGED, _NO_SUCH_RANGE = 200, 206, 304, 416


class ChangedError(Exception):
    """What was said of the version that was being read does not hold any more, and why."""


@dataclass(frozen=True)
class Validators:
    """What a server said of the version of a file that it gave: `etag` and `last_modified` as in its headers, "" if it
    did not say; `size` in bytes, None if unknown.
    """

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @classmethod
    def of(cls, head: Head) -> Validators:
        """Of an answer that gives a whole file. Raises BadHeadError."""
        return cls(head.etag, head.last_modified, head.length)

    @property
    def can_be_asked(self) -> bool:
        """Whether a server can be asked later if this is still the version that it has."""
        return bool(self.etag or self.last_modified)

    @property
    def proof(self) -> str:
        """What shows that a part belongs to this version: a strong ETag, else the time of the last change, else ""."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def when_changed(self) -> list[str]:
        """Headers of a request that is answered at length only if there is another version."""
        if self.etag:
            return [f"If-None-Match: {self.etag}"]
        return [f"If-Modified-Since: {self.last_modified}"] if self.last_modified else []

    def rest(self, position: int) -> list[str]:
        """Headers of a request for what comes from `position` on, if the version is still the same."""
        return [f"Range: bytes={position}-", *([f"If-Range: {self.proof}"] if self.proof else [])]

    def is_told_by(self, head: Head) -> bool:
        """Whether the answer to when_changed() says that this is the version still."""
        if head.status == _UNCHANGED:
            return True
        is_same = bool(self.proof) and self._is_version_of(head)
        return head.status == _OK and is_same and head.length == self.size

    def check_rest(self, head: Head, position: int, *, is_checked: bool) -> int:
        """The size of the whole file, as the answer to rest() tells it.

        Without a proof it is accepted only if `is_checked`: then a checksum of all decides. Raises ChangedError,
        BadHeadError.
        """
        if head.status != _PARTIAL:
            what = "the server gives all of it again" if head.status == _OK else f"the server answered {head.status}"
            raise ChangedError(f"{what} when it was asked for the rest")
        part = head.content_range
        if part.first != position:
            raise ChangedError(f"the server gives another part than the one from byte {position} on")
        if part.total is None:  # then a part that ends before the file does would be taken for the end
            raise BadHeadError("its Content-Range does not tell the size of the whole")
        if self.size not in {None, part.total}:
            raise ChangedError("it has another size now")
        if self.proof and not self._is_version_of(head):
            raise ChangedError("it is another version now")
        if not (self.proof or is_checked):
            raise ChangedError("the server tells no version")
        length = head.length
        if part.last is None or length not in {None, part.last - position + 1}:
            raise BadHeadError("its Content-Range and its Content-Length contradict each other")
        return part.total

    def _is_version_of(self, head: Head) -> bool:
        """Whether it has the same proof; what is weak, and so proves nothing, may still tell another version."""
        own, its = self.etag.removeprefix("W/"), head.etag.removeprefix("W/")
        is_other = bool(own and its and own != its)
        return not is_other and Validators(head.etag, head.last_modified).proof == self.proof
