# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the administrator that run on the node: which, with what environment, and what becomes of failures."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.hooks.node_hooks import Moment, run_node_hooks
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError


def hook(directory: Path, name: str, script: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def run(directory: Path | None, moment: Moment = Moment.PRE, **environment: str) -> str:
    """Run them; the log."""
    log = io.StringIO()
    settings = Settings(node_hooks_dir=directory, hooks_timeout=60.0)
    with Progress.start("web.example.com", "", log=log) as progress:
        run_node_hooks(moment, environment, settings, progress)
    return log.getvalue()


def test_those_of_the_moment_run_in_their_order_with_ganetis_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSP_IMG_PASSWD", "secret")
    hook(tmp_path / "pre", "b", f'echo "b for $INSTANCE_NAME $OSP_IMG_PASSWD." >> {tmp_path}/ran; echo said by b')
    hook(tmp_path / "pre", "A", f"echo A >> {tmp_path}/ran")
    hook(tmp_path / "pre", "b.bak", f"echo bak >> {tmp_path}/ran")
    hook(tmp_path / "post", "c", f"echo c >> {tmp_path}/ran")
    log = run(tmp_path, INSTANCE_NAME="web.example.com")
    assert (tmp_path / "ran").read_text() == "A\nb for web.example.com .\n"
    assert "said by b\n" in log
    run(tmp_path, Moment.POST)
    assert (tmp_path / "ran").read_text().endswith("\nc\n")


def test_all_run_and_each_that_failed_is_told_with_its_last_words(tmp_path: Path) -> None:
    hook(tmp_path / "pre", "a", "echo no such zone >&2; exit 3")
    hook(tmp_path / "pre", "b", f"touch {tmp_path}/b")
    with pytest.raises(ConfigurationError) as failure:
        run(tmp_path)
    assert str(failure.value) == f"{tmp_path}/pre/a failed with status 3 (no such zone); nothing was written"
    assert (tmp_path / "b").exists()


def test_what_a_hook_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    hook(tmp_path / "post", "a", f"sleep 600 & echo $! > {tmp_path}/left; echo done")
    log = run(tmp_path, Moment.POST)
    left = int((tmp_path / "left").read_text())
    os.kill(left, signal.SIGKILL)  # it was still there
    assert "done\n" in log


def test_no_signal_is_blocked_for_a_hook(tmp_path: Path) -> None:
    hook(tmp_path / "post", "a", "grep -o 'SigBlk:.0*$' /proc/self/status | tr '\\t' ' '")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        log = run(tmp_path, Moment.POST)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert "SigBlk: 0000000000000000\n" in log


def test_without_a_directory_nothing_runs(tmp_path: Path) -> None:
    assert run(None) == run(tmp_path / "missing") == ""
