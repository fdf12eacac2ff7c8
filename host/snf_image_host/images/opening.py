# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of opening an image: img_id -> origin -> its bytes -> recipe -> Image. Nothing is written onto a disk.

An Image is what copy() puts there. Whatever has to be interpreted for that is interpreted by an unprivileged process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from snf_image_host.configuration.backends import Backend, Kind, has_programs, ranked, refusal
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Image, Opened, PlainImage, StreamedImage
from snf_image_host.downloads.download import NetworkOrigin, is_url
from snf_image_host.images.cache import Ordered, cached
from snf_image_host.images.converter import converted
from snf_image_host.images.decoder import decoded
from snf_image_host.images.formats import HEAD
from snf_image_host.images.integrity import integrity_of
from snf_image_host.images.names import NO_IMAGE, WantedImage, is_local, local_name, unknown_kind
from snf_image_host.images.origins import LocalOrigin, Origin
from snf_image_host.images.plugins import program_origin, why_not_told
from snf_image_host.images.recipes import Container, Recipe, recipe_for
from snf_image_host.images.sources import Source
from snf_image_host.images.spool import spooled
from snf_image_host.images.streams import HeadedStream, Stream
from snf_image_host.progress import Progress
from snf_image_shared.errors import RequestError


@contextmanager
def open_image(wanted: WantedImage, settings: Settings, progress: Progress) -> Iterator[Image | None]:
    """Open the image, for the length of the block; None for `null`. To be entered before any thread is started.

    Raises RequestError, ImageError, ConfigurationError.
    """
    if wanted.id == NO_IMAGE:
        yield None
        return
    with opened_image(wanted, settings, progress) as opened, image_of(opened, settings, progress) as image:
        yield image


@contextmanager
def opened_image(wanted: WantedImage, settings: Settings, progress: Progress) -> Iterator[Opened]:
    """The bytes of an image other than `null`, and what is to be made of them. Raises as open_image() does."""
    origin = find_origin(wanted, settings, progress)
    with ExitStack() as stack:
        integrity = stack.enter_context(integrity_of(wanted.checksums, origin, settings))
        for warning in integrity.warnings:
            progress.warning(warning)
        content = stack.enter_context(cached(Ordered(origin, wanted, integrity), settings, progress))
        for warning in content.warnings if isinstance(content, Source) else ():
            progress.warning(warning)
        head, content = _with_head(content)
        recipe = recipe_for(wanted.format, head, content.name)
        yield Opened(content, recipe, integrity, wanted.format)


@contextmanager
def image_of(opened: Opened, settings: Settings, progress: Progress) -> Iterator[Image]:
    """What copy() puts on a disk, for the length of the block. Raises ImageError, ConfigurationError."""
    with ExitStack() as stack:
        match opened.recipe:
            case Recipe(compression=None, container=Container.RAW):
                yield _as_it_is(opened)
            case Recipe(container=Container.RAW):
                yield stack.enter_context(decoded(opened, settings))
            case Recipe():
                whole = stack.enter_context(spooled(opened, settings, progress))
                read = decoded if whole.recipe.container is Container.QCOW2 else converted
                yield stack.enter_context(read(whole, settings))


def find_origin(wanted: WantedImage, settings: Settings, progress: Progress) -> Origin:
    """What serves the image: the first that takes it, by the priorities; not for NO_IMAGE.

    To be called before any thread is started. Raises RequestError, ConfigurationError.
    """
    why_not = why_not_told(wanted.id)
    if why_not and has_programs(settings.backends):
        progress.log(f"img_id {why_not}: no program is asked for it")
    for backend in ranked(settings.backends, Kind.SOURCE):
        if _takes(backend, wanted.id):
            return _built_in(wanted, settings, progress)
        asked = backend.program and not why_not
        if asked and (origin := program_origin(backend, wanted.id, settings, progress)):
            return origin
    for backend in settings.backends:
        if backend.disabled_by and _takes(backend, wanted.id):
            raise refusal(backend)
    raise unknown_kind(wanted.id)


def _takes(backend: Backend, img_id: str) -> bool:
    """Whether a built-in source is the one for images that are named like this."""
    match backend:
        case Backend(kind=Kind.SOURCE, name="network", program=None):
            return is_url(img_id)
        case Backend(kind=Kind.SOURCE, name="local", program=None):
            return is_local(img_id)
    return False


def _built_in(wanted: WantedImage, settings: Settings, progress: Progress) -> Origin:
    if is_url(wanted.id):
        return NetworkOrigin(wanted.id, settings, bool(wanted.checksums), progress.log)
    _refuse_cached(wanted.id, settings)
    return LocalOrigin(wanted.id, wanted.format, settings.image_dir)


def _refuse_cached(img_id: str, settings: Settings) -> None:
    """Raise RequestError for the name of what was fetched from a URL: only who knows that URL is to have it.

    The CACHE_DIR of `image` lies in its IMAGE_DIR.
    """
    images, cache = (Path(os.path.realpath(each)) for each in (settings.image_dir, settings.cache_dir))
    found = Path(os.path.realpath(images / local_name(img_id)[0]))
    if cache != images and found.is_relative_to(cache) and cache.is_relative_to(images):
        raise RequestError("OS parameter img_id: it leads into CACHE_DIR; give the image's URL, or put it beside that")


def _as_it_is(opened: Opened) -> Image:
    opened.integrity.fetched_is_content()
    if isinstance(opened.content, Source):
        return PlainImage(opened.content, opened.integrity, opened.img_format)
    return StreamedImage(opened.content, opened.integrity, opened.img_format)


def _with_head(content: Source | Stream) -> tuple[bytes, Source | Stream]:
    if isinstance(content, Source):
        return content.head(HEAD), content
    stream = HeadedStream(content, HEAD)
    return stream.head, stream
