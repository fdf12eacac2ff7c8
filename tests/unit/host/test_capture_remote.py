# SPDX-License-Identifier: GPL-2.0-or-later
"""A capture on the node where the disks are, through a real sshd: its words, its end, and nothing of it left there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from other_node import NODE, OtherNode, other_node, written_program

pytestmark = [pytest.mark.root, pytest.mark.image_row(91)]
PATIENCE = 120.0  # seconds
STRANGE = "a b;$(id)'\\"
_REAL = ("from pathlib import Path", "from snf_image_host import cli")
_RUN = 'sys.exit(cli.operate("snf-image-capture", Path({root!r})))'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OtherNode]:
    scratch = tmp_path / "node"
    scratch.mkdir()
    with other_node(scratch) as node:
        node.has_disks(tmp_path / "disk")
        yield node


def with_stand_in(node: OtherNode, *body: str) -> None:
    """The node has the command with a stand-in for the capture itself, of which `body` are the lines."""
    lines = (
        *_REAL,
        "import json, os, time",
        "from snf_image_host.tools import capture_command",
        f"scratch = Path({str(node.scratch)!r})",
        "def stand_in(asked, disks, settings, progress):",
        *(f"    {line}" for line in body),
        "capture_command.capture = stand_in",
        _RUN.format(root=str(node.scratch)),
    )
    node.has_program(written_program(node.scratch / "command-with-a-stand-in-for-the-capture", lines))


def ended(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = command.communicate(timeout=PATIENCE)
    return command.returncode, out, errors


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} does not appear"
        time.sleep(0.01)


def test_each_word_arrives_as_it_is_and_the_path_is_told_with_the_node(node: OtherNode, tmp_path: Path) -> None:
    with_stand_in(
        node,
        "told = [str(asked.kind), asked.stem, str(asked.directory), str(asked.compression), [str(d) for d in disks]]",
        '(scratch / "told").write_text(json.dumps([*told, os.uname().nodename]))',
        'progress.warning("the guest is suspended")',
        'return [f"{asked.directory}/{asked.stem}.raw.zst"]',
    )
    directory = f"{tmp_path}/{STRANGE}"
    words = ["-t", "raw", "--compress", "zst", "-n", STRANGE, "-d", directory, "--arch", "arm64"]
    status, out, errors = ended(node.capture("web1", *words))
    assert (status, out) == (0, f"{NODE}:{directory}/{STRANGE}-arm64.raw.zst\n"), errors
    told = json.loads((node.scratch / "told").read_text())
    assert told == ["raw", f"{STRANGE}-arm64", directory, "zst", [str(tmp_path / "disk")], "node2"]
    assert errors == "[WARNING] the guest is suspended\n"
    assert node.asked[-2:] == ["gnt-instance list", "gnt-instance deactivate-disks"]


def test_why_it_failed_there_and_its_exit_status_are_told_here(node: OtherNode, tmp_path: Path) -> None:
    node.has_program(written_program(node.scratch / "command", (*_REAL, _RUN.format(root=str(node.scratch)))))
    status, out, errors = ended(node.capture("web1", "-t", "tarball", "-d", str(tmp_path)))
    assert (status, out) == (5, "")
    assert errors.splitlines() == [
        f"[ERROR] {tmp_path}/disk cannot be opened: No such file or directory; is the disk activated?",
        f"[ERROR] snf-image-capture on {NODE} ended with status 5; why it did is told above",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node"]
    assert node.asked[-1] == "gnt-instance deactivate-disks"


def test_a_node_that_lets_nobody_in_is_told_with_the_words_of_ssh(node: OtherNode) -> None:
    (node.scratch / "known_hosts").write_text("")
    status, _, errors = ended(node.capture("web1", "-t", "tarball"))
    assert status == 255
    assert "Host key verification failed." in errors
    assert errors.endswith(f"on {NODE} ended with status 255; why it did is told above\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_capture_that_is_ended_here_ends_there_before_the_disks_are_let_go(
    node: OtherNode, number: signal.Signals
) -> None:
    with_stand_in(
        node,
        '(scratch / "pid").write_text(str(os.getpid()))',
        '(scratch / "begun").touch()',
        "try:",
        "    time.sleep(600)",
        "finally:",
        '    (scratch / "at-the-end").write_text((scratch / "asked").read_text())',
        '    (scratch / "cleaned-up").touch()',
    )
    command = node.capture("web1", "-t", "raw")
    wait_for(node.scratch / "begun")
    if number is signal.SIGINT:
        os.killpg(command.pid, number)  # as a terminal does
    else:
        command.send_signal(number)
    status, out, errors = ended(command)
    wait_for(node.scratch / "cleaned-up")
    pid = int((node.scratch / "pid").read_text())
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    assert out == ""
    assert "deactivate-disks" not in (node.scratch / "at-the-end").read_text()
    if number is not signal.SIGKILL:
        assert status == 128 + number
        assert "snf-image-capture was ended by SIGHUP; everything is cleaned up" in errors
        assert node.asked[-1] == "gnt-instance deactivate-disks"


def test_an_instance_that_was_started_meanwhile_has_an_image_that_is_to_be_removed(node: OtherNode) -> None:
    with_stand_in(node, '(scratch / "status").write_text("running")', 'return ["/images/web1-x86_64.raw"]')
    status, out, errors = ended(node.capture("web1", "-t", "raw"))
    assert (status, out) == (2, "")
    assert f"remove {NODE}:/images/web1-x86_64.raw, which may be torn: web1.example.com is not stopped" in errors
