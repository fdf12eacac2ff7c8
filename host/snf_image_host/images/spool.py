# SPDX-License-Identifier: GPL-2.0-or-later
"""A container that came as a stream, or compressed, as a file: who reads it has to seek in it.

The file has no name, so it is gone with us, however we end, and its space with it. It is complete, and what was fetched
is verified, before anything looks into the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Opened, StreamedImage
from snf_image_host.images.cache_directory import Scratch, cache_directory, read_only, room, unnamed_file
from snf_image_host.images.decoder import decoded
from snf_image_host.images.fetching import fill_scratch
from snf_image_host.images.formats import HEAD
from snf_image_host.images.recipes import Container, Recipe, recipe_for
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError

_MIB = 1 << 20


@contextmanager
def spooled(opened: Opened, settings: Settings, progress: Progress) -> Iterator[Opened]:
    """The same image as an uncompressed file that can be read in any order: `content` is a Source.

    No thread is left. Raises ImageError for what is wrong with the image, ConfigurationError for CACHE_DIR.
    """
    if isinstance(opened.content, Source) and opened.recipe.compression is None:
        yield opened
        return
    with in_scratch(opened, settings, progress) as source:
        yield replace(opened, content=source, recipe=_recipe(opened, source))


@contextmanager
def in_scratch(opened: Opened, settings: Settings, progress: Progress) -> Iterator[Source]:
    """The image, decompressed if its recipe says so, as a file without a name; verified. Raises as spooled() does."""
    name = opened.content.name
    path = settings.cache_dir
    with cache_directory(path) as directory, unnamed_file(directory, path) as fd:
        too_large = ImageError(
            f"{name} takes more than the {settings.spool_size} MiB that one image may have in CACHE_DIR {path}: "
            "raise SPOOL_SIZE, or publish it as a raw image"
        )
        if opened.recipe.compression is None:
            _check_size(opened, settings, room(directory), too_large)
        progress.log(f"{name} has to be read out of order: it is put into {path} first")
        scratch = Scratch(path, fd, settings.spool_size * _MIB, lambda: too_large)
        try:
            _fill(opened, scratch, settings, progress)
        except DiskError as error:
            raise ConfigurationError(f"{name}: {error}") from error
        opened.integrity.all_fed()
        opened.integrity.check_fetched(name)
        with read_only(fd, name) as source:
            yield source


def _check_size(opened: Opened, settings: Settings, free: int, too_large: ImageError) -> None:
    size = opened.content.size
    if size is not None and size > settings.spool_size * _MIB:
        raise too_large
    if size is not None and size > free:
        raise ConfigurationError(
            f"{opened.content.name} has {size >> 20} MiB and has to be read out of order, but CACHE_DIR "
            f"{settings.cache_dir} has only {free >> 20} MiB free: make space there, or put it elsewhere"
        )


def _fill(opened: Opened, scratch: Scratch, settings: Settings, progress: Progress) -> None:
    if isinstance(opened.content, Source) or opened.recipe.compression:
        inner = replace(opened, recipe=Recipe(opened.recipe.compression, Container.RAW))
        with decoded(inner, settings) as image:
            fill_scratch(image, scratch, progress)
    else:
        fill_scratch(StreamedImage(opened.content, opened.integrity, opened.img_format), scratch, progress)


def _recipe(opened: Opened, source: Source) -> Recipe:
    """What the file is: only once it is decompressed it can be seen whether it is what was announced."""
    recipe = recipe_for(opened.img_format, source.head(HEAD), source.name)
    if recipe.compression:
        raise ImageError(f"{source.name} is compressed twice: publish it compressed once, or not at all")
    return recipe
