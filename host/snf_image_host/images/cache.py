# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: images from elsewhere that stay on this node's disk for the next deployment.

An image is first downloaded into the cache and then copied onto the disk from there. Writing to both at once would save
one pass, but then a slow or failing disk would hold up, or spoil, what other deployments wait for. This way whoever
wants the same image waits for the download alone, and everything that can be checked of an image has been checked
before its disk is touched.

What comes in is fed to the image's integrity on its way. It gets a name, and so can be found by another deployment,
only after what is expected of its bytes has held and the first of them agree with its format: what is cut, refused or
not even an image is gone with the file that has no name. What comes out of the cache is hashed again while it is read.
If it is not what came in, the disk does not boot, the entry is removed, and the next run downloads it again.

An entry is used without asking anybody if img_checksum names its sha256, also when the server is away. Otherwise the
server is asked whether it still has that version (ETag, Last-Modified); if it cannot be asked the image is fetched
again. A cache that is full is no reason to fail: then the image is streamed as if there were none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import StreamedImage
from snf_image_host.downloads.download import NetworkOrigin
from snf_image_host.downloads.validators import Validators
from snf_image_host.images.cache_directory import Scratch, read_only, room, unnamed_file
from snf_image_host.images.cache_index import Entry, origin_key
from snf_image_host.images.cache_store import CacheStore, cache_store
from snf_image_host.images.fetching import fill_scratch, sha256_of
from snf_image_host.images.formats import HEAD
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.names import WantedImage
from snf_image_host.images.origins import Origin, OriginKind
from snf_image_host.images.recipes import recipe_for
from snf_image_host.images.sources import Source
from snf_image_host.images.streams import Stream
from snf_image_host.progress import Progress
from snf_image_shared.errors import DiskError, ImageError

_MIB = 1 << 20


@dataclass(frozen=True)
class Ordered:
    """An image that is asked for: where it is, what the request says of it, and what has to hold of its bytes.

    `check` raises ImageError unless it begins as it has to; without one it has to begin as an image of a disk.
    """

    origin: Origin
    wanted: WantedImage
    integrity: Integrity
    check: Callable[[Source], None] | None = None

    def check_beginning(self, source: Source) -> None:
        """Raise ImageError unless the first bytes agree with the format."""
        if self.check:
            self.check(source)
        else:
            recipe_for(self.wanted.format, source.head(HEAD), source.name)


@contextmanager
def cached(order: Ordered, settings: Settings, progress: Progress) -> Iterator[Source | Stream]:
    """The image's bytes as they are stored at its origin, out of the cache if there is one. No thread is left.

    Raises ImageError, RequestError, ConfigurationError.
    """
    with ExitStack() as stack:
        if order.origin.kind is OriginKind.LOCAL or not settings.cache_size:
            yield stack.enter_context(order.origin.open())
            return
        try:
            store = stack.enter_context(cache_store(settings.cache_dir))
        except DiskError as error:
            progress.warning(f"{order.origin.name} is not put into the cache: {error}")
            yield stack.enter_context(order.origin.open())
            return
        cache = _Cache(store, settings.cache_size * _MIB, order, progress)
        yield cache.found(stack) or stack.enter_context(order.origin.open())


@dataclass(frozen=True)
class _Cache:
    """One look for an image. What is opened for the deployment goes onto the `stack` that the methods are given."""

    store: CacheStore
    limit: int
    order: Ordered
    progress: Progress

    def found(self, stack: ExitStack) -> Source | Stream | None:
        """The image, or None: to be streamed from its origin.

        Only one run at a time looks for the same image. The others wait; if it fails, the next one tries.
        """
        name = self.order.origin.name
        key = origin_key(self.order.origin.kind, self.order.wanted.id)
        entry = self.store.lookup(key)
        if entry and self._is_current(entry) and (source := self._kept(entry, stack)):
            return source
        with self.store.alone(key, lambda: self.progress.log(f"{name}: another run is fetching it, waiting for that")):
            came = self.store.lookup(key)
            # What came while we waited is as new as what we would get.
            if came and came != entry and self._is_expected(came) and (source := self._kept(came, stack)):
                return source
            try:
                return self._fetched(key, stack)
            except (DiskError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                self.progress.warning(f"{name} is not put into the cache: {reason}")
                self.order.integrity.start_again()
                return None

    def _kept(self, entry: Entry, stack: ExitStack) -> Source | None:
        name = self.order.origin.name
        fd = self.store.open_image(entry.digest, entry.size)
        if fd is None:
            return None
        stack.callback(os.close, fd)
        self.progress.log(f"{name}: taken from the cache, sha256 {entry.digest}")
        source = Source(name, entry.size, fd, modified=os.fstat(fd).st_mtime_ns)
        stack.push(lambda kind, error, trace: self._doubt(entry, source, error))
        integrity = self.order.integrity
        integrity.keep_digest()
        integrity.also_check(lambda _: self._check_digest(entry))
        return source

    def _is_current(self, entry: Entry) -> bool:
        """Whether it is what the origin would give now, as far as that can be asked."""
        if self._digests:
            return self._is_expected(entry)
        origin = self.order.origin
        try:
            return isinstance(origin, NetworkOrigin) and origin.unchanged(entry.validators)
        except ImageError as error:
            self.progress.log(f"{error}; so it is asked for all of it")
            return False

    def _is_expected(self, entry: Entry) -> bool:
        """Whether nothing that the request says of the image is known not to hold."""
        return all(digest == entry.digest for digest in self._digests)

    @property
    def _digests(self) -> list[str]:
        sums = self.order.wanted.checksums
        return [each.digest for each in sums if each.algorithm == "sha256" and not each.of_content]

    def _check_digest(self, entry: Entry) -> None:
        found = self.order.integrity.sha256
        if found != entry.digest:
            raise ImageError(
                f"{self.order.origin.name}: its copy in CACHE_DIR {self.store.path} was changed, it has the sha256 "
                f"{found} instead of {entry.digest}: it is removed, so try again; and check the disk below CACHE_DIR"
            )

    def _doubt(self, entry: Entry, source: Source, error: BaseException | None) -> bool:
        """A deployment has failed for its image: if that is so because the entry is damaged, the next one must not.

        Who looks into an image may find a fault before the last byte has been hashed.
        """
        if isinstance(error, ImageError):
            with suppress(ImageError):
                if sha256_of(source) == entry.digest:
                    return False
            self.store.discard(entry.digest, source.fd)
        return False

    def _fetched(self, key: str, stack: ExitStack) -> Source | Stream | None:
        """The image after it has got into the cache; or as it comes, if it never can. Raises DiskError, OSError."""
        with ExitStack() as download:
            content = download.enter_context(self.order.origin.open())
            refusal = self._refusal(content)
            if refusal:
                self.progress.log(f"{content.name} is not kept in the cache: {refusal}")
            if refusal or isinstance(content, Source):
                stack.enter_context(download.pop_all())
                return content
            self.progress.log(f"{content.name} is fetched into the cache, and copied from there afterwards")
            with ExitStack() as own:
                source = self._filled(key, content, own)
                stack.enter_context(own.pop_all())
                return source

    def _filled(self, key: str, content: Stream, stack: ExitStack) -> Source:
        order, path = self.order, self.store.path
        order.integrity.keep_digest()
        fd = stack.enter_context(unnamed_file(self.store.directory, path))
        scratch = Scratch(
            path, fd, self.limit, lambda: DiskError(f"it has more than {self.limit >> 20} MiB (CACHE_SIZE)")
        )
        image = StreamedImage(content, order.integrity, order.wanted.format)
        size = fill_scratch(image, scratch, self.progress)
        order.integrity.all_fed()
        order.integrity.check_fetched(content.name)
        source = stack.enter_context(read_only(fd, content.name))
        order.check_beginning(source)
        validators: Validators = getattr(content, "validators", Validators())
        entry = Entry(
            key=key,
            name=content.name,
            digest=order.integrity.sha256,
            size=size,
            etag=validators.etag,
            last_modified=validators.last_modified,
            fetched=time.time_ns(),
        )
        try:
            if not self.store.commit(fd, entry, self.limit):
                self.progress.log(f"{content.name} is not kept in the cache: what is there is in use")
        except DiskError as error:
            self.progress.warning(f"{content.name} is not kept in the cache: {error}")
        return source

    def _refusal(self, content: Source | Stream) -> str:
        """Why it cannot get into the cache at all; "" if nobody can tell yet, or it can."""
        size = content.size
        if size is None or isinstance(content, Source):
            return ""
        if size > self.limit:
            return f"it has {size >> 20} MiB, more than CACHE_SIZE"
        if not self.store.make_room(size, self.limit):
            return "what is there is in use"
        free = room(self.store.directory)
        return f"CACHE_DIR {self.store.path} has only {free >> 20} MiB free" if size > free else ""
