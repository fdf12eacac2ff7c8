# SPDX-License-Identifier: GPL-2.0-or-later
"""VERIFY: what an image must have beside it, for each kind of source, and that nothing is written without it."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_server import Answer, Answering, HttpServer, http_server
from publishers import LONG_AGO, Publisher, publisher
from snf_image_host.configuration.setting_types import Verify
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.images.origins import OriginKind
from snf_image_host.images.vouchers import policy_for
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError, ImageError, SnfImageError

MIB = 1 << 20
SIZE = 4 * MIB
GARBAGE = b"\xa5" * SIZE
IMAGE = os.urandom(3 * MIB)
DIGEST = {name: hashlib.new(name, IMAGE).hexdigest() for name in ("sha256", "sha512", "md5")}
NULLED = bytes(2 * EDGE)


@pytest.fixture(scope="module")
def ours() -> Iterator[Publisher]:
    with publisher() as made:
        yield made


@pytest.fixture(scope="module")
def stranger() -> Iterator[Publisher]:
    with publisher() as made:
        yield made


class Node:
    """An image directory with `image` in it, and a disk full of garbage; `log` is of the last deployment."""

    def __init__(self, directory: Path, keyring: Path | None = None) -> None:
        self.images = directory / "images"
        self.images.mkdir()
        self.disk = directory / "disk"
        self.keyring = str(keyring or "")
        self.log = ""
        self.put("image", IMAGE)
        self.disk.write_bytes(GARBAGE)

    def put(self, name: str, content: bytes | str) -> None:
        (self.images / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def deploy(self, verify: Verify, *checksums: Checksum) -> None:
        settings = Settings(
            image_dir=self.images,
            cache_dir=self.images.parent / "cache",
            run_dir=self.images.parent / "run",
            verify=verify,
            verify_keyring=self.keyring,
        )
        log = io.StringIO()
        wanted = WantedImage("image", "diskdump", checksums)
        try:
            with (
                Progress.start("inst", None, log=log) as progress,
                open_image(wanted, settings, progress) as image,
                open_target(self.disk) as target,
            ):
                assert image
                copy(image, target, progress)
        finally:
            self.log = log.getvalue()

    def is_deployed(self) -> bool:
        return self.disk.read_bytes()[: len(IMAGE)] == IMAGE

    def is_untouched(self) -> bool:
        return self.disk.read_bytes() == GARBAGE

    def boots_never(self) -> bool:
        found = self.disk.read_bytes()
        return found[:EDGE] + found[-EDGE:] == NULLED

    def refusal(self, verify: Verify, *checksums: Checksum, kind: type[SnfImageError] = ImageError) -> str:
        """The message, of a deployment that does not touch the disk."""
        with pytest.raises(kind) as caught:
            self.deploy(verify, *checksums)
        assert self.is_untouched()
        return str(caught.value)

    def failure(self, verify: Verify, *checksums: Checksum) -> str:
        """The message, of one that finds it out when the image has been read."""
        with pytest.raises(ImageError) as caught:
            self.deploy(verify, *checksums)
        assert self.boots_never()
        return str(caught.value)


@pytest.fixture
def node() -> Iterator[Node]:
    """On a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Node(Path(name))


@pytest.fixture
def trusting(ours: Publisher) -> Iterator[Node]:
    """A node with a keyring."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Node(Path(name), ours.keyring)


def test_each_kind_of_source_has_its_own_policy_or_the_common_one() -> None:
    settings = Settings(verify=Verify.CHECKSUM, verify_network=Verify.NO, verify_program=Verify.SIGNATURE)
    assert [policy_for(kind, settings) for kind in OriginKind] == [Verify.CHECKSUM, Verify.NO, Verify.SIGNATURE]


def test_without_a_policy_nothing_beside_the_image_counts(node: Node) -> None:
    node.put("SHA256SUMS", "0" * 64 + "  image\n")
    node.put("image.sig", "no signature")
    node.deploy(Verify.NO)
    assert node.is_deployed()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("image.sha256", f"{DIGEST['sha256']}  build/whatever.raw\n"),
        ("image.sha512", DIGEST["sha512"]),
        ("SHA256SUMS", f"{'0' * 64}  other\n{DIGEST['sha256']} *image\n"),
        ("SHA512SUMS", f"SHA512 (image) = {DIGEST['sha512']}\n"),
    ],
)
def test_a_checksum_beside_the_image_is_enough_and_has_to_hold(node: Node, name: str, line: str) -> None:
    node.put(name, line)
    node.deploy(Verify.CHECKSUM)
    assert node.is_deployed()
    assert "WARNING" not in node.log
    node.put("image", IMAGE[:-1] + bytes([IMAGE[-1] ^ 1]))
    algorithm = "sha512" if "512" in name else "sha256"
    assert f", and {name} beside it expects {DIGEST[algorithm]}: it is damaged" in node.failure(Verify.CHECKSUM)


def test_what_upstreams_tools_leave_beside_an_image_is_taken_with_a_warning(node: Node) -> None:
    node.put("image.md5sum", f"{DIGEST['md5']}  image\n")
    node.deploy(Verify.CHECKSUM)
    assert node.is_deployed()
    assert "[WARNING] image.md5sum beside it: MD5 tells a damaged image, but no forged one; publish sha256" in node.log
    node.put("image", IMAGE[::-1])
    assert f"image.md5sum beside it expects {DIGEST['md5']}" in node.failure(Verify.CHECKSUM)


def test_without_any_checksum_nothing_is_written(node: Node) -> None:
    assert node.refusal(Verify.CHECKSUM).startswith("image 'image' has no checksum, and this node wants one")
    node.put("SHA256SUMS", DIGEST["sha256"] + "  other\n")
    assert "has no checksum" in node.refusal(Verify.CHECKSUM)
    node.put("SHA256SUMS", f"{DIGEST['sha256']}  image\n{'0' * 64}  image\n")
    assert "SHA256SUMS has different checksums of 'image'" in node.refusal(Verify.CHECKSUM)


@pytest.mark.parametrize("of_content", [False, True])
def test_img_checksum_needs_nothing_beside_the_image(node: Node, of_content: bool) -> None:
    node.put("SHA256SUMS", "0" * 64 + "  image\n")
    node.deploy(Verify.CHECKSUM, Checksum("sha256", DIGEST["sha256"], of_content))
    assert node.is_deployed()
    assert "Reading the disk back" not in node.log  # the image's bytes are the disk's


def test_all_that_is_given_has_to_hold(node: Node) -> None:
    right = [Checksum(name, DIGEST[name], of_content) for name in ("sha256", "sha512") for of_content in (False, True)]
    node.deploy(Verify.NO, *right)
    assert node.is_deployed()
    for number in range(len(right)):
        wrong = [*right]
        wrong[number] = Checksum(right[number].algorithm, "0" * len(right[number].digest), right[number].of_content)
        assert "img_checksum expects 0000" in node.failure(Verify.NO, *wrong)


@pytest.mark.root
@pytest.mark.parametrize("suffix", [".sig", ".asc", ".gpg", ".sign"])
def test_a_signed_image_is_deployed_and_another_image_with_its_signature_is_not(
    trusting: Node, ours: Publisher, suffix: str
) -> None:
    trusting.put(f"image{suffix}", ours.signature(IMAGE))
    trusting.deploy(Verify.SIGNATURE)
    assert trusting.is_deployed()
    trusting.put("image", b"\0" + IMAGE[1:])
    assert trusting.failure(Verify.SIGNATURE) == (
        f"image 'image': its signature image{suffix} is of other bytes: the image was changed, or it is the signature "
        "of another one; sign the image again, or have the publisher's key added"
    )


@pytest.mark.root
@pytest.mark.parametrize("name", ["image.sha256", "image.sha512", "SHA256SUMS", "SHA512SUMS"])
def test_a_signed_list_is_as_good(trusting: Node, ours: Publisher, name: str) -> None:
    algorithm = "sha512" if "512" in name else "sha256"
    text = f"{'0' * len(DIGEST[algorithm])}  other\n{DIGEST[algorithm]}  image\n".encode()
    trusting.put(name, text)
    trusting.put(f"{name}.gpg", ours.signature(text))
    trusting.deploy(Verify.SIGNATURE)
    assert trusting.is_deployed()
    trusting.put("image", IMAGE[::-1])
    assert f"{name} beside it expects {DIGEST[algorithm]}" in trusting.failure(Verify.SIGNATURE)


@pytest.mark.root
def test_a_list_that_holds_its_own_signature_is_as_good(trusting: Node, ours: Publisher) -> None:
    text = ours.gpg("--clearsign", stdin=f"{DIGEST['sha256']}  image\n".encode())
    trusting.put("SHA256SUMS", text)
    trusting.deploy(Verify.SIGNATURE)
    assert trusting.is_deployed()
    trusting.disk.write_bytes(GARBAGE)
    # What stands outside of what is signed says nothing.
    other = ours.gpg("--clearsign", stdin=b"nothing\n")
    trusting.put("SHA256SUMS", other + f"{DIGEST['sha256']}  image\n".encode())
    assert "is not signed" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("SHA256SUMS", text.replace(DIGEST["sha256"].encode(), b"0" * 64))
    assert "its signature SHA256SUMS is of other bytes" in trusting.refusal(Verify.SIGNATURE)


@pytest.mark.root
def test_nothing_is_written_for_what_cannot_be_signed_well(
    trusting: Node, ours: Publisher, stranger: Publisher
) -> None:
    assert trusting.refusal(Verify.SIGNATURE) == (
        "image 'image' is not signed, and this node wants it to be (VERIFY=signature): publish one of image.sig, "
        "image.asc, image.gpg, image.sign, or SHA256SUMS or SHA512SUMS with a line for it and a signature, beside it"
    )
    line = f"{DIGEST['sha256']}  image\n".encode()
    trusting.put("SHA256SUMS", line)
    assert "is not signed" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("SHA256SUMS.sign", stranger.signature(line))
    assert "SHA256SUMS.sign is by a key that is not in VERIFY_KEYRING" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("SHA256SUMS.sign", ours.signature(b"other"))
    assert "SHA256SUMS.sign is of other bytes" in trusting.refusal(Verify.SIGNATURE)
    other = f"{DIGEST['sha256']}  other\n".encode()
    trusting.put("SHA256SUMS", other)
    trusting.put("SHA256SUMS.sign", ours.signature(other))
    assert "is not signed" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("image.sha256", other)  # of another image, which has the same content here
    trusting.put("image.sha256.sig", ours.signature(other))
    assert "is not signed" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("image.sig", stranger.signature(IMAGE))
    assert "image.sig is by a key that is not in VERIFY_KEYRING" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("image.sig", "<html>404</html>")
    assert "image.sig is no OpenPGP signature" in trusting.refusal(Verify.SIGNATURE)
    trusting.put("image.sig", bytes(70_000))
    assert "image.sig has 70000 bytes, too many for a signature" in trusting.refusal(Verify.SIGNATURE)
    os.truncate(trusting.images / "image.sig", 100 << 20)
    assert "image.sig beside image 'image' is no file of at most" in trusting.refusal(Verify.SIGNATURE)


@pytest.mark.root
def test_a_checksum_does_not_replace_a_signature(trusting: Node) -> None:
    assert "is not signed" in trusting.refusal(Verify.SIGNATURE, Checksum("sha256", DIGEST["sha256"]))


@pytest.mark.root
def test_a_signed_image_has_to_have_its_checksum_as_well(trusting: Node, ours: Publisher) -> None:
    trusting.put("image.sig", ours.signature(IMAGE))
    trusting.deploy(Verify.SIGNATURE, Checksum("sha256", DIGEST["sha256"]))
    assert trusting.is_deployed()
    assert "img_checksum expects 0000" in trusting.failure(Verify.SIGNATURE, Checksum("sha256", "0" * 64))


@pytest.mark.root
def test_of_two_signatures_beside_the_image_one_is_not_enough(trusting: Node, ours: Publisher) -> None:
    trusting.put("image.sig", ours.signature(IMAGE) + ours.signature(b"other"))
    assert "image.sig is of other bytes" in trusting.failure(Verify.SIGNATURE)


@pytest.mark.root
def test_what_has_expired_is_refused_when_it_is_known(node: Node) -> None:
    with publisher(*LONG_AGO, expires="1d") as late:
        node.keyring = str(late.keyring)
        node.put("image.sig", late.signature(IMAGE, *LONG_AGO))
        assert "image.sig is by a key that has expired" in node.failure(Verify.SIGNATURE)


def test_signatures_without_a_keyring_are_the_administrators_fault(node: Node, tmp_path: Path) -> None:
    node.put("image.sig", "x")
    assert "VERIFY=signature needs VERIFY_KEYRING" in node.refusal(Verify.SIGNATURE, kind=ConfigurationError)
    (tmp_path / "garbage").write_bytes(b"garbage")
    node.keyring = str(tmp_path / "garbage")
    assert "holds no OpenPGP keys" in node.refusal(Verify.SIGNATURE, kind=ConfigurationError)


def from_server(node: Node, server: HttpServer, verify: Verify) -> None:
    """Deploy an image whose URL says more than its name."""
    settings = Settings(
        run_dir=node.images.parent / "run",
        cache_dir=node.images.parent / "cache",
        image_allow="127.0.0.1",
        image_retries=0,
        verify_network=verify,
        verify_keyring=node.keyring,
    )
    wanted = WantedImage(f"{server.url}/pub/my%20image?key=canary", "diskdump")
    with (
        Progress.start("inst", None, log=io.StringIO()) as progress,
        open_image(wanted, settings, progress) as image,
        open_target(node.disk) as target,
    ):
        assert image
        copy(image, target, progress)


@pytest.mark.root
def test_an_image_on_a_server_is_vouched_for_by_what_lies_beside_it(trusting: Node, ours: Publisher) -> None:
    line = f"{DIGEST['sha256']}  my image\n".encode()
    files: dict[str, Answer | Answering] = {"/pub/my%20image": Answer(IMAGE)}
    with http_server(files) as server:
        from_server(trusting, server, Verify.NO)
        assert trusting.is_deployed()
        # One-shot URLs can be asked once: without a policy nothing else is.
        assert [asked.target for asked in server.asked] == ["/pub/my%20image?key=canary"]
        trusting.disk.write_bytes(GARBAGE)
        for verify in (Verify.CHECKSUM, Verify.SIGNATURE):
            with pytest.raises(
                ImageError, match=r"^image http://127\.0\.0\.1:\d+/?.* (has no checksum|is not signed), "
            ):
                from_server(trusting, server, verify)
        assert trusting.is_untouched()
        assert [asked.target for asked in server.asked if "canary" in asked.target] == ["/pub/my%20image?key=canary"]
        files["/pub/SHA256SUMS"] = Answer(line)
        from_server(trusting, server, Verify.CHECKSUM)
        assert trusting.is_deployed()
        files["/pub/SHA256SUMS.asc"] = Answer(ours.signature(line, "--armor"))
        trusting.disk.write_bytes(GARBAGE)
        from_server(trusting, server, Verify.SIGNATURE)
        assert trusting.is_deployed()
        files["/pub/my%20image.sig"] = Answer(ours.signature(IMAGE))
        from_server(trusting, server, Verify.SIGNATURE)
        files["/pub/my%20image"] = Answer(IMAGE[::-1])
        with pytest.raises(ImageError, match=r"its signature my image\.sig is of other bytes"):
            from_server(trusting, server, Verify.SIGNATURE)
        assert trusting.boots_never()
        files["/pub/my%20image.sig"] = Answer(bytes(100 << 20))
        with pytest.raises(ImageError, match=r"my image\.sig beside it: .*larger than 1048576"):
            from_server(trusting, server, Verify.SIGNATURE)
