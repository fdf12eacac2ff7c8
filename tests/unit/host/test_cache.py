# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of a real HTTP server through the cache onto a disk: what the server is asked, by one run and by several."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from http_server import Answer, Asked, How, HttpServer, http_server
from snf_image_host.configuration.backends import built_in
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import copy
from snf_image_host.disks.targets import open_target
from snf_image_host.images.checksum import parse_checksums
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, ImageError

pytestmark = pytest.mark.root

MIB = 1 << 20
GARBAGE = b"\xa5" * (4 * MIB)
PATH = "/images/debian.raw"
PARTITION = bytes(446) + bytes.fromhex("0000020083ffffff0008000000080000") + bytes(48) + b"\x55\xaa"
PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import json, sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared", "tests")]!r}
sys.path.append({str(Path(__file__).parent)!r})
from pathlib import Path
from test_cache import Node
from snf_image_host.cli import _end
import signal
signal.signal(signal.SIGTERM, _end)
given = json.loads(sys.argv[1])
Node(Path(given["directory"])).deploy(given["url"], given["checksum"], given["disk"], log=sys.stderr)
"""


@dataclass(frozen=True)
class Node:
    """A node whose cache and disks are below `directory`."""

    directory: Path
    settings: Mapping[str, int] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    def deploy(self, url: str, checksum: str = "", disk: str = "disk", log: io.TextIOBase | None = None) -> bytes:
        """What is on the disk then. As create does it, but for the helper VM."""
        path = self.directory / disk
        path.write_bytes(GARBAGE)
        values = {"cache_size": 16, "image_retries": 0, "image_stall_timeout": 3600, **self.settings}
        settings = Settings(cache_dir=self.cache, image_allow="127.0.0.1", backends=built_in(), **values)  # type: ignore[arg-type]
        wanted = WantedImage(url, "diskdump", parse_checksums(checksum) if checksum else ())
        with (
            Progress.start("", None, log=log or io.StringIO()) as progress,  # type: ignore[arg-type]
            open_image(wanted, settings, progress) as image,
            open_target(path) as target,
        ):
            assert image
            copy(image, target, progress)
        return path.read_bytes()

    @contextmanager
    def started(self, url: str, disk: str, checksum: str = "") -> Iterator[subprocess.Popen[str]]:
        """The same in a process of its own, whose standard error is its log."""
        given = json.dumps({"directory": str(self.directory), "url": url, "checksum": checksum, "disk": disk})
        with subprocess.Popen([sys.executable, "-c", PROGRAM, given], stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def names(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.cache.iterdir())


@pytest.fixture
def node() -> Iterator[Node]:
    """On a file system with O_TMPFILE, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Node(Path(name))


def image(mib: int = 2) -> bytes:
    return PARTITION + os.urandom(mib * MIB - len(PARTITION))


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def disk_of(content: bytes) -> bytes:
    return content + GARBAGE[len(content) : -MIB] + bytes(MIB)


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[HttpServer, dict[str, Answer]]]:
    """A server that gives it at PATH; what it gives can be changed."""
    answers = {PATH: answer}
    with http_server(answers) as server:
        yield server, answers


def whole(server: HttpServer) -> int:
    """How often the image itself was asked for, not only whether it is still the same."""
    return sum(not {"If-None-Match", "If-Modified-Since"} & set(each.headers) for each in server.asked)


def is_heard(process: subprocess.Popen[str], text: str) -> bool:
    """Whether the process says so before it ends."""
    assert process.stderr
    return any(text in line for line in process.stderr)


@pytest.mark.parametrize("validator", [("ETag", '"1"'), ("Last-Modified", "Tue, 03 Nov 2026 10:00:00 GMT")])
def test_an_image_that_the_server_still_has_is_fetched_once(node: Node, validator: tuple[str, str]) -> None:
    content = image()
    with serving(Answer(content, headers=dict([validator]))) as (server, answers):
        assert node.deploy(server.url + PATH) == disk_of(content)
        answers[PATH] = Answer(status=304, headers=dict([validator]))
        assert node.deploy(server.url + PATH) == disk_of(content)
    [first, second] = server.asked
    assert "If-None-Match" not in first.headers and "If-Modified-Since" not in first.headers
    assert second.headers["If-None-Match" if validator[0] == "ETag" else "If-Modified-Since"] == validator[1]


@pytest.mark.image_row(88)
def test_an_image_that_the_server_has_changed_takes_the_place_of_the_old_one(node: Node) -> None:
    old, new = image(), image()
    with serving(Answer(old, headers={"ETag": '"1"'})) as (server, answers):
        node.deploy(server.url + PATH)
        answers[PATH] = Answer(new, headers={"ETag": '"2"'})
        assert node.deploy(server.url + PATH) == disk_of(new)
    assert node.names() == ["image", "index", "lock"]


def test_an_image_without_etag_and_time_is_fetched_each_time(node: Node) -> None:
    with serving(Answer(image())) as (server, answers):
        node.deploy(server.url + PATH)
        answers[PATH] = Answer(new := image())
        assert node.deploy(server.url + PATH) == disk_of(new)
    assert whole(server) == 2


def test_a_server_that_cannot_say_whether_it_has_changed_is_asked_for_it_again(node: Node) -> None:
    """It may be well again at the next question, and that one is repeated if it is not."""
    content = image()

    def answer(asked: Asked, earlier: int) -> Answer:
        return Answer(status=503) if "If-None-Match" in asked.headers else Answer(content, headers={"ETag": '"1"'})

    with http_server({PATH: answer}) as server:
        node.deploy(server.url + PATH)
        assert node.deploy(server.url + PATH) == disk_of(content)
    assert (whole(server), len(server.asked)) == (2, 3)


def test_with_its_checksum_an_image_needs_no_network_any_more(node: Node) -> None:
    content = image()
    with serving(Answer(content)) as (server, _):
        node.deploy(server.url + PATH, sha256(content))
    assert node.deploy(server.url + PATH, sha256(content)) == disk_of(content)
    assert len(server.asked) == 1
    with pytest.raises(ImageError):
        node.deploy(server.url + PATH)


def test_another_checksum_asks_for_another_image(node: Node) -> None:
    old, new = image(), image()
    with serving(Answer(old, headers={"ETag": '"1"'})) as (server, answers):
        node.deploy(server.url + PATH, sha256(old))
        with pytest.raises(ImageError, match="img_checksum expects"):
            node.deploy(server.url + PATH, sha256(new))
        assert (node.directory / "disk").read_bytes() == GARBAGE, "it was refused before the disk was touched"
        answers[PATH] = Answer(new, headers={"ETag": '"1"'})
        assert node.deploy(server.url + PATH, sha256(new)) == disk_of(new)
    assert whole(server) == 3


def test_a_changed_entry_does_not_boot_and_is_fetched_again(node: Node) -> None:
    content = image()
    with serving(Answer(content)) as (server, _):
        node.deploy(server.url + PATH, sha256(content))
        [path] = node.cache.glob("image-*")
        with path.open("r+b") as file:
            file.seek(MIB + 4711)
            file.write(bytes(16))
        with pytest.raises(ImageError, match=r"its copy in CACHE_DIR .* was changed"):
            node.deploy(server.url + PATH, sha256(content))
        disk = (node.directory / "disk").read_bytes()
        assert (disk[:MIB], disk[-MIB:]) == (bytes(MIB), bytes(MIB))
        assert node.deploy(server.url + PATH, sha256(content)) == disk_of(content)
    assert len(server.asked) == 2


def test_a_cache_that_anybody_may_have_filled_is_refused_before_anything_is_fetched(node: Node) -> None:
    node.cache.mkdir()
    node.cache.chmod(0o777)
    with serving(Answer(image())) as (server, _), pytest.raises(ConfigurationError, match="cannot be trusted"):
        node.deploy(server.url + PATH)
    assert server.asked == []


@pytest.mark.row(58, 77)
def test_a_download_that_is_cut_leaves_nothing(node: Node) -> None:
    with serving(Answer(image(), how=How.CUT)) as (server, _), pytest.raises(ImageError):
        node.deploy(server.url + PATH)
    assert node.names() == ["lock"]
    assert (node.directory / "disk").read_bytes() == GARBAGE


def test_no_password_and_no_query_is_stored_in_clear(node: Node) -> None:
    with serving(Answer(image(), headers={"ETag": '"1"'})) as (server, _):
        url = server.url.replace("//", "//user:hunter2@") + PATH + "?token=s3cr3t"
        log = io.StringIO()
        node.deploy(url, log=log)
    for path in node.cache.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        for secret in ("hunter2", "s3cr3t"):
            assert secret not in path.name and secret.encode() not in path.read_bytes()
    assert "hunter2" not in log.getvalue() and "s3cr3t" not in log.getvalue()


@pytest.mark.image_row(88)
@pytest.mark.row(77)
@pytest.mark.parametrize("is_checked", [True, False])
def test_deployments_of_one_image_share_one_download(node: Node, is_checked: bool) -> None:
    content = image()
    checksum = sha256(content) if is_checked else ""
    with serving(Answer(content, how=How.HELD)) as (server, _), ExitStack() as stack:
        first = stack.enter_context(node.started(server.url + PATH, "first", checksum))
        server.came.wait()
        others = [stack.enter_context(node.started(server.url + PATH, name, checksum)) for name in ("b", "c")]
        for other in others:
            assert is_heard(other, "another run is fetching it")
        server.let_go.set()
        for process in (first, *others):
            said = process.communicate()[1]
            assert process.returncode == 0, said
    assert len(server.asked) == 1
    assert all((node.directory / name).read_bytes() == disk_of(content) for name in ("first", "b", "c"))


@pytest.mark.row(77)
def test_who_waits_for_a_download_takes_over_when_that_is_killed(node: Node) -> None:
    content = image()
    with serving(Answer(content, how=How.HELD)) as (server, _), ExitStack() as stack:
        first = stack.enter_context(node.started(server.url + PATH, "first", sha256(content)))
        server.came.wait()
        second = stack.enter_context(node.started(server.url + PATH, "second", sha256(content)))
        assert is_heard(second, "another run is fetching it")
        first.kill()
        first.wait()
        server.let_go.set()
        said = second.communicate()[1]
        assert second.returncode == 0, said
    assert len(server.asked) == 2
    assert (node.directory / "second").read_bytes() == disk_of(content)
    assert (node.directory / "first").read_bytes() == GARBAGE


@pytest.mark.row(77)
def test_a_download_that_is_killed_leaves_nothing(node: Node) -> None:
    with serving(Answer(image(), how=How.STALLED)) as (server, _), node.started(server.url + PATH, "disk") as process:
        assert is_heard(process, "is fetched into the cache")
        process.kill()
        process.wait()
        assert node.names() == ["lock"]
        assert (node.directory / "disk").read_bytes() == GARBAGE
