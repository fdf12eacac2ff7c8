# SPDX-License-Identifier: GPL-2.0-or-later
"""CACHE_DIR is root's alone or refused, and what is on its way there has no name."""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_file_system import small_file_system
from snf_image_host.copying.edges import edges_last
from snf_image_host.images.cache_directory import Scratch, cache_directory, read_only, unnamed_file
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError

MIB = 1 << 20


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_TMPFILE, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught, cache_directory(path):
        pass
    return str(caught.value)


def test_a_missing_directory_is_made_for_its_owner_alone(directory: Path) -> None:
    with cache_directory(directory / "a/b"), cache_directory(directory / "a/b"):
        pass
    assert stat.S_IMODE((directory / "a/b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o750, 0o755, 0o1777])
def test_a_directory_that_others_may_enter_is_refused(directory: Path, mode: int) -> None:
    path = directory / "cache"
    path.mkdir()
    path.chmod(mode)
    assert refusal(path) == (
        f"CACHE_DIR {path} has mode {mode:04o}, so its content cannot be trusted: empty it, and 'chmod 700' it"
    )


@pytest.mark.root
def test_a_directory_that_another_user_has_made_before_us_is_refused(directory: Path) -> None:
    path = directory / "cache"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    assert refusal(path) == f"CACHE_DIR {path} belongs to user 65534, so its content cannot be trusted: remove it"


@pytest.mark.root
@pytest.mark.parametrize(("owner", "mode"), [(65534, 0o755), (0, 0o775), (0, 0o777)])
def test_a_directory_that_others_can_exchange_is_refused(directory: Path, owner: int, mode: int) -> None:
    parent = directory / "parent"
    (parent / "cache").mkdir(parents=True, mode=0o700)
    parent.chmod(mode)
    os.chown(parent, owner, 0)
    assert f"{parent} belongs to user {owner} with mode {mode:04o}" in refusal(parent / "cache")


def test_below_a_directory_like_tmp_a_name_cannot_be_exchanged_and_is_ours(directory: Path) -> None:
    directory.chmod(0o1777)
    with cache_directory(directory / "cache") as found:
        assert os.path.sameopenfile(found, found)
    assert (directory / "cache").is_dir()


@pytest.mark.parametrize("where", ["cache", "cache/images"])
def test_a_symbolic_link_is_refused_wherever_it_is(directory: Path, where: str) -> None:
    (directory / "elsewhere").mkdir(mode=0o700)
    (directory / "cache").symlink_to("elsewhere")
    path = directory / where
    assert refusal(path) == (
        f"CACHE_DIR {path}: {directory / 'cache'} is a symbolic link or no directory: name the directory itself"
    )
    assert list((directory / "elsewhere").iterdir()) == []


def test_a_file_in_its_place_is_refused(directory: Path) -> None:
    (directory / "cache").touch()
    assert "is a symbolic link or no directory" in refusal(directory / "cache")


def test_what_is_written_there_has_no_name_and_its_holes_take_no_space(directory: Path) -> None:
    path = directory / "cache"
    content = b"\x01" * MIB + bytes(7 * MIB) + b"\x02" * 4096 + b"rest"
    with cache_directory(path) as cache, unnamed_file(cache, path) as fd:
        scratch = Scratch(path, fd, 16 * MIB, lambda: ImageError("too much"))
        with edges_last(scratch) as disk:
            disk.write_sparsely(_aligned(content), 0)
            disk.release()
        scratch.finish(len(content))
        with read_only(fd, "the image") as source:
            assert (source.size, os.pread(source.fd, 16 * MIB, 0)) == (len(content), content)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(source.fd, b"x")
        assert os.fstat(fd).st_blocks * 512 < 2 * MIB
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        assert list(path.iterdir()) == []


def test_more_than_its_limit_is_refused_and_zeros_count(directory: Path) -> None:
    path = directory / "cache"
    with cache_directory(path) as cache, unnamed_file(cache, path) as fd:
        scratch = Scratch(path, fd, MIB, lambda: ImageError("too much"))
        with edges_last(scratch) as disk:
            with pytest.raises(ImageError, match="too much"):
                disk.write_sparsely(_aligned(b"\x01" * 4096), 2 * MIB)
            with pytest.raises(ImageError, match="too much"):
                disk.zero(2 * MIB, 4096)


@pytest.mark.root
def test_a_full_file_system_is_an_error_that_names_it(directory: Path) -> None:
    path = directory / "cache"
    with small_file_system(path, 2), cache_directory(path) as cache, unnamed_file(cache, path) as fd:
        scratch = Scratch(path, fd, 16 * MIB, lambda: ImageError("too much"))
        with pytest.raises(DiskError) as caught:
            scratch.write(_aligned(os.urandom(4 * MIB)), 0)
        text = "No space left on device; make space on the file system it lies on"
        assert str(caught.value).startswith(f"CACHE_DIR {path}: cannot be written at byte ")
        assert text in str(caught.value)


def _aligned(content: bytes) -> memoryview:
    memory = memoryview(mmap.mmap(-1, len(content)))
    memory[:] = content
    return memory
