# SPDX-License-Identifier: GPL-2.0-or-later
"""How other programs are run: their environment, their end, and what is said of a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snf_image_shared.process import SEARCH_PATH, Limits, ProcessError, run


def test_a_program_gets_path_and_the_c_locale_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSP_IMG_PASSWD", "secret")
    assert set(run(["env"]).stdout.splitlines()) == {f"PATH={SEARCH_PATH}", "LC_ALL=C"}
    assert "A=b" in run(["env"], env={"A": "b"}).stdout.splitlines()


def test_a_program_reads_what_it_is_given_and_then_the_end() -> None:
    assert run(["cat"]).stdout == ""
    assert run(["cat"], stdin=b"a\xff\n").stdout == "a�\n"


def test_its_output_can_go_to_a_file_byte_for_byte(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        assert run(["cat"], stdin=b"a\xff\0", limits=Limits(stdout=file.fileno())).stdout == ""
    assert (tmp_path / "output").read_bytes() == b"a\xff\0"


def test_words_reach_the_program_as_they_are() -> None:
    words = ["$(id)", "a b", "*", "; true", "`id`", "\n", ""]
    assert run(["printf", "%s\\0", *words]).stdout.split("\0")[:-1] == words


def test_a_failure_is_told_by_name_status_and_last_words() -> None:
    with pytest.raises(ProcessError, match=r"^sh failed with status 3: two$") as caught:
        run(["sh", "-c", "echo one >&2; echo two >&2; echo >&2; exit 3"])
    assert caught.value.stderr_tail == ("one", "two")


def test_a_failure_does_not_tell_the_arguments() -> None:
    with pytest.raises(ProcessError) as caught:
        run(["false", "c4n4ry"])
    assert "c4n4ry" not in str(caught.value)


def test_an_accepted_status_is_no_failure() -> None:
    assert run(["sh", "-c", "exit 1"], limits=Limits(accept=frozenset({0, 1}))).status == 1


def test_a_signal_is_told_by_number() -> None:
    with pytest.raises(ProcessError, match=r"^sh was killed by signal 9$"):
        run(["sh", "-c", "kill -9 $$"])


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"^snf-nothing is not installed$"):
        run(["snf-nothing"])
    (tmp_path / "plain").write_text("")
    with pytest.raises(ProcessError, match=r"^plain cannot be started: Permission denied$"):
        run([str(tmp_path / "plain")])


def test_a_nul_in_an_argument_is_a_failure_like_any_other() -> None:
    with pytest.raises(ProcessError, match=r"^echo cannot be started: embedded null byte$"):
        run(["echo", "a\0b"])


def test_a_program_that_outlives_its_deadline_is_killed_even_if_its_children_hold_its_output() -> None:
    with pytest.raises(ProcessError, match=r"^sh did not finish within 0.2 seconds$"):
        run(["sh", "-c", "sleep 5 & exec sleep 60"], limits=Limits(timeout=0.2))


def test_descriptors_keep_their_numbers_and_the_others_are_closed() -> None:
    first, second = os.memfd_create("first"), os.memfd_create("second")
    try:
        shown = run(["ls", "/proc/self/fd"], limits=Limits(pass_fds=(first,))).stdout.split()
    finally:
        os.close(first)
        os.close(second)
    assert str(first) in shown
    assert str(second) not in shown
