# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper works in its own virtual machine and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.row(103)
def test_it_refuses_a_machine_that_is_no_helper_vm() -> None:
    path = f"{PROJECT / 'helper'}:{PROJECT / 'shared'}"
    done = subprocess.run(
        [sys.executable, "-m", "snf_image_helper"],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "only runs as the first program of its own virtual machine" in done.stderr


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("__main__", ("session", "guest", "rename", "customize", "tasks")),
        ("session", ("guest", "rename", "customize", "inspection", "tasks")),
        ("rename", ("customize", "inspection", "tasks", "network")),
        ("customize", ("rename", "inspection")),
        ("inspection", ("rename", "customize")),
    ],
)
def test_nothing_is_imported_that_the_story_does_not_need(imported: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, snf_image_helper.{imported}; print(*sys.modules)"
    environment = {"PYTHONPATH": f"{PROJECT / 'helper'}:{PROJECT / 'shared'}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert f"snf_image_helper.{imported}" in modules
    assert modules.isdisjoint(f"snf_image_helper.{name}" for name in absent)
