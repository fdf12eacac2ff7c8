# SPDX-License-Identifier: GPL-2.0-or-later
"""The small files beside an image that vouch for it: lists of checksums, and signatures of the image or of such a list.

A list is as good as the place where it lies: who can change the image there can change the list, unless it is signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from snf_image_host.images.checksum import DIGITS, Checksum
from snf_image_host.images.origins import Origin
from snf_image_shared.errors import ImageError

SIGNATURES = (".sig", ".asc", ".gpg", ".sign")  # what is added to the name of what is signed
_LENGTHS = {**DIGITS, "md5": 32, "sha1": 40}
_BSD = {"sha256": "SHA256", "sha512": "SHA512", "md5": "MD5", "sha1": "SHA1"}
_ESCAPED = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@dataclass(frozen=True)
class Sidecar:
    """A small file that lies beside an image."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class ChecksumList:
    """The file `name` holds checksums of one algorithm, `is_of_one` of the image alone."""

    name: str
    algorithm: str
    is_of_one: bool = False

    def checksum(self, text: bytes, image: str, *, is_signed: bool = False) -> Checksum | None:
        """What the list says of the image's name; None if it says nothing. Raises ImageError if it says two things.

        A file of the image alone need not have its name right, or at all: mirrors rename images. What is signed has to,
        or it could be the signed checksum of another image.
        """
        lines = list(_lines(text, self.algorithm))
        found = {digest for digest, name in lines if _plain(name) == image}
        if self.is_of_one and not found and not is_signed:
            found = {digest for digest, _ in lines}
        if len(found) > 1:
            raise ImageError(f"{self.name} has different checksums of {image!r}: publish it again")
        return Checksum(self.algorithm, found.pop(), said_by=f"{self.name} beside it") if found else None


def lists_for(image: str) -> tuple[ChecksumList, ...]:
    """Where an image of that name may have its checksum, in the order in which they are looked for."""
    return (
        ChecksumList(f"{image}.sha256", "sha256", is_of_one=True),
        ChecksumList(f"{image}.sha512", "sha512", is_of_one=True),
        ChecksumList("SHA256SUMS", "sha256"),
        ChecksumList("SHA512SUMS", "sha512"),
    )


def checksum_beside(origin: Origin, *, accept_sha1: bool = False) -> Checksum:
    """What a list beside the image says of it; MD5 if there is nothing better. Raises ImageError if none does.

    With `accept_sha1` the list may be instance-image's: IMAGE.sig with a line of sha1sum.
    """
    image = _basename(origin)
    weak = [ChecksumList(f"{image}.sig", "sha1", is_of_one=True)] if accept_sha1 else []
    lists = (*lists_for(image), *weak, ChecksumList(f"{image}.md5sum", "md5", is_of_one=True))
    for each in lists:
        text = origin.beside(each.name)
        if text is not None and (found := each.checksum(text, image)):
            return found
    raise ImageError(
        f"{origin.name} has no checksum, and this node wants one (VERIFY=checksum): give img_checksum, or publish "
        f"{' or '.join(each.name for each in lists[:4])} beside it"
    )


def signature_beside(origin: Origin, name: str) -> Sidecar | None:
    """The first detached signature of the file `name`, the image or one beside it. Raises ImageError."""
    for suffix in SIGNATURES:
        content = origin.beside(name + suffix)
        if content is not None:
            return Sidecar(name + suffix, content)
    return None


def signed_lists(origin: Origin) -> Iterator[tuple[ChecksumList, Sidecar]]:
    """The lists beside the image, with their content. Raises ImageError."""
    for each in lists_for(_basename(origin)):
        text = origin.beside(each.name)
        if text is not None:
            yield each, Sidecar(each.name, text)


def _basename(origin: Origin) -> str:
    if not origin.basename:
        raise ImageError(f"{origin.name} has no file name, so nothing can vouch for it beside it: give img_checksum")
    return origin.basename


def _lines(text: bytes, algorithm: str) -> Iterator[tuple[str, str]]:
    """Digests in lower case with the names of their files, "" for none, in the formats of coreutils and of BSD.

    Other lines mean nothing: comments, the armour around a signed list, other algorithms, an error page of a server.
    """
    digest = f"(?P<digest>[0-9A-Fa-f]{{{_LENGTHS[algorithm]}}})"
    gnu = re.compile(rf"(?P<escaped>\\?){digest}(?: [ *]|[ \t]+)(?P<name>.+)")
    bsd = re.compile(rf"(?P<escaped>\\?){_BSD[algorithm]} ?\((?P<name>.+)\) ?= ?{digest}")
    alone = re.compile(rf"(?P<escaped>){digest}(?P<name>)")
    lines = (line.rstrip("\r \t") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    for line in lines:
        if found := gnu.fullmatch(line) or bsd.fullmatch(line) or alone.fullmatch(line):
            name = found["name"]
            if found["escaped"]:
                name = re.sub(r"\\[\\nr]", lambda pair: _ESCAPED[pair[0]], name)
            yield found["digest"].lower(), name


def _plain(name: str) -> str:
    """Without the path of the directory itself before it."""
    while name.startswith("./"):
        name = name[2:]
    return name
