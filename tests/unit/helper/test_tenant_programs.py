# SPDX-License-Identifier: GPL-2.0-or-later
"""RunCustomTask and overriding tasks: real programs, their environment and their status."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.overriding import run_overridden
from snf_image_helper.tasks.run_custom_task import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from snf_image_shared.process import ProcessError
from unit.helper.guest_trees import JOB, guest_in, perform, put, text

pytestmark = pytest.mark.root

ALLOWED = replace(JOB, properties={"ALLOW_MOUNTED_TASK_OVERWRITING": "yes"})
OVERRIDE = "/root/snf-image/helper/overwrite_task_AddSwap"


def encoded(script: str) -> str:
    return base64.encodebytes(f"#!/bin/sh\n{script}\n".encode()).decode()


@pytest.mark.row(165, 110)
def test_a_custom_task_sees_the_guest_and_its_environment(tmp_path: Path) -> None:
    job = replace(
        JOB,
        secrets=Secrets(password="s p"),
        environment={"HYPERVISOR": "kvm", "SNF_IMAGE_NIC_0_MAC": "aa:bb"},
        properties={"MY_OWN": "x\ny", "NOT-A-NAME": "lost"},
    )
    with guest_in(tmp_path) as guest:
        perform(TASK, guest, job, CUSTOM_TASK=encoded('env > "$SNF_IMAGE_TARGET/environment"'))
        found = text(guest, "/environment")
    for line in (
        "SNF_IMAGE_HOSTNAME=web.example.com",
        "SNF_IMAGE_TYPE=diskdump",
        "SNF_IMAGE_DEV=/dev/vda",
        "SNF_IMAGE_DEV_1=/dev/vdb",
        "SNF_IMAGE_DEV_COUNT=2",
        "SNF_IMAGE_PROPERTY_OSFAMILY=linux",
        "SNF_IMAGE_PROPERTY_ROOT_PARTITION=1",
        "SNF_IMAGE_PROPERTY_MY_OWN=x\ny",
        "SNF_IMAGE_PASSWD=s p",
        "HYPERVISOR=kvm",
        "SNF_IMAGE_NIC_0_MAC=aa:bb",
    ):
        assert f"{line}\n" in found
    assert "lost" not in found
    assert "PASSWD_HASH" not in found


@pytest.mark.row(165, 197)
def test_no_property_and_nothing_of_the_helpers_own_environment_steers_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering = ("LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "PYTHONPATH", "PYTHONSTARTUP", "IFS", "PATH")
    for name in steering[:6]:
        monkeypatch.setenv(name, "/owned")
    job = replace(JOB, properties=dict.fromkeys(steering, "/owned"))
    with guest_in(tmp_path) as guest:
        perform(TASK, guest, job, CUSTOM_TASK=encoded('env > "$SNF_IMAGE_TARGET/environment"'))
        owned = [line for line in text(guest, "/environment").splitlines() if line.endswith("=/owned")]
    assert sorted(owned) == sorted(f"SNF_IMAGE_PROPERTY_{name}=/owned" for name in steering)


def test_a_property_too_long_for_an_environment_hinders_nobody(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        perform(TASK, guest, CUSTOM_TASK=encoded("#" * 300_000 + '\n> "$SNF_IMAGE_TARGET/ran"'))
        assert guest.exists("/ran")


@pytest.mark.row(165)
def test_a_failing_custom_task_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest, pytest.raises(ProcessError, match="failed with status 7: no luck") as caught:
        perform(TASK, guest, CUSTOM_TASK=encoded("echo no luck >&2; exit 7"))
    assert caught.value.stderr_tail == ("no luck",)


@pytest.mark.parametrize("program", [b"#!/bin/sh\r\ntrue\r\n", b"#!/usr/bin/none\n", b"\x7fELF"])
def test_a_program_that_cannot_be_started_is_told_what_the_helper_can_run(tmp_path: Path, program: bytes) -> None:
    with guest_in(tmp_path) as guest, pytest.raises(GuestError, match=r"cannot be started .*; begin it with #!/bin/sh"):
        perform(TASK, guest, CUSTOM_TASK=base64.b64encode(program).decode())


def test_a_script_that_names_no_interpreter_is_a_shell_script(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        perform(TASK, guest, CUSTOM_TASK=base64.b64encode(b'> "$SNF_IMAGE_TARGET/ran"\n').decode())
        assert guest.exists("/ran")


def test_an_empty_property_does_not_hide_what_was_found_out(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        script = encoded('echo "$SNF_IMAGE_PROPERTY_OSFAMILY" > "$SNF_IMAGE_TARGET/family"')
        perform(TASK, guest, CUSTOM_TASK=script, OSFAMILY="")
        assert text(guest, "/family") == "linux\n"


def test_it_is_kept_in_mind_that_a_program_may_have_changed_anything(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        assert not guest.programs_ran
        perform(TASK, guest, CUSTOM_TASK=encoded("true"))
        assert guest.programs_ran


def test_its_output_is_shown_on_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with guest_in(tmp_path) as guest:
        perform(TASK, guest, CUSTOM_TASK=encoded("echo out; echo err >&2"))
    assert capsys.readouterr().out == "out\nerr\n"


def test_what_is_no_base64_is_refused(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest, pytest.raises(GuestError, match="property CUSTOM_TASK: not base64"):
        perform(TASK, guest, CUSTOM_TASK="#!/bin/sh")


def test_without_the_property_there_is_nothing_to_run() -> None:
    assert TASK.skip(JOB) == "the property CUSTOM_TASK is not set"


def override(root: Path, script: str, path: str = OVERRIDE) -> None:
    put(root, {path: f'#!/bin/sh\necho "$1" >> "$SNF_IMAGE_TARGET/calls"\n{script}\n'})
    (root / path.lstrip("/")).chmod(0o755)


def calls(root: Path, job: Job = ALLOWED) -> list[str]:
    """Perform a task that the guest may override; who was called, in order."""
    with guest_in(root) as guest:
        run_overridden("AddSwap", guest, job, lambda: guest.append_text("/calls", "task\n"))
        return text(guest, "/calls").split()


@pytest.mark.row(166)
def test_status_101_runs_the_task_between_two_calls(tmp_path: Path) -> None:
    override(tmp_path, '[ "$1" = post-exec ] || exit 101')
    assert calls(tmp_path) == ["pre-exec", "task", "post-exec"]


@pytest.mark.row(166)
def test_status_0_takes_the_place_of_the_task(tmp_path: Path) -> None:
    override(tmp_path, "exit 0")
    assert calls(tmp_path) == ["pre-exec"]


@pytest.mark.row(166)
@pytest.mark.parametrize(
    ("script", "stage"), [("exit 3", "pre-exec"), ('[ "$1" = post-exec ] && exit 4; exit 101', "post-exec")]
)
def test_any_other_status_fails_the_task(tmp_path: Path, script: str, stage: str) -> None:
    override(tmp_path, script)
    with pytest.raises(ProcessError, match=f"{stage} failed with status"):
        calls(tmp_path)


@pytest.mark.row(166)
def test_nothing_of_the_image_runs_unless_it_is_allowed(tmp_path: Path) -> None:
    override(tmp_path, "exit 0")
    assert calls(tmp_path, JOB) == ["task"]


def test_the_name_is_told_apart_by_its_letters_in_any_case(tmp_path: Path) -> None:
    override(tmp_path, "exit 0", "/root/snf-image/helper/OverWrite_Task_addswap")
    assert calls(tmp_path) == ["pre-exec"]


def test_two_programs_for_one_task_are_an_error(tmp_path: Path) -> None:
    override(tmp_path, "exit 0")
    override(tmp_path, "exit 0", OVERRIDE.lower())
    with pytest.raises(GuestError, match="both claim the task AddSwap"):
        calls(tmp_path)


def test_a_file_that_is_not_executable_overrides_nothing(tmp_path: Path) -> None:
    override(tmp_path, "exit 0")
    (tmp_path / OVERRIDE.lstrip("/")).chmod(0o644)
    assert calls(tmp_path) == ["task"]


def test_a_link_to_a_program_is_followed_inside_the_guest(tmp_path: Path) -> None:
    override(tmp_path, "exit 0", "/opt/program")
    with guest_in(tmp_path) as guest:
        guest.make_directory("/root/snf-image/helper")
        guest.symlink("/../opt/program", OVERRIDE)
    assert calls(tmp_path) == ["pre-exec"]
