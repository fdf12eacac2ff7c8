# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-cache as an operator types it: what it shows, what it keeps, and how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from http_server import Answer, http_server
from snf_image_host.cli import operate

pytestmark = pytest.mark.root

MIB = 1 << 20
PARTITION = bytes(446) + bytes.fromhex("0000020083ffffff0008000000080000") + bytes(48) + b"\x55\xaa"
PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import os, sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared")]!r}
os.seteuid(int(sys.argv.pop(1)))
from pathlib import Path
from snf_image_host.cli import operate
sys.exit(operate("snf-image-cache", Path(sys.argv.pop(1))))
"""


@dataclass(frozen=True)
class Done:
    """How the command ended, and what it said."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Node:
    """A node that is installed below `root`."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def set(self, text: str) -> None:
        conf = self.root / "etc/snf-image/snf-image.conf"
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(f"CACHE_DIR={self.cache}\nIMAGE_ALLOW=127.0.0.1\nIMAGE_RETRIES=0\n{text}\n")

    def call(self, *arguments: str) -> Done:
        """In this process, which is quicker."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = operate("snf-image-cache", self.root, list(arguments))
            except SystemExit as end:  # of argparse
                code = int(end.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    def started(self, user: int, output: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
        """`list` as that user."""
        command = [sys.executable, "-c", PROGRAM, str(user), str(self.root), "list"]
        return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)

    def listed(self) -> list[dict[str, object]]:
        done = self.call("list", "--json")
        assert done.status == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["images"]
        return found


@pytest.fixture
def node() -> Iterator[Node]:
    """With a cache of 16 MiB, on a file system with O_TMPFILE, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        node = Node(Path(name))
        node.set("CACHE_SIZE=16")
        before = {
            number: signal.getsignal(number)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
        }
        yield node
        for number, handler in before.items():
            signal.signal(number, handler)


def image(mib: int = 1) -> bytes:
    return PARTITION + os.urandom(mib * MIB - len(PARTITION))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_prefetched_is_listed_without_any_secret_and_what_is_pruned_is_gone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = image(), image(2)
    answers = {"/images/a.raw": Answer(first, headers={"ETag": '"1"'}), "/images/b.raw": Answer(second)}
    with http_server(answers) as server:
        secret = server.url.replace("//", "//user:hunter2@") + "/images/a.raw?token=s3cr3t"
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
        done = [node.call("prefetch", "-")]
        done += [node.call("prefetch", f"{server.url}/images/b.raw", "--checksum", f"sha256:{sha256(second)}")]
    assert [each.status for each in done] == [0, 0], done
    [latest, older] = node.listed()
    assert (latest["sha256"], latest["size"], latest["in_use"]) == (sha256(second), 2 * MIB, False)
    assert (older["sha256"], older["size"]) == (sha256(first), MIB)
    done.append(table := node.call("list"))
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["SIZE", "LAST", "USED", "SHA256", "IMAGE"]
    assert "b.raw" in lines[1] and sha256(second) in lines[1] and "2.0 MiB" in lines[1]
    assert "a.raw" in lines[2]
    assert lines[3].startswith("2 images, 3.0 MiB of 16 MiB in ")
    for text in ("hunter2", "s3cr3t"):
        assert not any(text in each.stdout + each.stderr for each in done)
    assert node.call("prune", "--size", "2").stdout == "1 images removed, 1.0 MiB; 1 are left\n"
    assert [each["sha256"] for each in node.listed()] == [sha256(second)]
    assert node.call("prune", "--all").stdout == "1 images removed, 2.0 MiB; 0 are left\n"
    assert [path.name for path in node.cache.iterdir()] == ["lock"]


def test_prune_goes_down_to_cache_size_which_is_nothing_when_it_is_off(node: Node) -> None:
    with http_server({f"/{name}": Answer(image()) for name in "abc"}) as server:
        for name in "abc":
            assert node.call("prefetch", f"{server.url}/{name}").status == 0
    assert node.call("prune").stdout.startswith("0 images removed")
    node.set("CACHE_SIZE=2")
    assert node.call("prune").stdout.startswith("1 images removed")
    node.set("")
    assert node.call("prune").stdout.startswith("2 images removed")


def test_prefetch_looks_again_at_what_is_there(node: Node) -> None:
    content = image()
    given = ("--checksum", f"sha256:{sha256(content)}")
    with http_server({"/a": Answer(content)}) as server:
        for _ in range(2):
            assert node.call("prefetch", f"{server.url}/a", *given).status == 0
        assert len(server.asked) == 1
        [path] = node.cache.glob("image-*")
        with path.open("r+b") as file:
            file.write(b"\xff")
        damaged = node.call("prefetch", f"{server.url}/a", *given)
        assert (damaged.status, "was changed" in damaged.stderr) == (4, True)
        assert node.call("prefetch", f"{server.url}/a", *given).status == 0
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["prefetch", "debian.raw"], 2, "only images from the network"),
        (["prefetch", "null"], 2, "only images from the network"),
        (["prefetch", "gopher://user:hunter2@example.com/s3cr3t"], 2, "gopher"),
        (["prefetch", "http://127.0.0.1:1/s3cr3t?hunter2", "--checksum", "x"], 2, "sha256:HEX"),
        (["prefetch", "http://169.254.169.254/s3cr3t/x"], 4, "IMAGE_DENY"),
        (["prune", "--size", "x"], 2, "no number of MiB"),
        (["prune", "--size", "1", "--all"], 2, "not allowed with"),
        ([], 2, "usage: "),
    ],
)
def test_what_is_refused_says_why_and_shows_no_secret(node: Node, arguments: list[str], status: int, text: str) -> None:
    done = node.call(*arguments)
    assert (done.status, text in done.stderr) == (status, True), done.stderr
    assert "hunter2" not in done.stderr and "s3cr3t" not in done.stderr


def test_what_cannot_be_kept_is_an_error(node: Node) -> None:
    node.set("CACHE_SIZE=2")
    with http_server({"/large": Answer(image(3)), "/html": Answer(b"<html>" + bytes(MIB))}) as server:
        large = node.call("prefetch", f"{server.url}/large")
        html = node.call("prefetch", f"{server.url}/html")
        node.set("")
        off = node.call("prefetch", f"{server.url}/large")
    assert (large.status, html.status, off.status) == (3, 4, 3)
    assert "more than CACHE_SIZE" in large.stderr and "could not be kept in the cache" in large.stderr
    assert "set CACHE_SIZE in snf-image.conf" in off.stderr
    assert node.listed() == []


def test_only_root_may(node: Node) -> None:
    done = node.started(65534)
    assert (done.returncode, done.stderr) == (3, b"[ERROR] the cache is root's alone: run snf-image-cache as root\n")


def test_a_reader_that_goes_away_is_no_error(node: Node) -> None:
    read, write = os.pipe()
    os.close(read)
    done = node.started(0, write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
