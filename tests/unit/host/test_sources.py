# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snf_image_host.copying.buffers import huge_pages
from snf_image_host.disks.targets import open_target
from snf_image_host.images.sources import ALIGNMENT, Source, open_device, open_source
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError, RequestError

BLOCK = 64 << 10


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image directory with two images, and a secret outside of it."""
    directory = tmp_path / "images"
    (directory / "sub").mkdir(parents=True)
    (directory / "debian.diskdump").write_bytes(b"debian")
    (directory / "sub" / "arch").write_bytes(b"arch")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "images-evil").mkdir()
    (tmp_path / "images-evil" / "x").write_bytes(b"x")
    return directory


def content(img_id: str, images: Path) -> bytes:
    with open_source(img_id, images, "diskdump") as source:
        return os.pread(source.fd, 100, 0)


@pytest.mark.row(50)
@pytest.mark.parametrize("img_id", ["debian.diskdump", "local://debian.diskdump", "file://debian.diskdump"])
def test_a_local_image_is_found_in_each_form(images: Path, img_id: str) -> None:
    assert content(img_id, images) == b"debian"


@pytest.mark.row(50)
def test_an_image_in_a_subdirectory_is_found(images: Path) -> None:
    assert content("sub/arch", images) == b"arch"


def test_a_source_knows_its_name_and_size(images: Path) -> None:
    with open_source("sub/arch", images) as source:
        assert (source.name, source.size, source.warnings) == ("image 'sub/arch'", 4, ())


@pytest.mark.row(50)
def test_file_urls_work_with_a_warning(images: Path) -> None:
    with open_source("file://sub/arch", images) as source:
        assert "local://sub/arch" in source.warnings[0]


@pytest.mark.row(52)
def test_a_name_without_extension_is_completed_with_a_warning(images: Path) -> None:
    with open_source("debian", images, "diskdump") as source:
        assert source.size == 6
        assert "debian.diskdump" in source.warnings[0]


def test_the_descriptor_is_closed_at_the_end(images: Path) -> None:
    with open_source("sub/arch", images) as source:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(source.fd)


@pytest.mark.row(51)
@pytest.mark.parametrize(
    "img_id", ["../secret", "sub/../../secret", "/etc/passwd", "../images-evil/x", "local:///etc/passwd"]
)
def test_a_path_that_leaves_the_directory_is_refused(images: Path, img_id: str) -> None:
    with pytest.raises(RequestError, match="leaves"):
        content(img_id, images)


def test_a_percent_encoded_path_is_only_a_name(images: Path) -> None:
    with pytest.raises(ImageError, match="there is no file"):
        content("%2e%2e/secret", images)


@pytest.mark.parametrize("img_id", ["", "local://", "a\0b", "a\nb", "a\x1b[2J"])
def test_what_is_no_file_name_is_refused(images: Path, img_id: str) -> None:
    with pytest.raises(RequestError, match="is not a file name"):
        content(img_id, images)


def test_an_error_never_repeats_control_characters(images: Path) -> None:
    with pytest.raises(RequestError) as caught:
        content("a\x1b[2J", images)
    assert str(caught.value).isprintable()


@pytest.mark.row(51)
@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "debian.diskdump", "nowhere"])
def test_a_symbolic_link_in_the_directory_is_refused(images: Path, target: str) -> None:
    (images / "link").symlink_to(target)
    with pytest.raises(ImageError, match="symbolic link"):
        content("link", images)


@pytest.mark.row(51)
def test_a_symbolic_link_on_the_way_is_refused(images: Path) -> None:
    (images / "way").symlink_to("sub")
    with pytest.raises(ImageError, match="symbolic link"):
        content("way/arch", images)


def test_the_image_directory_itself_may_be_a_link(images: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(images)
    assert content("sub/arch", tmp_path / "link") == b"arch"


@pytest.mark.row(53)
def test_a_fifo_is_refused_without_waiting_for_a_writer(images: Path) -> None:
    os.mkfifo(images / "fifo")
    with pytest.raises(ImageError, match="not a regular file"):
        content("fifo", images)


@pytest.mark.row(53)
def test_a_directory_is_refused(images: Path) -> None:
    with pytest.raises(ImageError, match="not a regular file"):
        content("sub", images)


def test_a_socket_is_refused(images: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(images / "socket"))
        with pytest.raises(ImageError, match="'socket' cannot be opened"):
            content("socket", images)


@pytest.mark.row(53)
@pytest.mark.root
def test_a_device_is_refused(images: Path) -> None:
    os.mknod(images / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    with pytest.raises(ImageError, match="not a regular file"):
        content("zero", images)


@pytest.mark.row(53)
def test_a_missing_image_is_named_with_its_directory(images: Path) -> None:
    with pytest.raises(ImageError, match=f"'plan9'.*{images}"):
        content("plan9", images)


def test_a_missing_image_directory_is_the_administrators_error(images: Path) -> None:
    with pytest.raises(ConfigurationError, match="IMAGE_DIR"):
        content("debian", images / "nowhere")


@pytest.mark.parametrize("img_id", ["http://example.org/x", "ftp://x", "pithos://a/b/c", "gopher://x", "c:x"])
def test_another_scheme_is_refused_with_what_is_supported(images: Path, img_id: str) -> None:
    with pytest.raises(RequestError, match=r"nothing here has images of the kind.*'null'.*local://") as caught:
        content(img_id + "canary", images)
    assert "canary" not in str(caught.value)  # it may be a URL with a password


Layout = list[tuple[bool, int]]


@settings(max_examples=60, deadline=None)
@given(
    layout=st.lists(st.tuples(st.booleans(), st.integers(1, 5 * BLOCK)), max_size=8),
    start=st.integers(0, 12).map(lambda n: n * ALIGNMENT),
)
def test_extents_cover_the_range_once_and_holes_are_zeros(layout: Layout, start: int) -> None:
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        expected = b""
        for is_data, length in layout:
            if is_data:
                os.pwrite(file.fileno(), b"\xa5" * length, len(expected))
            expected += (b"\xa5" if is_data else b"\0") * length
        file.truncate(len(expected))
        source = Source("image", len(expected), file.fileno())
        position = start
        for extent in source.extents(start, len(expected)):
            assert extent.offset == position
            assert extent.length > 0
            assert extent.offset % ALIGNMENT == 0
            position += extent.length
            if not extent.is_data:
                assert not any(expected[extent.offset : position])
        assert position == max(start, len(expected))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(images: Path) -> None:
    (images / "big").write_bytes(b"x" * (3 * ALIGNMENT))
    with open_source("big", images) as source:
        os.truncate(images / "big", ALIGNMENT + 100)
        with pytest.raises(ImageError, match=f"ends at byte {ALIGNMENT + 100}, but had {3 * ALIGNMENT} bytes"):
            source.read(huge_pages(4 * ALIGNMENT), 0, 3 * ALIGNMENT)


def test_a_file_that_is_written_while_it_is_read_is_noticed(images: Path) -> None:
    with open_source("sub/arch", images) as source:
        source.check_unchanged()
        (images / "sub" / "arch").write_bytes(b"ARCH")
        os.utime(images / "sub" / "arch", ns=(1, 1))
        with pytest.raises(ImageError, match="was changed while it was read"):
            source.check_unchanged()


def test_a_direct_read_gives_the_odd_end_of_a_file(images: Path) -> None:
    data = os.urandom(2 * ALIGNMENT + 77)
    (images / "odd").write_bytes(data)
    buffer = huge_pages(4 * ALIGNMENT)
    with open_source("odd", images) as source, source.direct():
        source.read(buffer, 0, len(data))
    assert bytes(buffer[: len(data)]) == data


def test_a_device_that_is_missing_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="activated"), open_device(tmp_path / "none"):
        pass


def test_a_disk_that_is_being_written_is_not_attached_a_second_time(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with open_target(disk), pytest.raises(DiskError, match="given twice"), open_device(disk):
        pass
    with open_device(disk), open_device(disk):
        pass
