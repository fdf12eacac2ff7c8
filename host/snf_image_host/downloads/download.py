# SPDX-License-Identifier: GPL-2.0-or-later
"""An image at a URL as an Origin: where it may lie, what it is called, and what lies beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from snf_image_host.configuration.setting_types import IMAGE_SCHEMES
from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.connection import Access, BrokenError
from snf_image_host.downloads.curl import Curl
from snf_image_host.downloads.download_stream import Download, Remote
from snf_image_host.downloads.fetch import AbsentError, Fetching, read_url
from snf_image_host.downloads.file_servers import file_server
from snf_image_host.downloads.patience import Patience
from snf_image_host.downloads.urls import Policy, RefusedError, Url
from snf_image_host.downloads.validators import Validators
from snf_image_host.images.origins import OriginKind
from snf_image_host.vm.leash import leash
from snf_image_shared.errors import ImageError, RequestError

_LARGEST_BESIDE = 1 << 20  # bytes of a file of checksums, or a signature
_LONGEST_SHOWN = 80  # characters of the image's own name


def is_url(img_id: str) -> bool:
    """Whether it has a scheme of those that are fetched."""
    return img_id.partition(":")[0].lower() in IMAGE_SCHEMES


def check_url(img_id: str, settings: Settings) -> None:
    """Raise RequestError for a URL that no image can come from. Pure: nobody is asked, and no address is looked up."""
    _parsed(img_id, settings)


def _tell_nobody(text: str) -> None:
    """Where there is no log."""


@dataclass(frozen=True)
class NetworkOrigin:
    """An image at `url`. With `is_checked` the operator gave a checksum, which decides where servers prove little.

    `tell` hears of servers that fail and are asked again.
    """

    url: str = field(repr=False)
    settings: Settings = field(repr=False)
    is_checked: bool = False
    tell: Callable[[str], None] = field(default=_tell_nobody, repr=False, compare=False)

    kind = OriginKind.NETWORK

    @property
    def name(self) -> str:
        """Scheme, host, and the last part of the path: the rest may hold a secret."""
        url = _parsed(self.url, self.settings)
        path = urlsplit(url.text).path
        return f"image {url}{'/...' if path.count('/') > 1 else ''}/{path.rpartition('/')[2][:_LONGEST_SHOWN]}"

    @property
    def basename(self) -> str:
        """The last part of the path, as a file of that name is called."""
        last = urlsplit(_parsed(self.url, self.settings).text).path.rpartition("/")[2]
        plain = unquote(last, errors="replace")
        return plain if plain.isprintable() and "/" not in plain else last

    @contextmanager
    def open(self) -> Iterator[Download]:
        """As Origin says. What the server refuses is told before anything has been read."""
        url = _parsed(self.url, self.settings)
        with self._access() as access:
            image = Remote(self.name, url, self.is_checked)
            with closing(Download(image, access, Patience(self.settings), self.tell)) as download:
                yield download

    def unchanged(self, validators: Validators) -> bool:
        """Whether the server still has that version: one cheap request. False if it does not say.

        Raises ImageError when it cannot be asked.
        """
        url = _parsed(self.url, self.settings)
        with self._access() as access:
            try:
                return validators.can_be_asked and file_server(url, access).is_unchanged(url, validators)
            except (BrokenError, RefusedError) as error:
                raise ImageError(f"{self.name}: {error}") from error

    def beside(self, name: str) -> bytes | None:
        """As Origin says; empty files are refused. The query of the image's URL is not sent."""
        parts = urlsplit(_parsed(self.url, self.settings).text)  # or its ValueError would show all of the host's part
        path = f"{parts.path.rpartition('/')[0]}/{quote(name, safe='')}"
        url = _parsed(parts._replace(path=path, query="", fragment="").geturl(), self.settings)
        curl, policy = Curl.of(self.settings), Policy.of_images(self.settings)
        try:
            return read_url(url, Fetching(curl, policy, self.settings.fetch_timeout, _LARGEST_BESIDE))
        except AbsentError:
            return None
        except RefusedError as error:
            raise ImageError(f"{self.name}: {name} beside it: {error}") from error

    @contextmanager
    def _access(self) -> Iterator[Access]:
        policy = Policy.of_images(self.settings)
        with leash() as held:
            yield Access(Curl.of(self.settings), policy, held, self.settings.image_stall_timeout)


def _parsed(text: str, settings: Settings) -> Url:
    try:
        return Policy.of_images(settings).parse(text)
    except RefusedError as error:
        raise RequestError(f"OS parameter img_id: {error}") from error
