# SPDX-License-Identifier: GPL-2.0-or-later
"""The module that writes UFS: which packages it is made from, what of its source is unpacked, and who insists on it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper_builder import build, code, ufs_module
from snf_image_helper_builder.build import Order, inputs, is_current
from snf_image_helper_builder.cli import main
from snf_image_helper_builder.debian import Archive
from snf_image_helper_builder.recipe import Recipe, digest
from snf_image_helper_builder.ufs_module import Kernel
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, DiskError
from snf_image_shared.manifest import PARTS, Manifest, Part
from snf_image_shared.process import ProcessError

KERNEL = Kernel("6.12.117+deb13-amd64", "6.12.117-1")
NOWHERE = Archive("file:///nowhere", None, "trixie", 1)


def helper_in(directory: Path, key: str, *, ufs: bool) -> Path:
    directory.mkdir()
    for name in PARTS:
        (directory / name).write_text(name)
    files = {name: Part.of(directory / name) for name in PARTS}
    manifest = Manifest(__version__, "trixie", "6.12", {}, files, key, "erofs", ufs)
    (directory / "manifest.json").write_text(manifest.dump())
    return directory


def test_headers_and_source_are_of_the_kernel_s_own_version() -> None:
    assert {"linux-headers-6.12.117+deb13-amd64=6.12.117-1", "linux-source-6.12=6.12.117-1"} < set(KERNEL.packages)
    assert Kernel("6.1.0-42-amd64", "6.1.192-1").source == "linux-source-6.1"


def test_a_kernel_of_no_series_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no package with the source of the kernel own"):
        _ = Kernel("own", "1").packages


def source(place: Path, names: list[str]) -> Path:
    with tarfile.open(place, "w:xz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return place


def test_only_the_files_of_the_module_are_unpacked(tmp_path: Path) -> None:
    names = ["fs/ufs/Makefile", "fs/ufs/super.c", "fs/ufs/deeper/no.c", "fs/ufsd/no.c", "drivers/ufs/no.c", "zz/no.c"]
    archive = source(tmp_path / "source.tar.xz", [f"linux-source-6.12/{name}" for name in sorted(names)])
    ufs_module._unpack_source(archive, tmp_path / "build")
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == ["Makefile", "super.c"]
    assert (tmp_path / "build/super.c").read_text() == "linux-source-6.12/fs/ufs/super.c"


def test_a_source_that_is_laid_out_anew_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no fs/ufs"):
        ufs_module._unpack_source(source(tmp_path / "source.tar.xz", ["linux/fs/ext4/super.c"]), tmp_path / "build")


@pytest.mark.parametrize("content", [b"no archive", b"\xfd7zXZ\0 and no more", b""])
def test_a_source_that_is_damaged_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source.tar.xz").write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be unpacked"):
        ufs_module._unpack_source(tmp_path / "source.tar.xz", tmp_path / "build")


def test_too_little_room_for_the_compiler_is_a_warning_unless_somebody_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_WORKSHOP_NEEDS", 1 << 60)
    said: list[str] = []
    place = Order(tmp_path / "helper", tmp_path, "file:///nowhere", "trixie")
    assert build._ufs(NOWHERE, KERNEL, place, said.append) is None
    [warning] = said
    assert "are needed: make room or name another --cache" in warning
    with pytest.raises(DiskError, match="are needed"):
        build._ufs(NOWHERE, KERNEL, replace(place, ufs=True), said.append)


def test_a_module_of_this_kernel_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / f"ufs-{KERNEL.release}-{digest([KERNEL.version, ufs_module._SWITCHES])[:8]}.ko"
    kept.write_bytes(b"module")
    assert ufs_module.ufs_module(NOWHERE, KERNEL, tmp_path, {}, pytest.fail) == kept


def test_the_recipe_with_ufs_is_another() -> None:
    assert inputs(Recipe("trixie"), {}) == inputs(Recipe("trixie", ufs=True), {})
    assert inputs(Recipe("trixie"), {}) != inputs(Recipe("trixie", ufs=False), {})


def test_a_helper_without_ufs_is_current_until_somebody_insists(tmp_path: Path) -> None:
    without, with_it = helper_in(tmp_path / "a", "key", ufs=False), helper_in(tmp_path / "b", "key", ufs=True)
    assert is_current(without, "key")
    assert not is_current(without, "key", ufs=True)
    assert is_current(with_it, "key", ufs=True)
    assert is_current(with_it, "key", ufs=None)


@pytest.mark.parametrize(("option", "ufs"), [("--with-ufs", True), ("--without-ufs", False), ("", True)])
def test_the_options_say_which_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str, ufs: bool
) -> None:
    packages = code.packages()  # once: others may be at work on the files that are read
    monkeypatch.setattr(code, "packages", lambda: packages)
    place = helper_in(tmp_path / "helper", inputs(Recipe("trixie", ufs=ufs), packages), ufs=ufs)
    arguments = ["--dest", str(place), "--cache", str(tmp_path / "cache"), "--mirror", "http://127.0.0.1:1/debian"]
    assert main([*arguments, *([option] if option else [])]) == 0
    assert "up to date" in capsys.readouterr().out


def test_both_options_at_once_are_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--with-ufs", "--without-ufs"])
    assert ended.value.code == 2


@pytest.mark.parametrize(("ufs", "words"), [(True, "with UFS"), (False, "without UFS")])
def test_check_says_whether_it_has_ufs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ufs: bool, words: str
) -> None:
    assert main(["--check", "--dest", str(helper_in(tmp_path / "helper", "key", ufs=ufs))]) == 0
    assert f"{words}: complete" in capsys.readouterr().out


@pytest.mark.root
def test_without_the_packages_it_is_a_warning_unless_somebody_insists(tmp_path: Path) -> None:
    def order(ufs: bool | None) -> Order:
        return Order(tmp_path / "helper", tmp_path, "file:///nowhere", "trixie", ufs=ufs)

    said: list[str] = []
    assert build._ufs(NOWHERE, KERNEL, order(None), said.append) is None
    [warning] = [line for line in said if line.startswith("warning: ")]
    assert "customises no BSD guest on UFS; run snf-image-update-helper --with-ufs" in warning
    with pytest.raises(ProcessError, match="mmdebstrap"):
        build._ufs(NOWHERE, KERNEL, order(True), said.append)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_what_a_killed_build_left_goes_before_room_is_looked_for(tmp_path: Path) -> None:
    left = tmp_path / ".ufs-6.12.117+deb13-amd64-01234567.ko.new-x"
    left.mkdir()
    kept = tmp_path / "ufs-6.12.117+deb13-amd64-01234567.ko"
    kept.touch()
    order = Order(tmp_path / "beside/helper", tmp_path, "file:///nowhere", "trixie", ufs=False)
    with pytest.raises(ConfigurationError, match="file:///nowhere cannot be read"):
        build.update(order, lambda _: None)
    assert (left.exists(), kept.exists()) == (False, True)
