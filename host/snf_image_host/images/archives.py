# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that are no disk: tarballs and dumps. The node looks at their first bytes alone; the helper unpacks them.

They are verified whole before the helper VM is started, because nothing that it wrote could be taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Opened
from snf_image_host.images.cache import Ordered, cached
from snf_image_host.images.dump_headers import check_dump
from snf_image_host.images.fetching import feed_whole
from snf_image_host.images.formats import HEAD, Kind, foreign_stream, wrappers
from snf_image_host.images.integrity import integrity_of
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import find_origin
from snf_image_host.images.recipes import Compression, Recipe
from snf_image_host.images.sources import Source
from snf_image_host.images.spool import in_scratch
from snf_image_host.progress import Progress
from snf_image_shared.deployment import Form
from snf_image_shared.errors import ImageError

FORMS = frozenset(Form)


@contextmanager
def open_archive(wanted: WantedImage, settings: Settings, progress: Progress) -> Iterator[Source]:
    """The image's bytes as they are stored, verified; for the length of the block. To be entered before any thread.

    Raises ImageError, RequestError, ConfigurationError.
    """
    origin = find_origin(wanted, settings, progress)
    with ExitStack() as stack:
        integrity = stack.enter_context(integrity_of(wanted.checksums, origin, settings))
        for warning in integrity.warnings:
            progress.warning(warning)
        integrity.fetched_is_content()
        order = Ordered(origin, wanted, integrity, partial(_check_form, Form(wanted.format)))
        content = stack.enter_context(cached(order, settings, progress))
        if not isinstance(content, Source):
            opened = Opened(content, Recipe(), integrity, wanted.format)
            content = stack.enter_context(in_scratch(opened, settings, progress))
        for warning in content.warnings:
            progress.warning(warning)
        _check_form(Form(wanted.format), content)
        if integrity.is_wanted:
            feed_whole(content, integrity)
            integrity.all_fed()
        integrity.check_fetched(content.name)
        yield content


def _check_form(form: Form, source: Source) -> None:
    """Raise ImageError for what cannot be that. What is inside of a compressed tarball only the helper sees."""
    head = source.head(HEAD)
    both = wrappers(head)
    if len(both) > 1:
        raise ImageError(
            f"{source.name} can be taken for {' and for '.join(kind.text for kind in both)}; publish it again"
        )
    kind = foreign_stream(head)
    compressed = kind is not None and kind.name in set(Compression)
    is_tar = kind is not None and kind.name == "" and "tar archive" in kind.text
    is_dump = kind is not None and "dump(8)" in kind.text
    if form is Form.TARBALL and not (compressed or is_tar):
        raise ImageError(f"{source.name} is no tarball: {_described(kind)}; say its format, or publish it again")
    if form is Form.DUMP and not is_dump:
        raise ImageError(f"{source.name} is no dump(8): {_described(kind)}; say its format, or publish it again")
    if form is Form.DUMP:
        check_dump(head, source.name)


def _described(kind: Kind | None) -> str:
    return f"it is {kind.text}" if kind else "nothing is known that begins like it"
