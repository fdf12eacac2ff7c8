# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest: what the builder writes, the host reads, and everything that is wrong has the same cure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import CURE, KERNEL_ARGUMENTS, PARTS, Manifest, Part

TEXT = st.text(max_size=20)
PART = st.builds(Part, TEXT, st.integers(0, 1 << 40))
MANIFESTS = st.builds(
    Manifest,
    version=TEXT,
    suite=TEXT,
    kernel=TEXT,
    debian_packages=st.dictionaries(TEXT, TEXT, max_size=4),
    files=st.fixed_dictionaries(dict.fromkeys(PARTS, PART)),
    inputs=TEXT,
    root_fs=TEXT,
    ufs=st.booleans(),
)


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    for name in PARTS:
        (tmp_path / name).write_text(name)
    files = {name: Part.of(tmp_path / name) for name in PARTS}
    manifest = Manifest(__version__, "trixie", "6.12", {"bash": "5.2"}, files, "key", "erofs")
    (tmp_path / "manifest.json").write_text(manifest.dump())
    return tmp_path


@given(MANIFESTS)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> None:
    directory = tmp_path_factory.mktemp("helper")
    (directory / "manifest.json").write_text(manifest.dump())
    assert Manifest.load(directory) == manifest


def test_a_complete_helper_passes(helper: Path) -> None:
    Manifest.load(helper).check(helper, deep=True)


def test_a_missing_helper_has_a_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no helper image in {tmp_path}: {CURE}"):
        Manifest.load(tmp_path)


def test_another_version_is_refused(helper: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"version 0.9, not .*{CURE}"):
        replace(Manifest.load(helper), version="0.9").check(helper, deep=False)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_size_is_refused(helper: Path, part: str) -> None:
    (helper / part).write_text("longer than it was")
    with pytest.raises(ConfigurationError, match=f"{part} is not what"):
        Manifest.load(helper).check(helper, deep=False)


@pytest.mark.parametrize("part", PARTS)
def test_only_the_deep_check_finds_a_changed_byte(helper: Path, part: str) -> None:
    (helper / part).write_text(part.upper())
    Manifest.load(helper).check(helper, deep=False)
    with pytest.raises(ConfigurationError, match=f"{part} is not what"):
        Manifest.load(helper).check(helper, deep=True)


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_part_is_named(helper: Path, deep: bool) -> None:
    (helper / "initrd").unlink()
    with pytest.raises(ConfigurationError, match=f"initrd cannot be read.*{CURE}"):
        Manifest.load(helper).check(helper, deep=deep)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("version", 1),
        ("files", {}),
        ("files", {"kernel": {}, "initrd": {}, "image": {}}),
        ("files", {name: {"sha256": "", "size": True} for name in PARTS}),
        ("files", {name: {"sha256": "", "size": -1} for name in PARTS}),
        ("debian_packages", []),
        ("debian_packages", {"bash": 5}),
        ("inputs", None),
    ],
)
def test_a_field_of_another_shape_is_refused(helper: Path, field: str, value: object) -> None:
    document = json.loads((helper / "manifest.json").read_text()) | {field: value}
    (helper / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match=f"not a helper's manifest.*{CURE}"):
        Manifest.load(helper)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_what_is_no_json_object_is_refused(helper: Path, text: str) -> None:
    (helper / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=CURE):
        Manifest.load(helper)


def test_the_kernel_ends_qemu_when_it_panics_and_keeps_its_memory_protected() -> None:
    assert "panic=-1" in KERNEL_ARGUMENTS
    assert not [argument for argument in KERNEL_ARGUMENTS if argument.startswith("rodata")]
