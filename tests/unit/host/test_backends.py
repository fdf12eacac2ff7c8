# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources and targets: their order, what an administrator turns off, and which programs of his are sources."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from snf_image_host.configuration.backends import (
    PRIORITY,
    Backend,
    Kind,
    built_in,
    has_programs,
    ranked,
    read_backends,
    refuse_disabled,
)
from snf_image_host.configuration.own_programs import os_directory
from snf_image_host.configuration.settings import Settings
from snf_image_shared.errors import RequestError

DIRECTORY = "etc/snf-image/backends"


def names(backends: tuple[Backend, ...]) -> list[str]:
    return [backend.name for backend in backends]


def source(directory: Path, name: str, programs: Path | None = None) -> tuple[Backend, list[str]]:
    """The source of that name as the files say, and all warnings."""
    backends, warnings = read_backends(directory, programs or directory / "none")
    (found,) = [each for each in backends if each.kind is Kind.SOURCE and each.name == name]
    return found, warnings


@pytest.mark.row(44)
def test_without_files_the_order_is_that_of_old(tmp_path: Path) -> None:
    backends, warnings = read_backends(tmp_path, tmp_path / "none")
    assert names(ranked(backends, Kind.SOURCE)) == ["null", "network", "local"]
    assert names(ranked(backends, Kind.TARGET)) == ["uri", "local"]
    assert warnings == []
    assert Settings().backends == built_in() == backends


@pytest.mark.row(44)
def test_higher_numbers_come_first_and_equals_from_the_end_of_the_alphabet() -> None:
    numbers = {"b": 50, "a": 50, "low": 9, "high": 99, "ten": 10}
    backends = [Backend(Kind.SOURCE, name, number) for name, number in numbers.items()]
    backends.append(Backend(Kind.TARGET, "other", 60))
    for seed in range(10):
        random.Random(seed).shuffle(backends)
        assert names(ranked(backends, Kind.SOURCE)) == ["high", "b", "a", "ten", "low"]


@pytest.mark.row(45)
@pytest.mark.parametrize(("text", "number"), [("99", 99), ("0\n", 0), ("07\n", 7), (" 5 \n", 5)])
def test_a_priority_is_one_number(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/local.priority").write_text(text)
    assert source(tmp_path, "local") == (Backend(Kind.SOURCE, "local", number), [])


@pytest.mark.row(45)
@pytest.mark.parametrize("text", ["", "100", "-1", "1.5", "high", "1 2", "1\n2", "\xb2", "9" * 10_000])
def test_a_bad_priority_is_fifty_and_a_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/local.priority").write_text(text)
    backend, (warning,) = source(tmp_path, "local")
    assert backend.priority == PRIORITY == 50
    assert warning.startswith(f"{tmp_path}/src/local.priority: ")
    assert len(warning) < len(str(tmp_path)) + 200


def test_a_priority_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "src/local.priority").mkdir(parents=True)
    backend, (warning,) = source(tmp_path, "local")
    assert (backend.priority, "Is a directory" in warning) == (50, True)


@pytest.mark.row(45)
def test_what_is_turned_off_is_not_asked_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/null.disabled").symlink_to("nowhere")
    backends, (warning,) = read_backends(tmp_path, tmp_path / "none")
    assert names(ranked(backends, Kind.SOURCE)) == ["network", "local"]
    assert warning.startswith(f"{tmp_path}/src/null.disabled: the source 'null' is turned off; ")


def test_the_files_of_an_unknown_name_are_told_and_those_of_old_names_are_not(tmp_path: Path) -> None:
    for name in ("src/mine.conf", "dst/locl.disabled", "src/pithos.priority", "dst/rbd.conf", "src/me.user"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "src/README").touch()
    _, warnings = read_backends(tmp_path, tmp_path / "none")
    assert warnings == [
        f"{tmp_path}/src/me.user: there is no source 'me' here; remove the file",
        f"{tmp_path}/src/mine.conf: there is no source 'mine' here; remove the file",
        f"{tmp_path}/dst/locl.disabled: there is no target 'locl' here; remove the file",
    ]


@pytest.mark.parametrize(
    ("disabled", "img_id", "target", "refused"),
    [
        ("src/local", "null", "local", None),
        ("src/null", "null", "local", "source 'null'"),
        ("src/null", "debian.diskdump", "local", None),
        ("dst/local", "null", "local", "target 'local'"),
        ("dst/local", "null", "uri", None),
        ("dst/uri", "x", "uri", "target 'uri'"),
        ("dst/uri", "x", "local", None),
    ],
)
def test_what_is_turned_off_refuses_the_request(
    tmp_path: Path, disabled: str, img_id: str, target: str, refused: str | None
) -> None:
    path = tmp_path / DIRECTORY / f"{disabled}.disabled"
    path.parent.mkdir(parents=True)
    path.touch()
    settings = Settings.load("", tmp_path)
    if refused:
        with pytest.raises(RequestError, match=f"needs the {refused}, which {path} turns off on this node; remove"):
            refuse_disabled(settings.backends, img_id, target)
    else:
        refuse_disabled(settings.backends, img_id, target)


def program(directory: Path, name: str, mode: int = 0o755) -> Path:
    """A program below `directory`, for reading alone."""
    path = directory / "src" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/false\n")
    path.chmod(mode)
    return path


def configure(directory: Path, **files: str) -> Path:
    """The directory with files like pithos_priority="60"."""
    (directory / "src").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / "src" / name.replace("_", ".")).write_text(text)
    return directory


@pytest.mark.root
@pytest.mark.row(44, 45)
def test_programs_stand_among_the_built_in_sources_by_their_numbers(tmp_path: Path) -> None:
    etc, programs = tmp_path / "etc", tmp_path / "programs"
    for name in ("pithos", "aaa", "last", "directory/directory"):
        program(programs, name)
    (programs / "src/directory/README").write_text("is no program\n")
    configure(etc, last_priority="9", aaa_priority="25", pithos_conf="X=1")
    backends, warnings = read_backends(etc, programs)
    assert names(ranked(backends, Kind.SOURCE)) == ["pithos", "directory", "null", "aaa", "network", "local", "last"]
    assert warnings == []
    assert [each.program for each in backends if each.name == "directory"] == [programs / "src/directory/directory"]
    assert has_programs(backends)


@pytest.mark.root
@pytest.mark.row(45)
def test_a_program_can_be_turned_off(tmp_path: Path) -> None:
    program(tmp_path / "programs", "mine")
    configure(tmp_path / "etc", mine_disabled="")
    backends, (warning,) = read_backends(tmp_path / "etc", tmp_path / "programs")
    assert not has_programs(backends)
    assert warning.startswith(f"{tmp_path}/etc/src/mine.disabled: the source 'mine' is turned off; ")


@pytest.mark.root
@pytest.mark.row(45)
def test_what_is_no_program_or_has_a_strange_or_a_taken_name_is_told_and_ignored(tmp_path: Path) -> None:
    program(tmp_path, "data", 0o644)
    program(tmp_path, "empty/other")
    program(tmp_path, "local")
    program(tmp_path, ".hidden")
    program(tmp_path, "old~")
    os.mkfifo(tmp_path / "src/pipe", 0o755)
    (tmp_path / "src/broken").symlink_to("nowhere")
    backends, warnings = read_backends(tmp_path / "etc", tmp_path)
    assert not has_programs(backends)
    assert [warning.removeprefix(f"{tmp_path}/src/") for warning in warnings] == [
        f"'{tmp_path}/src/.hidden': only letters, digits and _ . + - may be in a program's name; it is ignored",
        "broken: is not an executable file; it is ignored",
        "data: is not an executable file; it is ignored",
        "empty/empty: is not an executable file; it is ignored",
        "local: 'local' is the name of what is built in; it is ignored",
        f"'{tmp_path}/src/old~': only letters, digits and _ . + - may be in a program's name; it is ignored",
        "pipe: is not an executable file; it is ignored",
    ]


@pytest.mark.root
@pytest.mark.parametrize("what", ["src/mine", "src", ".", "src/in", "src/in/in", "elsewhere", "elsewhere/real"])
@pytest.mark.parametrize("fault", ["owner", "group", "others"])
def test_a_program_that_others_than_root_could_change_is_not_run(tmp_path: Path, what: str, fault: str) -> None:
    program(tmp_path, "mine")
    program(tmp_path, "in/in")
    (tmp_path / "elsewhere").mkdir(0o755)
    program(tmp_path, "real").rename(tmp_path / "elsewhere/real")
    (tmp_path / "src/linked").symlink_to("../elsewhere/real")
    assert not read_backends(tmp_path / "etc", tmp_path)[1]
    if fault == "owner":
        os.chown(tmp_path / what, 1, 0)
    else:
        (tmp_path / what).chmod(0o775 if fault == "group" else 0o757)
    backends, (warning,) = read_backends(tmp_path / "etc", tmp_path)
    refused = {"mine": {"mine"}, "in": {"in"}, "real": {"linked"}, "elsewhere": {"linked"}}
    found = {each.name for each in backends if each.program}
    assert found == {"mine", "in", "linked"} - refused.get(Path(what).name, {"mine", "in", "linked"})
    reason = "belongs to another user than root" if fault == "owner" else "can be written by others than root"
    assert warning.startswith(f"{tmp_path / what}: {reason}")


@pytest.mark.root
def test_a_program_runs_as_the_user_of_its_file_and_not_at_all_if_that_is_wrong(tmp_path: Path) -> None:
    program(tmp_path / "programs", "mine")
    etc = configure(tmp_path / "etc", mine_user="nobody\n")
    backend, warnings = source(etc, "mine", tmp_path / "programs")
    assert (backend.user, backend.user_file, warnings) == ("nobody", etc / "src/mine.user", [])
    for text in ("", "root", "0", "a b", "-x", "ä", "x" * 5000 + " y"):
        configure(etc, mine_user=text)
        backend, (warning,) = source(etc, "mine", tmp_path / "programs")
        assert backend.disabled_by == etc / "src/mine.user"
        assert warning.startswith(f"{etc}/src/mine.user: not the name of one user other than root, so the program is")
    (etc / "src/mine.user").unlink()
    (etc / "src/mine.user").mkdir()
    backend, (warning,) = source(etc, "mine", tmp_path / "programs")
    assert (backend.disabled_by, "Is a directory; the program is not run" in warning) == (etc / "src/mine.user", True)


def test_a_user_for_what_is_built_in_is_told(tmp_path: Path) -> None:
    backend, (warning,) = source(configure(tmp_path, local_user="nobody"), "local")
    assert (backend.user, backend.disabled_by) == ("", None)
    assert warning == f"{tmp_path}/src/local.user: the source 'local' is no program of yours; remove the file"


@pytest.mark.root
def test_programs_that_write_disks_are_told_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "dst").mkdir()
    program(tmp_path, "mine").rename(tmp_path / "dst/mine")
    backends, (warning,) = read_backends(tmp_path / "etc", tmp_path)
    assert backends == built_in()
    assert warning == f"{tmp_path}/dst/mine: programs that write disks are not run; remove it"


@pytest.mark.root
@pytest.mark.row(46)
def test_the_settings_know_the_programs_of_the_os_definition(tmp_path: Path) -> None:
    directory = tmp_path / "usr/share/ganeti/os/snf-image"
    assert os_directory(tmp_path) == directory
    program(directory / "backends", "mine")
    (found,) = [each for each in Settings.load("", tmp_path).backends if each.program]
    assert (found.name, found.priority, found.program) == ("mine", PRIORITY, directory / "backends/src/mine")
