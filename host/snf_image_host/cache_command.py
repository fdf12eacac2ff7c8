# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-cache: what is in the cache of images, what is to be in it, and what is not any more."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.images.cache import Ordered, cached
from snf_image_host.images.cache_index import origin_key
from snf_image_host.images.cache_store import CacheStore, Kept, cache_store
from snf_image_host.images.checksum import parse_checksums
from snf_image_host.images.fetching import feed_whole
from snf_image_host.images.integrity import integrity_of
from snf_image_host.images.names import NO_IMAGE, WantedImage
from snf_image_host.images.opening import find_origin
from snf_image_host.images.origins import OriginKind
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress, printable
from snf_image_shared.errors import ConfigurationError, RequestError

_MIB = 1 << 20
_HEADINGS = ("SIZE", "LAST USED", "SHA256", "IMAGE")


def parser() -> argparse.ArgumentParser:
    """The options; the manual page is made of them."""
    top = argparse.ArgumentParser(
        prog="snf-image-cache", description="Show, fill or empty the cache for images from the network (CACHE_DIR)."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("list", help="print what is in it, what was used last first")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    fetch = commands.add_parser("prefetch", help="put an image into it, or see that what is there still holds")
    fetch.add_argument(
        "url", metavar="URL", help="as img_id; '-' reads it from standard input, as for one with a password"
    )
    fetch.add_argument("--format", default="diskdump", metavar="F", help="as img_format (%(default)s)")
    fetch.add_argument("--checksum", default="", metavar="C", help="as img_checksum, such as sha256:HEX")
    prune_help = "Remove what was not used for longest until no more than CACHE_SIZE is left."
    prune = commands.add_parser("prune", help="remove what was not used for longest", description=prune_help)
    amount = prune.add_mutually_exclusive_group()
    amount.add_argument("--all", action="store_true", help="remove everything")
    amount.add_argument("--size", type=_size, metavar="MIB", help="keep no more than this")
    return top


def run(options: argparse.Namespace, root: Path) -> None:
    """Do what the options say, with the settings below `root`. Raises SnfImageError."""
    if os.geteuid() != 0:
        raise ConfigurationError("the cache is root's alone: run snf-image-cache as root")
    settings = Settings.load("", root)
    match options.command:
        case "list":
            _list(settings, as_json=options.json)
        case "prefetch":
            url = sys.stdin.readline().strip() if options.url == "-" else options.url
            checksums = parse_checksums(options.checksum) if options.checksum else ()
            prefetch(WantedImage(url, options.format, checksums), settings)
        case "prune":
            limit = 0 if options.all else settings.cache_size if options.size is None else options.size
            with cache_store(settings.cache_dir) as store:
                _prune(store, limit * _MIB)


def prefetch(wanted: WantedImage, settings: Settings) -> None:
    """Have the image in the cache, and everything that has to hold of it checked. Raises SnfImageError."""
    if not settings.cache_size:
        raise ConfigurationError("there is no cache: set CACHE_SIZE in snf-image.conf, in MiB")
    with Progress.start("", None) as progress:
        origin = None if wanted.id == NO_IMAGE else find_origin(wanted, settings, progress)
        if origin is None or origin.kind is OriginKind.LOCAL:
            raise RequestError("only images from the network or from a program of yours are cached: give a URL")
        with (
            integrity_of(wanted.checksums, origin, settings) as integrity,
            cached(Ordered(origin, wanted, integrity), settings, progress) as content,
        ):
            if isinstance(content, Source) and integrity.is_wanted:
                feed_whole(content, integrity)
            if isinstance(content, Source):
                integrity.check_fetched(content.name)
        with cache_store(settings.cache_dir) as store:
            entry = store.lookup(origin_key(origin.kind, wanted.id))
            if not isinstance(content, Source) or not entry:
                raise ConfigurationError(f"{origin.name} could not be kept in the cache; the lines above say why")
            progress.log(f"{origin.name}: in the cache, sha256 {entry.digest}")


def _list(settings: Settings, *, as_json: bool) -> None:
    with cache_store(settings.cache_dir) as store:
        kept = store.kept()
    if as_json:
        _say([json.dumps(_document(kept, settings), indent=2)])
        return
    total = sum(each.space for each in kept)
    _say(_table(kept))
    _say([f"{len(kept)} images, {_mib(total)} of {settings.cache_size} MiB in {settings.cache_dir}"])


def _table(kept: Iterable[Kept]) -> Iterator[str]:
    for size, used, digest, name in (_HEADINGS, *map(_row, kept)):
        yield f"{size:>10}  {used:<16}  {digest:<64}  {name}"


def _row(kept: Kept) -> tuple[str, str, str, str]:
    names = ", ".join(sorted({printable(entry.name) for entry in kept.entries})) or "(nothing leads to it)"
    used = "in use" if kept.in_use else time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
    return _mib(kept.size), used, kept.digest, names


def _document(kept: Iterable[Kept], settings: Settings) -> dict[str, object]:
    images = [
        {
            "sha256": each.digest,
            "names": sorted({entry.name for entry in each.entries}),
            "size": each.size,
            "space": each.space,
            "used": int(each.used),
            "fetched": max((entry.fetched for entry in each.entries), default=0) // 10**9,
            "in_use": each.in_use,
        }
        for each in kept
    ]
    return {"directory": str(settings.cache_dir), "limit": settings.cache_size * _MIB, "images": images}


def _prune(store: CacheStore, limit: int) -> None:
    before = store.kept()
    store.prune(limit)
    after = store.kept()
    gone = sum(each.space for each in before) - sum(each.space for each in after)
    _say([f"{max(0, len(before) - len(after))} images removed, {_mib(max(0, gone))}; {len(after)} are left"])
    if sum(each.space for each in after) > limit:
        print("[WARNING] what is left is in use", file=sys.stderr)


def _say(lines: Iterable[str]) -> None:
    """A reader that has gone is no fault."""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"


def _size(text: str) -> int:
    """For argparse."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB")
    return int(text)
