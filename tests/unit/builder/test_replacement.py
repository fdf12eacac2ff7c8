# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory takes the place of another in one step, or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from snf_image_helper_builder.replacement import locked, remove_stale, replacement

HOLD = """
import sys
from pathlib import Path
from snf_image_helper_builder.replacement import locked
with locked(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def old_helper(place: Path) -> Path:
    place.mkdir()
    (place / "image").write_text("old")
    return place


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_first_one_is_put_in_an_empty_place(tmp_path: Path) -> None:
    with replacement(tmp_path / "helper", 0o755) as new:
        (new / "image").write_text("new")
    assert (tmp_path / "helper/image").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "helper").stat().st_mode) == 0o755
    assert names(tmp_path) == ["helper"]


def test_the_new_one_takes_the_place_of_the_old_one_entirely(tmp_path: Path) -> None:
    place = old_helper(tmp_path / "helper")
    (place / "gone").touch()
    with replacement(place, 0o755) as new:
        (new / "image").write_text("new")
    assert names(place) == ["image"]
    assert (place / "image").read_text() == "new"
    assert names(tmp_path) == ["helper"]


@pytest.mark.parametrize("failure", [OSError("no space"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_one_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    place = old_helper(tmp_path / "helper")
    with pytest.raises(type(failure)), replacement(place, 0o755) as new:
        (new / "image").write_text("half")
        raise failure
    assert (place / "image").read_text() == "old"
    assert names(tmp_path) == ["helper"]


def test_a_reader_never_finds_the_place_empty(tmp_path: Path) -> None:
    place = old_helper(tmp_path / "helper")
    missing = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                (place / "image").stat()
            except FileNotFoundError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        with replacement(place, 0o755) as new:
            (new / "image").touch()
    done.set()
    reader.join()
    assert not missing


def test_a_file_that_is_open_outlives_its_directory(tmp_path: Path) -> None:
    place = old_helper(tmp_path / "helper")
    with (place / "image").open() as running_vm:
        with replacement(place, 0o755) as new:
            (new / "image").write_text("new")
        assert running_vm.read() == "old"


def test_what_a_killed_build_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    killed = "import os, sys; from pathlib import Path; from snf_image_helper_builder.replacement import replacement\n"
    killed += "with replacement(Path(sys.argv[1]), 0o755) as new:\n (new / 'half').touch(); os.kill(os.getpid(), 9)"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "helper")], env=environment, check=False)
    assert len(names(tmp_path)) == 1
    remove_stale(tmp_path / "helper")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_what_was_in_the_place_goes_even_when_it_is_no_directory(tmp_path: Path, kind: str) -> None:
    (tmp_path / "beside").mkdir()
    left = tmp_path / "beside/.helper.new-x"
    if kind == "file":
        left.touch()
    else:
        left.symlink_to(tmp_path / kind)
    (tmp_path / "link").mkdir()
    remove_stale(tmp_path / "beside/helper")
    assert names(tmp_path / "beside") == []
    assert (tmp_path / "link").is_dir()


def test_what_belongs_to_another_place_is_not_stale(tmp_path: Path) -> None:
    for name in ("helper", "helper-2", ".helper-2.new-x", "unrelated"):
        (tmp_path / name).mkdir()
    remove_stale(tmp_path / "helper")
    assert names(tmp_path) == [".helper-2.new-x", "helper", "helper-2", "unrelated"]


def test_a_second_build_says_that_it_waits_and_then_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin and other.stdout
        other.stdout.readline()
        said = []

        def on_wait() -> None:
            said.append("waiting")
            assert other.stdin
            other.stdin.close()

        with locked(tmp_path, on_wait):
            assert said == ["waiting"]


def test_the_lock_leaves_no_file_and_is_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path / "not/there/yet", lambda: pytest.fail("nobody holds it")):
        pass
    descriptor = os.open(tmp_path / "not/there/yet", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    assert names(tmp_path / "not/there/yet") == []
