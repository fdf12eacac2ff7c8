# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make install` leaves: the OS definition as Ganeti wants it, at any prefix, below any DESTDIR, and again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snf_image_host.hooks.switches import SWITCH_FILE

PROJECT = Path(__file__).resolve().parents[3]
OS = "usr/local/share/ganeti/os/snf-image"


def installer(destdir: Path, *options: str) -> list[str]:
    program = str(PROJECT / "host/ganeti/install.py")
    return [sys.executable, program, "--destdir", str(destdir), "--prefix", "/usr/local", *options]


def install(destdir: Path, *options: str) -> None:
    subprocess.run(installer(destdir, *options), check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was installed twice, with settings of an administrator and leavings of an older build in between."""
    destdir = tmp_path_factory.mktemp("with a blank")
    install(destdir, "--without-requirements")
    (destdir / "etc/snf-image/snf-image.conf").write_text("HELPER_MEMORY=1024\n")
    (destdir / "etc/default/ganeti-instance-image").write_text("SWAP=no\n")
    left_over = PROJECT / "build/lib/snf_image_host/left_over.py"
    left_over.parent.mkdir(parents=True, exist_ok=True)
    left_over.touch()
    try:
        install(destdir)
    finally:
        left_over.unlink()
    return destdir


def test_every_script_finds_its_code_from_any_directory(twice: Path) -> None:
    for name in ("create", "import", "export", "rename", "verify"):
        done = subprocess.run(
            [str(twice / OS / name), "--help"], cwd="/", env={}, umask=0o077, capture_output=True, check=True
        )
        assert done.stdout.startswith(f"usage: {name}".encode())


def test_ganeti_finds_its_files(twice: Path) -> None:
    assert (twice / OS / "ganeti_api_version").read_text() == "20\n"
    assert (twice / OS / "variants.list").read_text() == "default\n"
    assert not os.path.isabs(os.readlink(twice / OS / "variants.list"))
    assert (twice / OS / "parameters.list").read_text() == (PROJECT / "host/ganeti/parameters.list").read_text()


@pytest.mark.image_row(8, 99)
def test_the_definition_image_is_a_second_one_with_its_switches_off_and_files_that_are_there_kept(twice: Path) -> None:
    directory = twice / OS.replace("snf-image", "image")
    for name in ("create", "import", "export", "rename", "verify"):
        done = subprocess.run([str(directory / name), "--help"], cwd="/", env={}, capture_output=True, check=True)
        assert done.stdout.startswith(f"usage: {name}".encode())
    assert (directory / "ganeti_api_version").read_text() == "20\n15\n"
    assert (directory / "variants.list").read_text() == "default\n"
    assert (twice / "etc/default/ganeti-instance-image").read_text() == "SWAP=no\n"
    hooks = sorted((twice / "etc/ganeti/instance-image/hooks").iterdir())
    assert [hook.name for hook in hooks] == [
        *("cloud-init", "cron_randomize", "grub", "interfaces", "overlays", "ssh", "zz_ddns"),
    ]
    assert {hook.stat().st_mode & 0o777 for hook in hooks} == {0o644}
    assert {hook.read_bytes() for hook in hooks} == {SWITCH_FILE}


def test_settings_of_the_administrator_stay(twice: Path) -> None:
    assert (twice / "etc/snf-image/snf-image.conf").read_text() == "HELPER_MEMORY=1024\n"


def test_nothing_of_an_older_build_is_installed(twice: Path) -> None:
    assert (twice / "usr/local/lib/snf-image/snf_image_host/cli.py").is_file()
    assert not (twice / "usr/local/lib/snf-image/snf_image_host/left_over.py").exists()


def test_the_settings_of_the_installation_are_shown_by_its_command(twice: Path) -> None:
    command = twice / "usr/local/sbin/snf-image-config"
    done = subprocess.run([str(command), "show"], cwd="/", env={}, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("HELPER_MEMORY="))
    assert line.split("  # ")[0].rstrip() == "HELPER_MEMORY=1024"
    assert line.endswith(f"  # {twice}/etc/snf-image/snf-image.conf, line 1")


def test_whoever_starts_a_script_while_it_is_installed_again_finds_the_code(tmp_path: Path) -> None:
    command = installer(tmp_path, "--without-requirements")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    library = tmp_path / "usr/local/lib/snf-image"
    missing = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as again:
        while again.poll() is None:
            missing += not (library / "snf_image_host/cli.py").exists()
    assert (again.returncode, missing) == (0, 0)
    assert [path.name for path in library.parent.iterdir()] == ["snf-image"]


def test_a_script_that_has_been_started_is_read_to_its_end(tmp_path: Path) -> None:
    command = installer(tmp_path, "--without-requirements")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (tmp_path / OS / "create").write_text("that of the old version\n")
    # What a killed installation has left.
    (tmp_path / OS / ".create.new").touch()
    with (tmp_path / OS / "create").open() as started:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert started.read() == "that of the old version\n"
    assert (tmp_path / OS / "create").read_text().startswith("#!")
    assert [path for path in tmp_path.rglob("*.new*") if path.name.startswith(".")] == []


def test_every_command_of_the_administrator_is_there_with_its_page(twice: Path) -> None:
    commands = [path.name for path in (twice / "usr/local/sbin").iterdir()]
    ours = ["cache", "capture", "config", "dump-helper", "inspect", "shell", "update-helper"]
    assert sorted(commands) == [f"snf-image-{name}" for name in ours]
    for name in commands:
        done = subprocess.run([str(twice / "usr/local/sbin" / name), "--help"], env={}, capture_output=True, check=True)
        assert done.stdout.startswith(f"usage: {name}".encode())
        assert (twice / f"usr/local/share/man/man8/{name}.8").is_file()


def test_the_helper_s_commands_go_by_the_settings(twice: Path) -> None:
    """HELPER_DIR, though there is no helper in it."""
    conf = twice / "etc/snf-image/snf-image.conf"
    before = conf.read_text()
    conf.write_text("HELPER_DIR=/nowhere/helper\n")
    try:
        for command in (["snf-image-update-helper", "--check"], ["snf-image-dump-helper", "/tmp"]):
            path = twice / "usr/local/sbin" / command[0]
            done = subprocess.run([str(path), *command[1:]], env={}, capture_output=True, text=True, check=False)
            assert (done.returncode, "/nowhere/helper" in done.stderr) == (3, True)
    finally:
        conf.write_text(before)
