# SPDX-License-Identifier: GPL-2.0-or-later
"""What stays in the cache, what goes, and what is not believed: with images that come from no network at all."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_file_system import small_file_system
from snf_image_host.configuration.settings import Settings
from snf_image_host.images.cache import Ordered, cached
from snf_image_host.images.cache_index import Entry, dump_entry, load_entry, origin_key
from snf_image_host.images.cache_store import cache_store
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.names import WantedImage
from snf_image_host.images.origins import OriginKind
from snf_image_host.images.sources import Source
from snf_image_host.images.streams import Stream
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

MIB = 1 << 20
PARTITION = bytes(446) + bytes.fromhex("0000020083ffffff0008000000080000") + bytes(48) + b"\x55\xaa"


_NUMBERS = itertools.count()


class Bytes:
    """A stream of them; without a `size` nobody has said how many there are."""

    def __init__(self, content: bytes, size: int | None) -> None:
        self.name = "image of a program"
        self.size = size
        self._file = io.BytesIO(content)

    def readinto(self, view: memoryview) -> int:
        return self._file.readinto(view[: 1 << 20])


class Delivered:
    """An image that a program of the administrator's delivers; `opened` counts how often it was asked for."""

    kind = OriginKind.PROGRAM
    name = basename = "image of a program"

    def __init__(self, content: bytes, has_size: bool = True) -> None:
        self.content = content
        self.opened = 0
        self.has_size = has_size
        self.id = f"program:{next(_NUMBERS)}"

    @contextmanager
    def open(self) -> Iterator[Source | Stream]:
        self.opened += 1
        yield Bytes(self.content, len(self.content) if self.has_size else None)

    def beside(self, name: str) -> bytes | None:
        return None


@pytest.fixture
def directory() -> Iterator[Path]:
    """CACHE_DIR, on a file system with O_TMPFILE, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name, "cache")


def image(mib: float = 1) -> bytes:
    return PARTITION + os.urandom(int(mib * MIB) - len(PARTITION))


def checksum(content: bytes) -> Checksum:
    return Checksum("sha256", hashlib.sha256(content).hexdigest())


@contextmanager
def opened(
    directory: Path, origin: Delivered, size: int = 16, sums: tuple[Checksum, ...] = ()
) -> Iterator[Source | Stream]:
    """As a deployment opens an image; it is read and checked when the block ends."""
    integrity = Integrity(*sums)
    settings = Settings(cache_dir=directory, cache_size=size)
    log = io.StringIO()
    with Progress.start("", None, log=log) as progress:
        wanted = WantedImage(origin.id, "diskdump", sums)
        with cached(Ordered(origin, wanted, integrity), settings, progress) as content:
            yield content
            found = _all(content)
            if integrity.is_wanted:
                integrity.feed(memoryview(found))
            integrity.check_fetched(content.name)
            assert found == origin.content


def deploy(directory: Path, origin: Delivered, size: int = 16, sums: tuple[Checksum, ...] | None = None) -> bool:
    """Whether the image came from a file of the cache's."""
    with opened(directory, origin, size, (checksum(origin.content),) if sums is None else sums) as content:
        return isinstance(content, Source)


def kept(directory: Path) -> set[str]:
    """The digests of the images in it, each of which is whole."""
    found = {path.name.removeprefix("image-"): path for path in directory.glob("image-*")}
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == digest for digest, path in found.items())
    return set(found)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _all(content: Source | Stream) -> bytes:
    if isinstance(content, Source):
        return os.pread(content.fd, content.size, 0)
    found = bytearray()
    view = memoryview(bytearray(MIB))
    while count := content.readinto(view):
        found += view[:count]
    return bytes(found)


def test_an_image_whose_checksum_is_known_is_asked_for_once(directory: Path) -> None:
    origin = Delivered(image())
    assert [deploy(directory, origin) for _ in range(3)] == [True] * 3
    assert origin.opened == 1
    assert kept(directory) == {checksum(origin.content).digest}


def test_what_nobody_can_ask_about_is_fetched_again(directory: Path) -> None:
    origin = Delivered(image())
    deploy(directory, origin, sums=())
    origin.content = image()
    deploy(directory, origin, sums=())
    assert origin.opened == 2
    assert kept(directory) == {checksum(origin.content).digest}


def test_without_a_size_there_is_no_cache(directory: Path) -> None:
    origin = Delivered(image())
    assert not deploy(directory, origin, size=0)
    assert not directory.exists()


@pytest.mark.parametrize("has_size", [True, False])
def test_what_is_larger_than_the_cache_is_streamed_and_leaves_what_is_there(directory: Path, has_size: bool) -> None:
    small, large = Delivered(image()), Delivered(image(3), has_size)
    deploy(directory, small, size=2)
    assert not deploy(directory, large, size=2)
    assert kept(directory) == {checksum(small.content).digest}


def test_what_was_not_used_for_longest_goes_first_and_the_limit_holds(directory: Path) -> None:
    first, second, third = (Delivered(image(2)) for _ in range(3))
    for origin in (first, second, first, third):
        deploy(directory, origin, size=5)
    assert kept(directory) == {checksum(each.content).digest for each in (first, third)}
    assert sum(path.stat().st_blocks * 512 for path in directory.iterdir()) <= 5 * MIB
    deploy(directory, second, size=5)
    assert kept(directory) == {checksum(each.content).digest for each in (second, third)}
    assert [first.opened, second.opened, third.opened] == [1, 2, 1]


def test_an_image_that_a_deployment_reads_does_not_go(directory: Path) -> None:
    reading, other = Delivered(image(2)), Delivered(image(2))
    sums = (checksum(reading.content),)
    for _ in range(2):  # just fetched, and found there
        with opened(directory, reading, 3, sums):
            assert not deploy(directory, other, size=3)
            assert kept(directory) == {sums[0].digest}
    assert deploy(directory, other, size=3)
    assert kept(directory) == {checksum(other.content).digest}


def test_two_origins_of_the_same_bytes_need_the_space_of_one(directory: Path) -> None:
    content = image()
    deploy(directory, Delivered(content))
    deploy(directory, Delivered(content))
    assert len(kept(directory)) == 1
    with cache_store(directory) as store:
        assert [len(each.entries) for each in store.kept()] == [2]


def test_who_knows_a_digest_does_not_get_the_image_of_another_origin(directory: Path) -> None:
    content = image()
    deploy(directory, Delivered(content))
    other = Delivered(content)
    deploy(directory, other)
    assert other.opened == 1


def test_holes_of_an_image_take_no_space(directory: Path) -> None:
    origin = Delivered(PARTITION + bytes(7 * MIB) + os.urandom(MIB))
    deploy(directory, origin)
    deploy(directory, origin)
    with cache_store(directory) as store:
        [found] = store.kept()
    assert (found.size, found.space < 2 * MIB, origin.opened) == (len(origin.content), True, 1)


REFUSED: dict[str, Callable[[bytes], tuple[bytes, tuple[Checksum, ...]]]] = {
    "another checksum": lambda content: (image(), (checksum(b""),)),
    "no image": lambda content: (b"<!DOCTYPE html><html><body>Not found</body></html>" + bytes(4096), ()),
    "another format": lambda content: (b"QFI\xfb\0\0\0\3" + content, ()),
    "nothing": lambda content: (b"", ()),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_not_kept_and_leaves_what_was_there(directory: Path, kind: str) -> None:
    good = image()
    origin = Delivered(good)
    deploy(directory, origin)
    before = names(directory)
    origin.content, sums = REFUSED[kind](good)
    with pytest.raises(ImageError):
        deploy(directory, origin, sums=sums)
    assert names(directory) == before
    assert kept(directory) == {checksum(good).digest}
    origin.content = good
    assert deploy(directory, origin)
    assert origin.opened == 2


@pytest.mark.parametrize("offset", [0, 512 * 1024, MIB - 1])
def test_an_image_that_was_changed_in_the_cache_is_refused_once_and_fetched_again(directory: Path, offset: int) -> None:
    origin = Delivered(image())
    deploy(directory, origin)
    [path] = directory.glob("image-*")
    with path.open("r+b") as file:
        file.seek(offset)
        changed = bytes([file.read(1)[0] ^ 1])
        file.seek(offset)
        file.write(changed)
    digest = checksum(origin.content).digest
    with pytest.raises(
        ImageError, match=rf"its copy in CACHE_DIR {directory} was changed, .* instead of {digest}: it is removed"
    ):
        deploy(directory, origin)
    assert kept(directory) == set()
    assert deploy(directory, origin)
    assert (origin.opened, kept(directory)) == (2, {digest})


def test_damage_that_a_decoder_finds_first_is_found_to_be_the_cache_s(directory: Path) -> None:
    origin = Delivered(image())
    sums = (checksum(origin.content),)
    deploy(directory, origin)
    with pytest.raises(ImageError, match="a cluster"), opened(directory, origin, 16, sums):
        raise ImageError("a cluster cannot be decompressed")
    assert kept(directory) == {sums[0].digest}, "it was not the cache's fault"
    [path] = directory.glob("image-*")
    with path.open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(ImageError, match="a cluster"), opened(directory, origin, 16, sums):
        raise ImageError("a cluster cannot be decompressed")
    assert kept(directory) == set()


def test_who_finds_damage_does_not_remove_what_has_taken_its_place_meanwhile(directory: Path) -> None:
    origin = Delivered(image())
    sums = (checksum(origin.content),)
    deploy(directory, origin)
    with pytest.raises(ImageError, match="was changed"), opened(directory, origin, 16, sums):
        [path] = directory.glob("image-*")
        with path.open("r+b") as file:
            file.write(b"\xff")
        path.unlink()
        assert deploy(directory, origin)
    assert kept(directory) == {sums[0].digest}


def _truncate(path: Path) -> None:
    os.truncate(path, 4096)


def _extend(path: Path) -> None:
    os.truncate(path, 2 * MIB)


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [_truncate, _extend, _link, _fifo, _open_to_all, _remove])
@pytest.mark.parametrize("what", ["image", "index"])
def test_what_is_no_whole_file_of_ours_counts_as_none(
    directory: Path, what: str, spoil: Callable[[Path], None]
) -> None:
    origin = Delivered(image())
    deploy(directory, origin)
    before = names(directory)
    [path] = directory.glob(f"{what}-*")
    spoil(path)
    assert deploy(directory, origin)
    assert (origin.opened, names(directory)) == (2, before)
    assert all(
        path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600
        for path in directory.iterdir()
    )
    assert deploy(directory, origin)
    assert origin.opened == 2


def test_a_record_that_leads_to_another_image_counts_as_none(directory: Path) -> None:
    first, second = Delivered(image()), Delivered(image())
    deploy(directory, first)
    [own] = directory.glob("index-*")
    deploy(directory, second)
    [other] = set(directory.glob("index-*")) - {own}
    own.write_bytes(other.read_bytes())
    deploy(directory, first)
    own.write_bytes(own.read_bytes().replace(checksum(first.content).digest.encode(), b"../../../../../etc/shadow"))
    deploy(directory, first)
    assert first.opened == 3


@given(st.binary(max_size=300))
def test_a_record_is_whole_or_none(text: bytes) -> None:
    key = origin_key("network", "https://example.com/image")
    entry = Entry(key=key, name="image", digest="ab" * 32, size=4096, etag='"1"', fetched=1)
    assert load_entry(dump_entry(entry), key) == entry
    assert load_entry(dump_entry(entry), "cd" * 32) is None
    for record in (text, dump_entry(entry) + text[:1], hashlib.sha256(text).hexdigest().encode() + b"\n" + text):
        assert load_entry(record, key) in {None, entry if record == dump_entry(entry) else None}


def test_only_one_run_at_a_time_has_an_entry_and_others_have_theirs(directory: Path) -> None:
    waited: list[str] = []
    keys = [origin_key("network", name) for name in ("a", "b")]
    with cache_store(directory) as store, cache_store(directory) as again, store.alone(keys[0], lambda: None):
        with again.alone(keys[1], lambda: waited.append("b")):
            pass

        def let_go() -> None:
            waited.append("a")
            raise InterruptedError

        with pytest.raises(InterruptedError), again.alone(keys[0], let_go):
            pass
    assert waited == ["a"]


@pytest.mark.root
@pytest.mark.parametrize("has_size", [True, False])
def test_a_cache_whose_disk_is_full_is_passed_by(directory: Path, has_size: bool) -> None:
    origin = Delivered(image(4), has_size)
    with small_file_system(directory, 2):
        assert not deploy(directory, origin)
        assert names(directory) in ([], ["lock"])
        status = os.statvfs(directory)
        assert (status.f_blocks - status.f_bfree) * status.f_frsize < MIB
    assert origin.opened == (1 if has_size else 2)


@pytest.mark.root
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_cache_that_can_have_no_more_files_is_passed_by(directory: Path, files: int) -> None:
    origin = Delivered(image())
    with small_file_system(directory, 4, files):
        assert deploy(directory, origin) is (files == 2)
        assert origin.opened == (2 if files == 1 else 1)
        assert kept(directory) == set()
