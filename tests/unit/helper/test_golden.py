# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden trees: tests/golden/<case> holds a guest before, a job, and the same guest after, compared whole.

Files are root's with mode 0644 unless the file "modes" says otherwise: path, mode, owner, group. Only tasks without
fresh secrets take part. To accept what the code does now, run with GOLDEN_UPDATE=1 and read the difference.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks import ON_GUEST
from snf_image_shared.job import JOB_VERSION, Job
from unit.helper.guest_trees import guest_in, perform

pytestmark = pytest.mark.root

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/job.json"))
TASKS = (
    "InitializeDatasource",
    "AssignHostname",
    "ResetIdentity",
    "ChangePassword",
    "ConfigureNetwork",
    "SELinuxAutorelabel",
    "EnforcePersonality",
)
UPDATE = "GOLDEN_UPDATE"


@pytest.mark.image_row(39)
@pytest.mark.parametrize("case", CASES)
def test_the_tree_after_is_the_golden_one(tmp_path: Path, case: str) -> None:
    warnings = customize(tmp_path / "guest", case)
    found = picture(tmp_path / "guest")
    if os.environ.get(UPDATE):
        accept(GOLDEN / case, tmp_path / "guest", warnings)
    assert found == expected(GOLDEN / case)
    assert warnings == (GOLDEN / case / "warnings").read_text().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_changes_nothing(tmp_path: Path, case: str) -> None:
    customize(tmp_path / "guest", case)
    before = picture(tmp_path / "guest")
    with guest_in(tmp_path / "guest") as guest:
        run_tasks(guest, case)
    assert picture(tmp_path / "guest") == before


def job_of(text: str) -> Job:
    """The job of a case, which says nothing of what came into jobs after it."""
    usual = Job(JOB_VERSION, "", "", "diskdump", ())
    return Job.load(json.dumps({**json.loads(usual.dump()), **json.loads(text), "version": JOB_VERSION}).encode())


def customize(root: Path, case: str) -> list[str]:
    """Make the tree before in `root`, run the tasks; what they warned of."""
    shutil.copytree(GOLDEN / case / "before", root, symlinks=True)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or "sbin" in path.parts else 0o644)
            os.chown(path, 0, 0)
    with guest_in(root) as guest:
        return run_tasks(guest, case)


def run_tasks(guest: Guest, case: str) -> list[str]:
    job = job_of((GOLDEN / case / "job.json").read_text())
    cloud_init = job.wishes.flag("CLOUD_INIT")
    own = [task for task in ON_GUEST if task.name in TASKS and OsFamily.LINUX in task.families]
    tasks = [task for task in own if task.skip(job) is None]
    wanted = [task for task in tasks if cloud_init or task.name != "InitializeDatasource"]
    return [warning for task in wanted for warning in perform(task, guest, job).warnings]


Entry = tuple[str, str]


def picture(root: Path) -> dict[str, Entry]:
    """Every file and link: how it is owned, and what it holds."""
    return {
        f"/{path.relative_to(root)}": _entry(path) for path in root.rglob("*") if path.is_symlink() or path.is_file()
    }


def expected(case: Path) -> dict[str, Entry]:
    found = picture(case / "after")
    modes = dict(line.split(" ", 1) for line in (case / "modes").read_text().splitlines())
    for path, (_, content) in found.items():
        usual = "link" if content.startswith("->") else "0755 0 0" if "/sbin/" in path else "0644 0 0"
        found[path] = (modes.get(path.replace(" ", "\\040"), usual), content)
    return found


def accept(case: Path, root: Path, warnings: list[str]) -> None:
    shutil.rmtree(case / "after", ignore_errors=True)
    shutil.copytree(root, case / "after", symlinks=True)
    (case / "modes").write_text("")
    usual = expected(case)
    odd = sorted((path, mode) for path, (mode, _) in picture(root).items() if usual[path][0] != mode)
    (case / "modes").write_text("".join(f"{path.replace(' ', chr(92) + '040')} {mode}\n" for path, mode in odd))
    (case / "warnings").write_text("".join(f"{warning}\n" for warning in warnings))


def _entry(path: Path) -> Entry:
    if path.is_symlink():
        return "link", f"-> {path.readlink()}"
    found = path.stat()
    return f"{found.st_mode & 0o7777:04o} {found.st_uid} {found.st_gid}", path.read_bytes().decode("latin-1")
