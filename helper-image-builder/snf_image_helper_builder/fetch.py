# SPDX-License-Identifier: GPL-2.0-or-later
"""STORY: published helper -> fetched -> vouched for -> unpacked -> checked by its manifest -> swapped into place.

Nothing looks into the file before it is known to be what was published, and until the last step the old helper stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper_builder import tarball
from snf_image_helper_builder.build import held, is_current, require_place, require_room
from snf_image_helper_builder.download import Origin
from snf_image_helper_builder.replacement import remove_stale, replacement, scratch_beside
from snf_image_helper_builder.trust import check_signature, published_sha256, sha256_of
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import Manifest

Say = Callable[[str], None]
_NEEDS = 700 << 20
_SMALL = 64 << 10  # a checksum or a signature, bytes


@dataclass(frozen=True)
class Order:
    """What is asked for. `destination` and `keyring` are absolute; with `sha256`, in lower-case hex, no keyring is
    asked. `key` is the builder's key of the inputs that a helper made here would have. With `ufs` it must write UFS."""

    destination: Path
    origin: Origin
    keyring: Path
    key: str
    sha256: str | None = None
    force: bool = False
    ufs: bool | None = None


def install_published(order: Order, say: Say) -> bool:
    """Make the helper in `order.destination` the published one; False when it was built from the same already.

    Raises SnfImageError or OSError, and then the old helper is as it was.
    """
    if not order.force and is_current(order.destination, order.key, ufs=order.ufs):
        return False
    if os.geteuid() != 0:
        raise ConfigurationError("only root can install a helper image: run it with sudo")
    require_place(order.destination)
    require_room(order.destination.parent, _NEEDS, "--dest")
    with held(say, order.destination.parent):
        remove_stale(order.destination)
        with scratch_beside(order.destination) as scratch, replacement(order.destination, 0o755) as new:
            published = _fetched(order, scratch, say)
            say("unpacking and checking it")
            tarball.unpack(published, scratch, new)
            published.unlink()
            _check(new, order, say)
    return True


def _fetched(order: Order, scratch: Path, say: Say) -> Path:
    """The tarball, vouched for."""
    published = scratch / "tarball"
    say(f"fetching {order.origin}")
    if order.sha256 is None:
        # Before the large file: what is missing or in no order is said at once.
        order.origin.beside(".asc").fetch(scratch / "signature", _SMALL)
        order.origin.beside(".sha256").fetch(scratch / "sha256", _SMALL)
        expected = published_sha256(scratch / "sha256")
    else:
        expected = order.sha256
    order.origin.fetch(published, tarball.LARGEST)
    found = sha256_of(published)
    if found != expected:
        raise ConfigurationError(
            f"{order.origin} has the sha256 {found}, not {expected}: nothing is installed; "
            "try again, and if it stays so, ask who published it"
        )
    if order.sha256 is None:
        check_signature(published, scratch / "signature", order.keyring)
        say(f"its signature is good: {order.keyring} has the key")
    return published


def _check(new: Path, order: Order, say: Say) -> None:
    manifest = Manifest.load(new)
    if manifest.version != __version__:
        raise ConfigurationError(
            f"{order.origin} is a helper of version {manifest.version}, this is {__version__}: nothing is installed; "
            "get the one of this version, or upgrade"
        )
    try:
        manifest.check(new, deep=True)
    except ConfigurationError as error:
        raise ConfigurationError(f"{order.origin} contradicts itself: nothing is installed ({error})") from error
    if order.ufs and not manifest.ufs:
        raise ConfigurationError(
            f"{order.origin} is a helper whose kernel does not write UFS: nothing is installed; "
            "get one that was built --with-ufs, or build it here with --build"
        )
    if manifest.inputs != order.key:
        say("warning: it was not made from the very files that are installed here")
