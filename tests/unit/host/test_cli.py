# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripts as programs: arguments, exit codes, and one last line that a person can use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
PATHS = [str(PROJECT / name) for name in ("host", "shared")]
SCRIPTS = ("create", "import", "export", "rename", "verify")
SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from snf_image_host.cli import main
{before}
sys.exit(main({command!r}, Path({root!r})))
"""


def program(command: str, root: Path, before: str = "") -> list[str]:
    text = SCRIPT.format(paths=PATHS, command=command, root=str(root), before=before)
    return [sys.executable, "-c", text]


def call(
    command: str, root: Path, *arguments: str, env: Mapping[str, str] | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """One script with an environment as clean as Ganeti's."""
    return subprocess.run(
        [*program(command, root, before), *arguments],
        env={"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@pytest.mark.row(8)
@pytest.mark.parametrize("command", SCRIPTS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_given_on_standard_output(tmp_path: Path, command: str, option: str) -> None:
    done = call(command, tmp_path, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {command}")


@pytest.mark.row(8)
@pytest.mark.parametrize("command", SCRIPTS)
@pytest.mark.parametrize("arguments", [["x"], ["parameters", "x"], ["-h", "x"], [""]])
def test_other_arguments_get_the_usage_and_the_code_of_a_wrong_request(
    tmp_path: Path, command: str, arguments: list[str]
) -> None:
    done = call(command, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {command}")


def test_verify_wants_its_word(tmp_path: Path) -> None:
    assert call("verify", tmp_path).returncode == 2
    done = call("verify", tmp_path, "parameters")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.row(25)
@pytest.mark.parametrize(
    ("command", "arguments", "env", "code", "line"),
    [
        (
            "verify",
            ["parameters"],
            {"OSP_IMG_FORMAT": "x\x1b[2J\ny"},
            2,
            r"OS parameter img_format: 'x\x1b[2J\ny' is not",
        ),
        ("verify", ["parameters"], {"OS_VARIANT": "none"}, 3, "variant 'none': "),
        (
            "verify",
            ["parameters"],
            {"OSP_IMG_PERSONALITY": '[{"path": "/ä", "contents": "x"}]'},
            2,
            "OS parameter img_p",
        ),
        ("create", [], {}, 2, "OS_API_VERSION: '' is not 20"),
        ("create", [], {"OS_API_VERSION": "20"}, 2, "INSTANCE_NAME is missing"),
        ("export", [], {"OS_API_VERSION": "20"}, 2, "EXPORT_DEVICE: "),
        ("import", [], {"OS_API_VERSION": "20"}, 2, "IMPORT_DEVICE: "),
    ],
)
def test_an_error_is_one_last_line_of_printable_ascii_and_its_own_code(
    tmp_path: Path, command: str, arguments: list[str], env: Mapping[str, str], code: int, line: str
) -> None:
    done = call(command, tmp_path, *arguments, env=env)
    last = done.stderr.removesuffix("\n").rpartition("\n")[2]
    assert done.returncode == code
    assert last.startswith(f"[ERROR] {line}")
    assert last.isascii()
    assert last.isprintable()
    assert "Traceback" not in done.stderr


def test_every_fault_of_a_request_is_a_line_of_its_own(tmp_path: Path) -> None:
    faults = {"OSP_IMG_FORMAT": "a\nb", "OSP_HOSTNAME": "a\r[ERROR] b", "OSP_IMG_CHECKSUM": "x"}
    done = call("verify", tmp_path, "parameters", env=faults)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in lines] == [
        "[ERROR] OS parameter img_format",
        "[ERROR] OS parameter img_checksum",
        "[ERROR] OS parameter hostname",
        "[ERROR] 3 OS parameters are wrong",
    ]


@pytest.mark.row(81)
def test_every_fault_of_a_request_reaches_the_monitor_in_one_message(tmp_path: Path) -> None:
    env = {"OS_API_VERSION": "20", "INSTANCE_NAME": "a", "HYPERVISOR": "kvm", "DISK_COUNT": "0"}
    done = call("create", tmp_path, env=env)
    sent = [json.loads(line.partition(" ")[2]) for line in done.stderr.splitlines() if line.startswith("[MONITOR] ")]
    (error,) = (message for message in sent if message["type"] == "image-error")
    shown = [line.removeprefix("[ERROR] ") for line in done.stderr.splitlines() if line.startswith("[ERROR] ")]
    assert error["messages"] == shown
    assert len(shown) == 4


def test_a_fault_of_ours_has_a_traceback_above_and_a_last_line_below(tmp_path: Path) -> None:
    before = "import snf_image_host.verify as story\nstory.verify = lambda env, root: 1 // 0"
    done = call("verify", tmp_path, "parameters", before=before)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith(
        "[ERROR] internal error in verify: integer division or modulo by zero; please report it with the lines above\n"
    )


def test_nothing_is_left_of_the_environment_once_it_has_been_read(tmp_path: Path) -> None:
    before = (
        "import os, snf_image_host.verify as story\n"
        "story.verify = lambda env, root: print(env['OSP_IMG_PASSWD'], len(os.environ),"
        " b'c4n4ry' in open('/proc/self/environ', 'rb').read())"
    )
    done = call("verify", tmp_path, "parameters", env={"OSP_IMG_PASSWD": "c4n4ry"}, before=before)
    assert done.stdout == "c4n4ry 0 False\n"


@pytest.mark.row(89, 90)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_unwinds_what_is_open_and_is_told_in_the_code(tmp_path: Path, number: signal.Signals) -> None:
    before = """
import time, snf_image_host.verify as story
def wait(env, root):
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("unwound", flush=True)
story.verify = wait
"""
    process = subprocess.Popen(
        [*program("verify", tmp_path, before), "parameters"],
        env={"PATH": os.defpath},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "unwound\n")
    assert err == f"[ERROR] verify was ended by {number.name}; everything is cleaned up\n"


@pytest.mark.parametrize(
    ("story", "code"),
    [
        ("verify", 0),
        ("1 // 0", 1),
        ("exec('raise errors.ImageError')", 4),
        ("os.kill(os.getpid(), 15)", 143),
    ],
)
def test_a_log_that_nobody_reads_any_more_changes_nothing_of_the_exit_code(
    tmp_path: Path, story: str, code: int
) -> None:
    before = f"""
import os, snf_image_host.verify as story
from snf_image_host.progress import Progress
from snf_image_shared import errors
def verify(env, root):
    with Progress.start("x", "") as progress:
        progress.info("x")
        {story}
story.verify = verify
"""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as log:
        done = subprocess.run(
            [*program("verify", tmp_path, before), "parameters"],
            env={"PATH": os.defpath},
            stdout=log,
            stderr=log,
            check=False,
        )
    assert done.returncode == code


def test_a_size_is_written_to_no_descriptor_that_the_disk_would_get(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    env = {"OS_API_VERSION": "20", "EXPORT_DEVICE": f"{tmp_path}/disk", "EXP_SIZE_FD": "3"}
    done = call("export", tmp_path, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "[ERROR] EXP_SIZE_FD: 3 is not open; Ganeti opens it, so call me through Ganeti\n"


@pytest.mark.parametrize(("command", "arguments"), [("verify", ["parameters"]), ("rename", [])])
def test_a_script_that_starts_nothing_loads_no_machinery(tmp_path: Path, command: str, arguments: list[str]) -> None:
    (tmp_path / "etc/snf-image").mkdir(parents=True)
    (tmp_path / "etc/snf-image/snf-image.conf").write_text("RENAME=no\n")
    before = """
import atexit
ours = {"snf_image_host.vm.helper_vm", "snf_image_host.disks.storage"}
machinery = {"asyncio", "concurrent.futures", "nbd", "qemu", *ours}
atexit.register(lambda: print(sorted(machinery & set(sys.modules))))
"""
    done = call(command, tmp_path, *arguments, before=before)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_no_core_dump_is_written_or_piped_of_a_script_or_its_children(tmp_path: Path) -> None:
    before = """
import subprocess, snf_image_host.verify as story
story.verify = lambda env, root: subprocess.run(["sh", "-c", "ulimit -c -S; ulimit -c -H"])
"""
    done = call("verify", tmp_path, "parameters", before=before)
    assert done.stdout.split() in (["1", "1"], ["0", "0"])


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_standard_descriptor(tmp_path: Path, closed: str) -> None:
    before = """
import os, sys, snf_image_host.verify as story
def verify(env, root):
    print("said", file=sys.stderr)
    os._exit(os.open("/", os.O_RDONLY))
story.verify = verify
"""
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *program("verify", tmp_path, before), "parameters"]
    assert subprocess.run(shell, env={"PATH": os.defpath}, check=False).returncode > 2


@pytest.mark.parametrize(("command", "closed"), [("import", "<&-"), ("export", ">&-")])
def test_a_closed_stream_is_told_before_the_disk_is_opened(tmp_path: Path, command: str, closed: str) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *program(command, tmp_path)]
    env = {"OS_API_VERSION": "20", "IMPORT_DEVICE": "/none", "EXPORT_DEVICE": "/none"}
    done = subprocess.run(shell, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_in_the_middle_of_the_watch_over_the_helper_vm_is_told_in_one_line(tmp_path: Path) -> None:
    before = """
import asyncio, os, snf_image_host.verify as story
from snf_image_host.vm.helper_vm import run_to_end
async def reader():
    await asyncio.sleep(0)
    os.kill(os.getpid(), 15)
    await asyncio.sleep(600)
async def watch():
    async with asyncio.TaskGroup() as group:
        group.create_task(reader())
        group.create_task(asyncio.sleep(600))
story.verify = lambda env, root: run_to_end(watch())
"""
    done = call("verify", tmp_path, "parameters", before=before)
    assert done.stderr == "[ERROR] verify was ended by SIGTERM; everything is cleaned up\n"
    assert done.returncode == 143
