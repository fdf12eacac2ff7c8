# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that read one another's output: who is blamed when they fail, and that none of them is left."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_shared.pipeline import PipelineError, chain
from snf_image_shared.process import SEARCH_PATH, Limits, ProcessError

SOON = Limits(timeout=60)
FLOOD = "i=0; while [ $i -lt 20000 ]; do echo complaint number $i >&2; i=$((i+1)); done"


@pytest.fixture
def nothing() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_first_reads_what_is_given_and_the_last_writes_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"b\na\xff\n")
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as sink:
        chain([["cat"], ["sort"], ["cat"]], source.fileno(), Limits(stdout=sink.fileno()))
    assert (tmp_path / "to").read_bytes() == b"a\xff\nb\n"


def test_it_reads_from_where_the_descriptor_stands(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"skipped taken")
    with (tmp_path / "from").open("rb", buffering=0) as source:
        source.seek(8)
        assert chain([["cat"]], source.fileno(), SOON)[0].stderr == "taken"


def test_each_programs_words_are_its_own(nothing: int) -> None:
    done = chain([["sh", "-c", "echo one >&2"], ["sh", "-c", "cat; echo two >&2"]], nothing, SOON)
    assert [each.stderr for each in done] == ["one\n", "two\n"]


def test_they_get_path_and_the_c_locale_alone(monkeypatch: pytest.MonkeyPatch, nothing: int) -> None:
    monkeypatch.setenv("OSP_IMG_PASSWD", "secret")
    assert set(chain([["env"]], nothing, SOON)[0].stderr.splitlines()) == {f"PATH={SEARCH_PATH}", "LC_ALL=C"}


def test_the_one_that_fails_by_itself_is_blamed_and_not_the_one_that_it_starved(nothing: int) -> None:
    with pytest.raises(ProcessError, match=r"^sh failed with status 3: no more$"):
        chain([["cat", "/dev/zero"], ["sh", "-c", "echo no more >&2; exit 3"]], nothing, SOON)


def test_one_that_ends_without_a_word_where_another_says_why_is_not_blamed(nothing: int) -> None:
    with pytest.raises(ProcessError, match=r"^sh failed with status 2: reason$"):
        chain([["false"], ["sh", "-c", "echo reason >&2; exit 2"]], nothing, SOON)


def test_a_failure_ahead_is_told_though_the_last_one_ends_well(nothing: int) -> None:
    with pytest.raises(ProcessError, match=r"^sh failed with status 4: broken$"):
        chain([["sh", "-c", "echo broken >&2; exit 4"], ["cat"]], nothing, SOON)


def test_one_that_is_not_installed_ends_those_before_it(nothing: int) -> None:
    with pytest.raises(ProcessError, match=r"^snf-nothing is not installed$"):
        chain([["cat", "/dev/zero"], ["snf-nothing"]], nothing, SOON)


def test_the_deadline_is_that_of_all_and_kills_all(nothing: int) -> None:
    with pytest.raises(ProcessError, match=r"^cat did not finish within 0.2 seconds$"):
        chain([["cat", "/dev/zero"], ["sh", "-c", "exec sleep 600"]], nothing, Limits(timeout=0.2))


def test_what_a_program_leaves_running_is_not_waited_for(nothing: int, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    chain([["sh", "-c", f"sleep 600 & echo $! >{pid}"]], nothing, SOON)
    subprocess.run(["kill", pid.read_text().strip()], check=True)


def test_of_a_flood_of_words_the_first_and_the_last_are_kept(nothing: int) -> None:
    with pytest.raises(PipelineError) as caught:
        chain([["sh", "-c", f"{FLOOD}; exit 1"]], nothing, SOON)
    said = caught.value.said
    assert said[0] == "complaint number 0"
    assert said[-1] == "complaint number 19999"
    assert sum(len(line) + 1 for line in said) < (129 << 10)


def test_a_hopeless_line_ends_all_at_once(nothing: int) -> None:
    commands = [["cat", "/dev/zero"], ["sh", "-c", "echo so far; echo disk full >&2; exec cat >/dev/null"]]
    with pytest.raises(ProcessError, match=r"^sh gave up: disk full$"):
        chain(commands, nothing, SOON, hopeless=re.compile("^disk full"))


def test_a_hopeless_line_that_comes_in_pieces_is_seen(nothing: int) -> None:
    script = "printf 'disk ' >&2; sleep 0.1; printf 'full\\n' >&2; exec sleep 600"
    with pytest.raises(ProcessError, match="gave up"):
        chain([["sh", "-c", script]], nothing, SOON, hopeless=re.compile("disk full"))
