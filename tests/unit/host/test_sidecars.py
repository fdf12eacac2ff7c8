# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of checksums beside an image: the formats they come in, and what is found where."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.images.checksum import Checksum
from snf_image_host.images.origins import LARGEST_SIDECAR, LocalOrigin, OriginKind
from snf_image_host.images.sidecars import ChecksumList, checksum_beside, lists_for, signature_beside, signed_lists
from snf_image_host.images.sources import Source
from snf_image_host.images.streams import Stream
from snf_image_shared.errors import ImageError

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
SUMS = ChecksumList("SHA256SUMS", "sha256")
OWN = ChecksumList("image.sha256", "sha256", is_of_one=True)


def found(text: str, sums: ChecksumList = SUMS, image: str = "image") -> str | None:
    checksum = sums.checksum(text.encode(), image)
    return checksum.digest if checksum else None


@pytest.mark.parametrize(
    "line",
    [
        f"{A}  image",
        f"{A} *image",
        f"{A}\timage",
        f"{A} image",
        f"{A}  ./image",
        f"{A} *././image",
        f"{A.upper()}  image\r",
        f"{A}  image   ",
        f"SHA256 (image) = {A}",
        f"SHA256(image)= {A}",
        f"SHA256 (./image) = {A.upper()}",
    ],
)
def test_a_line_of_coreutils_or_of_bsd_is_read(line: str) -> None:
    assert found(line) == A
    assert found(f"# made yesterday\n{B}  image.old\n{line}\nSHA256 (imag) = {C}\n") == A


@pytest.mark.parametrize(
    "line",
    [
        f"{A}  images",
        f"{A}  dir/image",
        f"{A}  ../image",
        f"{A}  *image",  # in text mode the star is the name's
        f"{A}image",
        f"{A[1:]}  image",
        f"{A}a  image",
        f"{'g' * 64}  image",
        f"SHA512 (image) = {A}",
        f"SHA256 (image) = {A}0",
        f"MD5 (image) = {A[:32]}",
        f" {A}  image",
        f"{A}",
        "<html>404</html>",
        "",
    ],
)
def test_any_other_line_says_nothing_of_the_image(line: str) -> None:
    assert found(line) is None


def test_two_lines_that_agree_are_one_and_two_that_differ_are_refused() -> None:
    assert found(f"{A}  image\nSHA256 (./image) = {A.upper()}") == A
    for other in (f"{B}  image", f"{B} *./image", f"SHA256 (image) = {B}"):
        with pytest.raises(ImageError, match=r"^SHA256SUMS has different checksums of 'image': publish it again"):
            found(f"{A}  image\n{other}")


def test_the_list_of_an_image_alone_need_not_know_its_name() -> None:
    assert found(A, OWN) == found(f"{A}  build/other.raw\n", OWN) == found(f"{A}\n", OWN) == A
    assert found(f"{A}  other\n{B}  image", OWN) == B
    with pytest.raises(ImageError, match="different checksums"):
        found(f"{A}  other\n{B}  third", OWN)


def test_a_signed_list_has_to_name_the_image() -> None:
    """Or the signed checksum of another image could be put in its place."""
    assert OWN.checksum(f"{A}  other".encode(), "image", is_signed=True) is None
    assert OWN.checksum(f"{A}\n".encode(), "image", is_signed=True) is None
    assert OWN.checksum(f"{A}  image".encode(), "image", is_signed=True) == Checksum("sha256", A)


def test_bytes_that_are_no_text_are_no_harm() -> None:
    text = b"\xff\xfe\0\n" + f"{A}  image\n".encode() + bytes(range(256))
    assert SUMS.checksum(text, "image") == Checksum("sha256", A)


@given(st.binary(max_size=300), st.text(max_size=10))
def test_no_list_whatever_it_holds_breaks_the_reader(text: bytes, image: str) -> None:
    for sums in (SUMS, OWN):
        try:
            checksum = sums.checksum(text, image)
        except ImageError:
            continue
        assert checksum is None or len(checksum.digest) == 64


names = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\u2028\u2029\x85"), min_size=1)


@given(names, names, st.binary(min_size=32, max_size=32), st.booleans(), st.booleans(), st.booleans())
def test_a_name_is_found_and_no_other(
    image: str, other: str, digest: bytes, is_bsd: bool, is_binary: bool, has_path: bool
) -> None:
    if image != image.strip() or other != other.strip() or image.startswith("*") or other.startswith("*"):
        return
    written = ("./" if has_path else "") + image.replace("\\", "\\\\")
    mark = "\\" if "\\" in image else ""
    hexadecimal = digest.hex()
    line = f"SHA256 ({written}) = {hexadecimal}" if is_bsd else f"{hexadecimal} {'* '[not is_binary]}{written}"
    assert found(f"{mark}{line}\n", SUMS, image) == hexadecimal
    if other != image:
        assert found(f"{mark}{line}\n", SUMS, other) is None


@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]])
@pytest.mark.parametrize("name", ["image", "with blank", "back\\slash", "läuft"])
def test_what_coreutils_prints_is_understood(tmp_path: Path, options: list[str], name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    for tool, sums in (("sha256sum", SUMS), ("sha512sum", ChecksumList("SHA512SUMS", "sha512"))):
        printed = subprocess.run([tool, *options, name], cwd=tmp_path, check=True, capture_output=True).stdout
        assert sums.checksum(printed, name) == Checksum(
            sums.algorithm, hashlib.new(sums.algorithm, b"content").hexdigest()
        )


@dataclass(frozen=True)
class Directory:
    """An origin that remembers what it was asked for."""

    files: dict[str, bytes]
    asked: list[str]
    kind = OriginKind.NETWORK
    name = "image from there"
    basename = "image"

    def open(self) -> AbstractContextManager[Source | Stream]:
        raise AssertionError("nobody reads the image")

    def beside(self, name: str) -> bytes | None:
        self.asked.append(name)
        return self.files.get(name)


def test_the_lists_are_looked_for_one_after_the_other_and_no_more_than_needed() -> None:
    everywhere = Directory({}, [])
    with pytest.raises(
        ImageError,
        match=r"^image from there has no checksum, and this node wants one \(VERIFY=checksum\): give img_checksum, or "
        "publish image.sha256 or image.sha512 or SHA256SUMS or SHA512SUMS beside it$",
    ):
        checksum_beside(everywhere)
    order = ["image.sha256", "image.sha512", "SHA256SUMS", "SHA512SUMS", "image.md5sum"]
    assert everywhere.asked == order
    for number, name in enumerate(order):
        here = Directory({name: f"{A}{A}  image\n{A}  image\n{A[:32]}  image\n".encode()}, [])
        assert checksum_beside(here).said_by == f"{name} beside it"
        assert here.asked == order[: number + 1]


def test_a_list_without_the_image_is_passed_by() -> None:
    here = Directory({"SHA256SUMS": f"{A}  other".encode(), "SHA512SUMS": f"{A}{A}  image".encode()}, [])
    assert checksum_beside(here) == Checksum("sha512", A + A)


def test_what_is_no_list_at_all_vouches_for_nothing() -> None:
    with pytest.raises(ImageError, match="has no checksum"):
        checksum_beside(Directory(dict.fromkeys(("image.sha256", "SHA256SUMS"), b"<html>"), []))


def test_the_signature_has_one_of_four_names() -> None:
    for suffix in (".sig", ".asc", ".gpg", ".sign"):
        here = Directory({f"SHA256SUMS{suffix}": b"x"}, [])
        signature = signature_beside(here, "SHA256SUMS")
        assert signature
        assert (signature.name, signature.content) == (f"SHA256SUMS{suffix}", b"x")
    assert signature_beside(Directory({}, []), "image") is None


def test_md5_is_nothing_that_could_be_signed() -> None:
    assert {each.algorithm for each in lists_for("image")} == {"sha256", "sha512"}
    here = Directory({"image.md5sum": b"x", "image.sha512": b"y"}, [])
    assert [(each.name, text.content) for each, text in signed_lists(here)] == [("image.sha512", b"y")]


def local(directory: Path, img_id: str = "sub/image") -> LocalOrigin:
    return LocalOrigin(img_id, "diskdump", directory)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "image").write_bytes(b"x")
    return tmp_path


@pytest.mark.row(50)
@pytest.mark.parametrize("img_id", ["sub/image", "local://sub/image", "file://sub/image"])
def test_beside_a_local_image_is_its_own_directory(images: Path, img_id: str) -> None:
    (images / "SHA256SUMS").write_bytes(b"of others")
    assert local(images, img_id).basename == "image"
    assert local(images, img_id).beside("SHA256SUMS") is None
    (images / "sub" / "SHA256SUMS").write_bytes(b"ours")
    assert local(images, img_id).beside("SHA256SUMS") == b"ours"


@pytest.mark.row(52)
def test_an_image_that_is_named_without_its_extension_has_its_own_name_in_lists(images: Path) -> None:
    (images / "sub" / "debian.diskdump").write_bytes(b"x")
    assert local(images, "sub/debian").basename == "debian.diskdump"
    (images / "sub" / "debian").write_bytes(b"x")
    assert local(images, "sub/debian").basename == "debian"


@pytest.mark.row(51)
def test_a_sidecar_is_no_link_and_no_special_file(images: Path, tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}.secret"
    secret.write_text("secret")
    (images / "sub" / "SHA256SUMS").symlink_to(secret)
    with pytest.raises(ImageError, match="SHA256SUMS beside image 'sub/image' is or passes a symbolic link"):
        local(images).beside("SHA256SUMS")
    (images / "sub" / "fifo").mkdir()
    subprocess.run(["mkfifo", str(images / "sub" / "SHA512SUMS")], check=True)
    for name in ("fifo", "SHA512SUMS"):
        with pytest.raises(ImageError, match=f"^{name} beside image 'sub/image' is no file of at most 1048576 bytes"):
            local(images).beside(name)


def test_a_sidecar_of_a_hundred_megabytes_is_not_read(images: Path) -> None:
    with (images / "sub" / "image.sig").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ImageError, match=r"^image\.sig beside image 'sub/image' is no file of at most 1048576 bytes"):
        local(images).beside("image.sig")
    with (images / "sub" / "image.sig").open("r+b") as file:
        file.truncate(LARGEST_SIDECAR)
    assert local(images).beside("image.sig") == bytes(LARGEST_SIDECAR)


def test_descriptors_are_closed_again(images: Path) -> None:
    (images / "sub" / "SHA256SUMS").write_bytes(b"ours")
    before = len(os.listdir("/proc/self/fd"))
    origin = local(images)
    assert origin.basename == "image"
    origin.beside("SHA256SUMS")
    origin.beside("none")
    assert len(os.listdir("/proc/self/fd")) == before
