# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers that cannot be read as they come: complete in an unnamed file, verified, and only then looked into."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from http_server import Answer, How, http_server
from small_file_system import small_file_system
from snf_image_host.configuration.backends import built_in
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import copy
from snf_image_host.disks.targets import open_target
from snf_image_host.images.checksum import parse_checksums
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, ImageError, SnfImageError

pytestmark = pytest.mark.root

MIB = 1 << 20
GARBAGE = b"\xa5" * (9 * MIB)
PARTITION = bytes(446) + bytes.fromhex("0000020083ffffff0008000000280000") + bytes(48) + b"\x55\xaa"
PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared", "tests")]!r}
sys.path.append({str(Path(__file__).parent)!r})
from pathlib import Path
from test_spool import Node
Node(Path(sys.argv[1])).deploy(sys.argv[2], "qcow2", log=sys.stderr)
"""


@dataclass(frozen=True)
class Node:
    """A node whose cache, images and disk are below `directory`."""

    directory: Path
    spool_size: int = 16

    def deploy(self, url: str, img_format: str, checksum: str = "", log: io.TextIOBase | None = None) -> bytes:
        """What is on the disk then. As create does it, but for the helper VM."""
        path = self.directory / "disk"
        path.write_bytes(GARBAGE)
        settings = Settings(
            cache_dir=self.directory / "cache",
            image_dir=self.directory,
            spool_size=self.spool_size,
            image_allow="127.0.0.1",
            image_retries=0,
            image_stall_timeout=3600,
            backends=built_in(),
        )
        wanted = WantedImage(url, img_format, parse_checksums(checksum) if checksum else ())
        with (
            Progress.start("", None, log=log or io.StringIO()) as progress,  # type: ignore[arg-type]
            open_image(wanted, settings, progress) as image,
            open_target(path) as target,
        ):
            assert image
            copy(image, target, progress)
        return path.read_bytes()

    def is_empty(self) -> bool:
        return list((self.directory / "cache").iterdir()) == []


@dataclass(frozen=True)
class Published:
    """A disk's `content` and the same `wrapped` as it is published."""

    content: bytes
    wrapped: bytes

    @property
    def checksum(self) -> str:
        return f"sha256:{hashlib.sha256(self.wrapped).hexdigest()}"


@pytest.fixture
def node() -> Iterator[Node]:
    """On a file system with O_TMPFILE, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Node(Path(name))


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(tmp_path_factory.mktemp("qcow2"), "qcow2")


def published(directory: Path, container: str) -> Published:
    content = PARTITION + os.urandom(3 * MIB - len(PARTITION)) + bytes(3 * MIB) + os.urandom(2 * MIB)
    (directory / "raw").write_bytes(content)
    command = ["qemu-img", "convert", "-f", "raw", "-O", container, str(directory / "raw"), str(directory / "wrapped")]
    subprocess.run(command, check=True)
    return Published(content, (directory / "wrapped").read_bytes())


def disk_of(image: Published) -> bytes:
    return image.content + bytes(len(GARBAGE) - len(image.content))


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED])
def test_a_qcow2_image_is_deployed_from_the_network(node: Node, qcow2: Published, how: How) -> None:
    with http_server({"/image": Answer(qcow2.wrapped, how=how)}) as server:
        assert node.deploy(f"{server.url}/image", "qcow2", qcow2.checksum) == disk_of(qcow2)
    assert len(server.asked) == 1
    assert node.is_empty()


def test_a_compressed_qcow2_image_is_deployed_from_the_network_and_from_a_file(node: Node, qcow2: Published) -> None:
    packed = Published(qcow2.content, gzip.compress(qcow2.wrapped, 1))
    with http_server({"/image": Answer(packed.wrapped)}) as server:
        assert node.deploy(f"{server.url}/image", "qcow2", packed.checksum) == disk_of(qcow2)
    (node.directory / "image.gz").write_bytes(packed.wrapped)
    assert node.deploy("image.gz", "qcow2", packed.checksum) == disk_of(qcow2)
    assert node.is_empty()


def test_a_vmdk_image_is_deployed_from_the_network(node: Node, tmp_path: Path) -> None:
    image = published(tmp_path, "vmdk")
    with http_server({"/image": Answer(image.wrapped)}) as server:
        assert node.deploy(f"{server.url}/image", "vmdk", image.checksum) == disk_of(image)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_container_that_is_not_what_was_expected_is_never_looked_into(
    node: Node, qcow2: Published, is_packed: bool
) -> None:
    """Behind its head there is nothing that a decoder would take."""
    broken = qcow2.wrapped[:4096] + os.urandom(len(qcow2.wrapped) - 4096)
    body = gzip.compress(broken, 1) if is_packed else broken
    with http_server({"/image": Answer(body)}) as server, pytest.raises(ImageError, match="img_checksum expects"):
        node.deploy(f"{server.url}/image", "qcow2", qcow2.checksum)
    assert (node.directory / "disk").read_bytes() == GARBAGE
    assert node.is_empty()


def test_what_is_compressed_twice_or_no_such_container_is_refused(node: Node, qcow2: Published) -> None:
    (node.directory / "twice").write_bytes(gzip.compress(gzip.compress(qcow2.wrapped, 1), 1))
    (node.directory / "raw").write_bytes(gzip.compress(qcow2.content, 1))
    for name, text in (("twice", "compressed"), ("raw", "qcow2")):
        with pytest.raises(ImageError, match=text):
            node.deploy(name, "qcow2")
    assert (node.directory / "disk").read_bytes() == GARBAGE


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED])
def test_what_takes_more_than_spool_size_is_refused(node: Node, qcow2: Published, how: How) -> None:
    small = Node(node.directory, spool_size=4)
    text = f"takes more than the 4 MiB that one image may have in CACHE_DIR {node.directory}/cache: raise SPOOL_SIZE"
    with http_server({"/image": Answer(qcow2.wrapped, how=how)}) as server, pytest.raises(ImageError, match=text):
        small.deploy(f"{server.url}/image", "qcow2")
    assert (node.directory / "disk").read_bytes() == GARBAGE


def test_what_is_compressed_may_not_become_more_than_spool_size(node: Node, qcow2: Published) -> None:
    bomb = qcow2.wrapped + bytes(64 * MIB)
    (node.directory / "bomb").write_bytes(gzip.compress(bomb, 1))
    with pytest.raises(ImageError, match="takes more than the 16 MiB that one image may have"):
        node.deploy("bomb", "qcow2")


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED])
def test_a_full_cache_directory_is_an_error_that_names_it(node: Node, qcow2: Published, how: How) -> None:
    answers = {"/image": Answer(qcow2.wrapped, how=how)}
    cache = node.directory / "cache"
    with small_file_system(cache, 3), http_server(answers) as server:
        with pytest.raises(ConfigurationError) as caught:
            node.deploy(f"{server.url}/image", "qcow2")
        status = os.statvfs(cache)
        assert (status.f_blocks - status.f_bfree) * status.f_frsize < MIB // 4
        assert node.is_empty()
    assert f"CACHE_DIR {cache}" in str(caught.value) and "make space" in str(caught.value)
    assert ("has only 3 MiB free" if how is How.WHOLE else "No space left on device") in str(caught.value)
    assert (node.directory / "disk").read_bytes() == GARBAGE


@pytest.mark.row(58)
def test_a_container_that_is_cut_short_is_refused(node: Node, qcow2: Published) -> None:
    with http_server({"/image": Answer(qcow2.wrapped, how=How.CUT)}) as server, pytest.raises(SnfImageError):
        node.deploy(f"{server.url}/image", "qcow2")
    assert (node.directory / "disk").read_bytes() == GARBAGE
    assert node.is_empty()


@pytest.mark.row(77)
def test_a_killed_deployment_leaves_no_file_and_no_space_in_use(node: Node, qcow2: Published) -> None:
    """The server keeps back the second half."""
    cache = node.directory / "cache"
    with (
        small_file_system(cache, 16),
        http_server({"/image": Answer(qcow2.wrapped, how=How.STALLED)}) as server,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(node.directory), f"{server.url}/image"],
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr
        for line in process.stderr:
            if "has to be read out of order" in line:
                break
        process.kill()
        process.wait()
        assert node.is_empty()
        status = os.statvfs(cache)
        assert status.f_blocks - status.f_bfree <= 1
    assert (node.directory / "disk").read_bytes() == GARBAGE
