# SPDX-License-Identifier: GPL-2.0-or-later
"""Ganeti's call of rename: what is asked of the helper VM, and when nothing is to be asked. No VM is started here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from provider import PROJECT, Instance
from snf_image_host.configuration.settings import Settings
from snf_image_host.rename import RenameRequest
from snf_image_shared.job import Action, Job
from snf_image_shared.properties import Properties

OLD, NEW = "web1.example.com", "web2.example.com"
PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from snf_image_host.cli import main
sys.exit(main("rename", Path({root!r})))
"""


def environment(disk: Path, **parameters: object) -> dict[str, str]:
    """What Ganeti gives, with the instance's new name; after a reinstallation img_id and img_format are forgotten."""
    return Instance(NEW, (disk,), parameters=parameters).environment() | {"OLD_INSTANCE_NAME": OLD}


def call(root: Path, env: Mapping[str, str], **settings: str) -> tuple[int, list[str]]:
    """Exit code and lines of a rename with these settings; a monitor that is started leaves a file."""
    directory = root / "etc/snf-image"
    directory.mkdir(parents=True)
    (root / "etc/ganeti/snf-image/variants").mkdir(parents=True)
    (root / "etc/ganeti/snf-image/variants/default.conf").touch()
    settings = {"PROGRESS_MONITOR": f"touch {root}/monitored", "HELPER_DIR": f"{root}/helper", **settings}
    (directory / "snf-image.conf").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    paths = [str(PROJECT / name) for name in ("host", "shared")]
    argv = [sys.executable, "-c", PROGRAM.format(paths=paths, root=str(root))]
    done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (root / "monitored").exists()
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk that nobody may touch: it is no file at all."""
    return tmp_path / "no disk"


@pytest.mark.row(9)
def test_an_administrator_can_turn_it_off(tmp_path: Path, disk: Path) -> None:
    code, lines = call(tmp_path, environment(disk), RENAME="no")
    assert (code, lines) == (0, ["[INFO] The guest is not renamed: RENAME=no in the settings"])


@pytest.mark.row(9)
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"hostname": "www.example.org"}, "the OS parameter hostname gives it the name www.example.org"),
        ({"spec": {"hostname": "www.example.org"}}, "the OS parameter hostname gives it the name www.example.org"),
        ({"img_properties": {"EXCLUDE_ALL_TASKS": "yes"}}, "the property EXCLUDE_ALL_TASKS is set"),
        ({"inst_properties": {"exclude_mounted_tasks": True}}, "the property EXCLUDE_MOUNTED_TASKS is set"),
        ({"img_properties": {"EXCLUDE_TASK_ASSIGNHOSTNAME": 1}}, "the property EXCLUDE_TASK_ASSIGNHOSTNAME is set"),
    ],
)
def test_a_tenant_can_turn_it_off_and_is_told(
    tmp_path: Path, disk: Path, parameters: Mapping[str, object], reason: str
) -> None:
    code, lines = call(tmp_path, environment(disk, **parameters))
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith(f"[INFO] The guest is not renamed: {reason}")


def test_a_word_that_is_no_boolean_is_taken_as_yes_and_told(tmp_path: Path, disk: Path) -> None:
    code, lines = call(tmp_path, environment(disk, img_properties={"EXCLUDE_ALL_TASKS": "y"}))
    assert (code, len(lines)) == (0, 2)
    assert lines[0].startswith("[WARNING] Property EXCLUDE_ALL_TASKS: 'y'")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"OLD_INSTANCE_NAME": NEW}, f"the instance was called {NEW} before"), ({"DISK_COUNT": "0"}, "has no disk")],
)
def test_where_there_is_nothing_to_rename_nothing_is_done(
    tmp_path: Path, disk: Path, change: Mapping[str, str], reason: str
) -> None:
    code, lines = call(tmp_path, environment(disk) | dict(change))
    assert (code, len(lines)) == (0, 1)
    assert reason in lines[0]


@pytest.mark.row(25)
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"OS_API_VERSION": "15"}, 2, ("OS_API_VERSION",)),
        ({"OLD_INSTANCE_NAME": ""}, 2, ("OLD_INSTANCE_NAME", "Ganeti sets it")),
        ({"INSTANCE_NAME": "a b"}, 2, ("INSTANCE_NAME",)),
        ({"OLD_INSTANCE_NAME": "x\ny"}, 2, ("OLD_INSTANCE_NAME",)),
        ({"HYPERVISOR": "kvm init=/bin/sh"}, 2, ("HYPERVISOR", "kvm, xen-hvm")),
        ({"DISK_COUNT": "x"}, 2, ("DISK_COUNT",)),
        ({"OSP_IMG_PROPERTIES": "{"}, 2, ("img_properties",)),
        ({"OS_VARIANT": "none"}, 3, ("variant 'none'",)),
        ({}, 3, ("helper", "snf-image-update-helper")),
    ],
)
def test_what_is_wrong_with_the_call_or_the_node_is_a_failure_with_a_cure(
    tmp_path: Path, disk: Path, change: Mapping[str, str], code: int, words: tuple[str, ...]
) -> None:
    found, lines = call(tmp_path, environment(disk) | dict(change))
    assert found == code
    assert lines[-1].startswith("[ERROR] ")
    assert all(word in lines[-1] for word in words), lines[-1]


def test_the_helper_is_told_both_names_the_first_disk_and_no_secret(disk: Path) -> None:
    env = Instance(NEW, (disk, disk.with_name("second"))).environment() | {"OLD_INSTANCE_NAME": OLD}
    parameters = {"IMG_PASSWD": "c4n4ry", "IMG_PROPERTIES": '{"osfamily": "linux"}', "INST_PROPERTIES": '{"X": 1}'}
    request = RenameRequest.from_environment(env, parameters)
    assert request.properties == Properties({"OSFAMILY": "linux", "X": "1"})
    text = request.job(Settings(helper_dir=disk, image_dir=disk, run_dir=disk)).dump()
    job = Job.load(text)
    assert (job.action, job.old_hostname, job.hostname, job.instance) == (Action.RENAME, OLD, NEW, NEW)
    assert (job.disks, job.image_format, job.properties["OSFAMILY"]) == (("snf-disk-0",), "", "linux")
    assert b"c4n4ry" not in text
