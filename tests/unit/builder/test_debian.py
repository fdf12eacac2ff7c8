# SPDX-License-Identifier: GPL-2.0-or-later
"""Which mirror, and what is said when it is not there. Mirrors here are directories and a closed port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from snf_image_helper_builder.debian import Selection, apt_mirror, bootstrap, find_archive
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import ProcessError

DATE = "Date: Sat, 12 Sep 2026 07:55:41 UTC\n"
EPOCH = 1789199741


def release(archive: Path, suite: str, text: str = DATE) -> None:
    (archive / "dists" / suite).mkdir(parents=True)
    (archive / "dists" / suite / "Release").write_text(text)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    release(tmp_path / "debian", "trixie")
    return tmp_path / "debian"


def apt_with(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "apt" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return tmp_path / "apt"


def test_the_mirror_is_read_from_a_one_line_list(tmp_path: Path) -> None:
    apt = apt_with(
        tmp_path,
        "sources.list",
        "# deb http://commented/debian x main\ndeb http://vendor/apt stable main\n"
        "deb [arch=amd64 signed-by=/a/b] http://here/debian/ bookworm main\n",
    )
    assert apt_mirror(apt) == "http://here/debian"


def test_the_mirror_is_read_from_a_deb822_file(tmp_path: Path) -> None:
    text = (
        "Types: deb\nURIs: http://here/debian-security\nSuites: x\n\nTypes: deb\nURIs: http://here/debian\nSuites: x\n"
    )
    assert apt_mirror(apt_with(tmp_path, "sources.list.d/debian.sources", text)) == "http://here/debian"


def test_a_disabled_file_is_not_read(tmp_path: Path) -> None:
    apt = apt_with(tmp_path, "sources.list.d/old.list.save", "deb http://old/debian x main\n")
    with pytest.raises(ConfigurationError, match="--mirror"):
        apt_mirror(apt)


def test_without_any_source_a_mirror_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--mirror"):
        apt_mirror(tmp_path)


def test_the_time_stamp_of_a_build_is_the_archives(mirror: Path) -> None:
    archive = find_archive(mirror.as_uri() + "/", "trixie")
    assert (archive.mirror, archive.security, archive.epoch) == (mirror.as_uri(), None, EPOCH)


def test_security_updates_are_found_beside_the_mirror(mirror: Path) -> None:
    later = "Date: Sat, 12 Sep 2026 07:55:51 UTC\n"
    release(mirror.with_name("debian-security"), "trixie-security", later)
    archive = find_archive(mirror.as_uri(), "trixie")
    assert (archive.security, archive.epoch) == (f"{mirror.as_uri()}-security", EPOCH + 10)


def test_a_mirror_that_does_not_answer_is_named_with_the_option(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/debian"
        with pytest.raises(ConfigurationError, match=rf"{url}.*refused.*--mirror"):
            find_archive(url, "trixie")


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp//x", "file:///nowhere"])
def test_a_mirror_that_is_no_address_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--mirror"):
        find_archive(url, "trixie")


def test_a_suite_that_the_mirror_lacks_is_refused(mirror: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mirror .* cannot be read"):
        find_archive(mirror.as_uri(), "sarge")


def test_a_page_that_is_no_release_file_is_refused(mirror: Path) -> None:
    release(mirror, "captive", "<html>please log in</html>")
    with pytest.raises(ConfigurationError, match="not a Release file"):
        find_archive(mirror.as_uri(), "captive")


@pytest.mark.root
def test_an_archive_without_a_good_signature_is_not_used(mirror: Path, tmp_path: Path) -> None:
    archive = find_archive(mirror.as_uri(), "trixie")
    (tmp_path / "tree").mkdir()
    said: list[str] = []
    with pytest.raises(ProcessError, match="mmdebstrap failed with status"):
        bootstrap(archive, Selection(("bash",)), tmp_path / "tree", {}, said.append)
    assert any("apt-get update" in line for line in said)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
