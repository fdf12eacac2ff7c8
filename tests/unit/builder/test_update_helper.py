# SPDX-License-Identifier: GPL-2.0-or-later
"""The command snf-image-update-helper: what it refuses, what it finds done, and what a killed one leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snf_image_helper_builder import code
from snf_image_helper_builder.build import held, inputs, is_current
from snf_image_helper_builder.cli import main
from snf_image_helper_builder.debian import apt_mirror
from snf_image_helper_builder.recipe import Recipe
from snf_image_shared import __version__
from snf_image_shared.manifest import PARTS, Manifest, Part

COMMAND = [sys.executable, "-m", "snf_image_helper_builder.cli"]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
RECIPE, FILES = Recipe("trixie"), {"snf_image_helper/a.py": b"a"}


def helper_in(directory: Path, key: str, version: str = __version__) -> Path:
    directory.mkdir()
    for name in PARTS:
        (directory / name).write_text(name)
    files = {name: Part.of(directory / name) for name in PARTS}
    manifest = Manifest(version, "trixie", "6.12", {}, files, key, "erofs")
    (directory / "manifest.json").write_text(manifest.dump())
    return directory


def run(*arguments: str | Path, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, *COMMAND, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.row(187)
def test_each_input_changes_the_key() -> None:
    keys = {
        inputs(RECIPE, FILES),
        inputs(Recipe("forky"), FILES),
        inputs(RECIPE, {"snf_image_helper/a.py": b"b"}),
        inputs(RECIPE, {"snf_image_helper/b.py": b"a"}),
        inputs(RECIPE, {}),
    }
    assert len(keys) == 5
    assert inputs(RECIPE, dict(FILES)) in keys


def test_a_helper_of_other_inputs_version_or_size_is_not_current(tmp_path: Path) -> None:
    good = helper_in(tmp_path / "good", "key")
    assert is_current(good, "key")
    assert not is_current(good, "another key")
    assert not is_current(helper_in(tmp_path / "old", "key", version="0.1"), "key")
    assert not is_current(tmp_path / "missing", "key")
    (good / "image").write_text("cut")
    assert not is_current(good, "key")


@pytest.mark.row(187)
def test_a_helper_that_is_up_to_date_needs_neither_root_nor_mirror(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = helper_in(tmp_path / "helper", inputs(RECIPE, code.packages()))
    assert (
        main(["--dest", str(place), "--cache", str(tmp_path / "cache"), "--mirror", "http://127.0.0.1:1/debian"]) == 0
    )
    assert "up to date" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_check_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = helper_in(tmp_path / "helper", "key")
    assert main(["--check", "--dest", str(place)]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.row(188)
def test_check_of_a_damaged_helper_is_one_line_with_a_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = helper_in(tmp_path / "helper", "key")
    (place / "image").write_text("IMAGE")
    assert main(["--check", "--dest", str(place)]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "run snf-image-update-helper" in line


@pytest.mark.root
def test_without_root_nothing_is_begun(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    # Root becomes nobody after the imports: the project may lie where nobody cannot read it.
    program = "import os, sys; from snf_image_helper_builder.cli import main; os.setuid(65534); sys.exit(main())"
    command = [sys.executable, "-c", program, "--dest", str(tmp_path / "helper"), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "sudo" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("option", ["--dest", "--cache"])
def test_without_space_the_option_to_choose_another_place_is_named(tmp_path: Path, option: str) -> None:
    full = tmp_path / "full"
    full.mkdir()
    places = {"--dest": tmp_path / "helper", "--cache": tmp_path / "cache"} | {option: full / "x"}
    mount = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"', str(full))
    arguments = [word for pair in places.items() for word in pair]
    done = run(*arguments, "--mirror", "http://127.0.0.1:1/debian", wrapper=mount)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert f"name another {option}" in done.stderr


@pytest.mark.row(190)
@pytest.mark.root
def test_an_unreachable_mirror_leaves_the_old_helper_and_nothing_else(tmp_path: Path) -> None:
    place = helper_in(tmp_path / "helper", "old key")
    done = run("--dest", place, "--cache", tmp_path / "cache", "--mirror", "http://127.0.0.1:1/debian")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "--mirror" in done.stderr
    assert is_current(place, "old key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "helper"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.root
def test_a_helper_that_lies_in_the_cache_is_no_reason_to_wait_for_oneself(tmp_path: Path) -> None:
    def refuse(said: str) -> None:
        raise AssertionError(said)

    (tmp_path / "same").symlink_to(tmp_path)
    with (
        held(refuse, tmp_path, tmp_path / "same"),
        pytest.raises(AssertionError, match="another build"),
        held(refuse, tmp_path),
    ):
        pass


def test_a_cache_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    done = run("--dest", tmp_path / "helper", "--cache", cache, "--mirror", "http://127.0.0.1:1/debian")
    assert done.returncode == 3
    assert "others than root can write" in done.stderr


@pytest.mark.row(190)
@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_killed_leaves_no_mount_no_process_and_the_old_helper(
    tmp_path: Path, number: signal.Signals
) -> None:
    place, cache = helper_in(tmp_path / "helper", "old key"), tmp_path / "cache"
    command = [*COMMAND, "--dest", str(place), "--cache", str(cache), "--mirror", apt_mirror()]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, cwd="/") as build:
        assert build.stdout
        assert any("installing essential" in line for line in build.stdout), "the build ended before it was killed"
        # Stopped, they cannot end by themselves, of a closed pipe for instance: only a kill reaches them.
        children = [pid for pid in running_with(str(cache)) if pid != build.pid]
        assert children
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        build.send_signal(number)
    wait_until_gone(children)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert is_current(place, "old key")
    if number == signal.SIGTERM:
        assert list(cache.iterdir()) == []
    # Killed outright, its half-built root stays, until the next build gets as far as asking the mirror.
    assert run("--dest", place, "--cache", cache, "--mirror", "file:///nowhere").returncode == 3
    assert list(cache.iterdir()) == []


def running_with(words: str) -> list[int]:
    """The processes that name `words` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if words.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait_until_gone(processes: list[int]) -> None:
    """The kernel ends a namespace's processes a moment after their parent: wait for that, and kill what stays."""
    deadline = time.monotonic() + 120
    while left := [pid for pid in processes if alive(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"processes {left} of the killed build still run")
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """A zombie that nobody has waited for yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
