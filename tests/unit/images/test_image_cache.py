# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of images: whole or absent."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from images.cache import cached

RECIPE = ("cache",)


def build(scratch: Path) -> Path:
    (scratch / "out").write_text("built")
    return scratch / "out"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


def test_what_is_cached_is_not_built_again(tmp_path: Path) -> None:
    first = cached(tmp_path, "thing", RECIPE, build)
    written = first.stat().st_ino
    assert cached(tmp_path, "thing", RECIPE, build).stat().st_ino == written


def test_another_recipe_has_another_name_and_replaces_the_old_file(tmp_path: Path) -> None:
    old = cached(tmp_path, "thing", RECIPE, build)
    new = cached(tmp_path, "thing", ("grub",), build)
    assert new != old
    assert names(tmp_path) == [new.name]


def test_a_file_whose_name_only_begins_alike_stays(tmp_path: Path) -> None:
    other = cached(tmp_path, "thing-two", RECIPE, build)
    cached(tmp_path, "thing", ("grub",), build)
    assert other.exists()


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Path:
        build(scratch)
        raise ValueError

    with pytest.raises(ValueError):
        cached(tmp_path, "thing", RECIPE, fail)
    assert names(tmp_path) == []


def test_a_killed_build_leaves_nothing_that_the_next_one_keeps(tmp_path: Path) -> None:
    def die(scratch: Path) -> Path:
        build(scratch)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive")

    child = multiprocessing.get_context("fork").Process(target=cached, args=(tmp_path, "thing", RECIPE, die))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not list(tmp_path.glob("thing-*"))
    made = cached(tmp_path, "thing", RECIPE, build)
    assert names(tmp_path) == [made.name]


def test_the_umask_of_the_caller_neither_matters_nor_changes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        cached(tmp_path, "thing", RECIPE, build)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
