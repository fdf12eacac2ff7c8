# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host import monitor
from snf_image_host.progress import Progress, printable
from snf_image_shared.errors import ImageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def program(directory: Path, *lines: str) -> str:
    """A monitor written in shell."""
    path = directory / "monitor"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def collector(directory: Path) -> str:
    """A monitor that keeps its messages and arguments in files."""
    return program(directory, f'cat > {directory}/messages; echo "$*" > {directory}/arguments')


def received(directory: Path) -> list[dict[str, object]]:
    messages = [json.loads(line) for line in (directory / "messages").read_text().splitlines()]
    for message in messages:
        assert isinstance(message.pop("timestamp"), float)
    return messages


@pytest.mark.row(79)
def test_the_monitor_hears_each_message_in_the_form_of_the_contract(tmp_path: Path) -> None:
    with Progress.start("inst", collector(tmp_path), log=io.StringIO()) as progress:
        progress.info("Starting image copy...")
        progress.copy_finished(5)
        progress.task_start("FixPartitionTable")
        progress.helper_warning(" No swap partition defined")
        progress.task_end("FixPartitionTable")
        progress.helper_error(["it broke"])
        progress.helper_error(stderr="two\nlines")
        progress.error(["Image customization failed."])
    assert received(tmp_path) == [
        {"type": "image-info", "messages": ["Starting image copy..."]},
        {"type": "image-copy-progress", "position": 5, "total": 5, "progress": 100.0}
        | {"written": 5, "rate": 0, "left": 0.0},
        {"type": "image-helper", "subtype": "task-start", "task": "FixPartitionTable"},
        {"type": "image-helper", "subtype": "warning", "messages": [" No swap partition defined"]},
        {"type": "image-helper", "subtype": "task-end", "task": "FixPartitionTable"},
        {"type": "image-helper", "subtype": "error", "messages": ["it broke"]},
        {"type": "image-helper", "subtype": "error", "stderr": "two\nlines"},
        {"type": "image-error", "messages": ["Image customization failed."]},
    ]


@pytest.mark.row(83)
def test_the_monitor_gets_its_arguments_and_the_instance_last(tmp_path: Path) -> None:
    with Progress.start("vm1.example.org", collector(tmp_path) + " -v 'two words'", log=io.StringIO()):
        pass
    assert (tmp_path / "arguments").read_text() == "-v two words vm1.example.org\n"


def test_the_monitor_is_started_without_a_shell_and_without_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSP_IMG_PASSWD", "canary")
    command = program(tmp_path, f"env > {tmp_path}/environment; cat > /dev/null")
    with Progress.start("inst", f"{command} ;touch {tmp_path}/owned", log=io.StringIO()):
        pass
    assert "canary" not in (tmp_path / "environment").read_text()
    assert not (tmp_path / "owned").exists()


@pytest.mark.row(84)
def test_without_a_monitor_the_log_holds_lines_and_messages() -> None:
    log = io.StringIO()
    with Progress.start("inst", "", log=log) as progress:
        progress.info("Starting image copy...")
        progress.warning("the image is old")
        progress.helper_line("console")
    lines = log.getvalue().splitlines()
    assert lines[0] == "[INFO] Starting image copy..."
    assert lines[1].startswith('[MONITOR] {"type": "image-info", "messages": ["Starting image copy..."], "timestamp": ')
    assert lines[2:] == ["[WARNING] the image is old", "HELPER: console"]


def test_with_a_monitor_the_log_holds_no_messages(tmp_path: Path) -> None:
    log = io.StringIO()
    with Progress.start("inst", collector(tmp_path), log=log) as progress:
        progress.info("Starting image copy...")
    assert log.getvalue() == "[INFO] Starting image copy...\n"


@pytest.mark.row(80)
def test_a_failure_is_one_image_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError), Progress.start("inst", collector(tmp_path), log=io.StringIO()):
        raise ImageError("image 'x' is empty")
    assert received(tmp_path) == [{"type": "image-error", "messages": ["image 'x' is empty"]}]


@pytest.mark.row(80)
def test_a_failure_that_was_reported_is_not_reported_again(tmp_path: Path) -> None:
    log = io.StringIO()
    with pytest.raises(ImageError), Progress.start("inst", collector(tmp_path), log=log) as progress:
        progress.error(["first", "and second"])
        raise ImageError("third")
    assert received(tmp_path) == [{"type": "image-error", "messages": ["first", "and second"]}]
    assert log.getvalue() == "[ERROR] first\n[ERROR] and second\n"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (ZeroDivisionError, "Internal Error: Image deployment failed."),
        (SystemExit, "Image deployment was interrupted."),
    ],
)
def test_an_unexpected_end_tells_no_internals(tmp_path: Path, failure: type[BaseException], text: str) -> None:
    with pytest.raises(failure), Progress.start("inst", collector(tmp_path), log=io.StringIO()):
        raise failure("secret")
    assert received(tmp_path) == [{"type": "image-error", "messages": [text]}]


@pytest.mark.row(70)
@pytest.mark.parametrize("command", ["/nowhere/monitor", "monitor 'unbalanced", "/dev/null"])
def test_a_monitor_that_cannot_be_started_is_a_warning(command: str) -> None:
    log = io.StringIO()
    with Progress.start("inst", command, log=log) as progress:
        progress.info("on we go")
    assert log.getvalue().startswith("[WARNING] PROGRESS_MONITOR ")
    assert '[MONITOR] {"type": "image-info", "messages": ["on we go"]' in log.getvalue()


@pytest.mark.row(70)
def test_a_monitor_that_ends_early_is_a_warning_and_the_log_goes_on(tmp_path: Path) -> None:
    log = io.StringIO()
    with Progress.start("inst", program(tmp_path, "exec true"), log=log) as progress:
        while "[WARNING]" not in log.getvalue():
            progress.info("again")
        progress.info("last")
    assert "ended before the deployment did" in log.getvalue()
    assert '[MONITOR] {"type": "image-info", "messages": ["last"]' in log.getvalue()


@pytest.mark.row(71)
def test_a_monitor_that_reads_nothing_holds_up_nothing_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "GRACE", 1.0)
    log = io.StringIO()
    command = program(tmp_path, f"echo $$ > {tmp_path}/pid", "exec sleep 600")
    with Progress.start("inst", command, log=log) as progress:
        for _ in range(3000):
            progress.info("x" * 1000)
    assert "did not read all messages in time" in log.getvalue()
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_slow_monitor_still_hears_of_the_failure(tmp_path: Path) -> None:
    command = program(tmp_path, "sleep 0.5", f"exec cat > {tmp_path}/messages")
    with pytest.raises(ImageError), Progress.start("inst", command, log=io.StringIO()) as progress:
        for _ in range(3000):
            progress.info("x" * 1000)
        raise ImageError("the end " * 1000)
    messages = received(tmp_path)
    assert messages[-1] == {"type": "image-error", "messages": ["the end " * 1000]}
    assert len(messages) < 3000


def test_a_monitor_that_ignores_the_end_of_its_input_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "GRACE", 1.0)
    command = program(tmp_path, f"trap '' TERM; echo $$ > {tmp_path}/pid", "while :; do sleep 0.1; done")
    with Progress.start("inst", command, log=io.StringIO()):
        while not (tmp_path / "pid").exists():
            pass
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_the_monitor_holds_nothing_open_that_it_should_not(tmp_path: Path) -> None:
    command = program(tmp_path, f"readlink /proc/self/fd/* > {tmp_path}/held; cat > /dev/null")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with Progress.start("inst", command, log=io.StringIO()):
            pass
    assert "secret" not in (tmp_path / "held").read_text()


def test_copy_messages_come_rarely_and_the_last_one_once() -> None:
    log = io.StringIO()
    with Progress.start("inst", "", log=log) as progress:
        for position in range(0, 100_000, 7):
            progress.copied(position, 100_000, position)
        progress.copy_finished(100_000)
    (line,) = log.getvalue().splitlines()
    assert '"position": 100000, "total": 100000, "progress": 100.0' in line


def test_nothing_to_copy_is_no_progress() -> None:
    log = io.StringIO()
    with Progress.start("inst", "", log=log) as progress:
        progress.copy_finished(0)
    assert '"position": 0, "total": 0, "progress": 0.0' in log.getvalue()


@pytest.mark.row(85)
def test_control_characters_reach_neither_log_nor_messages() -> None:
    log = io.StringIO()
    with Progress.start("inst", "", log=log) as progress:
        progress.helper_line("\x1b]0;owned\x07\r[INFO] forged")
        progress.helper_warning("\x1b[2J\n[ERROR] forged")
        progress.task_start("a\x9bb\u202e")
    assert log.getvalue().replace("\n", "").isprintable()
    assert all(line.startswith(("HELPER: ", "[MONITOR] ", "[WARNING] ")) for line in log.getvalue().splitlines())


@given(text=st.text())
def test_what_is_printable_stays_and_all_else_is_escaped(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_a_log_that_knows_only_ascii_gets_escapes() -> None:
    raw = io.BytesIO()
    with Progress.start("inst", "", log=io.TextIOWrapper(raw, "ascii")) as progress:
        progress.warning("Größe")
        assert raw.getvalue() == b"[WARNING] Gr\\xf6\\xdfe\n"


def test_a_full_log_is_no_failure() -> None:
    went_on = False
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as log:  # closing it fails
        with Progress.start("inst", "", log=log) as progress:
            progress.info("on we go")
        went_on = True
    assert went_on


def test_a_terminal_shows_a_bar_and_a_line_for_each_task() -> None:
    terminal = Terminal()
    with Progress.start("inst", "", log=terminal) as progress:
        progress.info("Starting image copy...")
        progress.copied(0, 4 << 30, 0)
        progress.copy_finished(4 << 30)
        progress.task_start("AddSwap")
        progress.helper_line("mkswap")
        progress.task_end("AddSwap")
    shown = [line.rpartition("\x1b[K")[2] for line in terminal.getvalue().split("\n")]
    assert shown[0] == "[INFO] Starting image copy..."
    assert shown[1].startswith("  copy [##############################] 100% of 4.0 GiB, ")
    assert shown[2] == "HELPER: mkswap"
    assert shown[3].startswith("  AddSwap ")
    assert "[MONITOR]" not in terminal.getvalue()


def test_a_dead_reader_of_the_log_does_not_end_the_deployment() -> None:
    script = (
        "import os\nfrom snf_image_host.progress import Progress\n"
        "with Progress.start('inst', '') as progress:\n"
        "    for _ in range(100): progress.info('x' * 10000)\n"
        "os.write(1, b'finished')\nos._exit(0)\n"
    )
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=write,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as child:
        os.close(write)
        os.close(read)
        assert child.communicate()[0] == b"finished"
