# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources and targets: their order, and what an administrator turns off."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from snf_image_host.backends import BUILT_IN, PRIORITY, Backend, Kind, ranked, read_backends, refuse_disabled
from snf_image_host.settings import Settings
from snf_image_shared.errors import RequestError

DIRECTORY = "etc/snf-image/backends"


def names(backends: tuple[Backend, ...]) -> list[str]:
    return [backend.name for backend in backends]


def test_without_files_the_order_is_that_of_old(tmp_path: Path) -> None:
    backends, warnings = read_backends(tmp_path, BUILT_IN)
    assert names(ranked(backends, Kind.SOURCE)) == ["null", "local"]
    assert names(ranked(backends, Kind.TARGET)) == ["uri", "local"]
    assert warnings == []


def test_higher_numbers_come_first_and_equals_from_the_end_of_the_alphabet() -> None:
    numbers = {"b": 50, "a": 50, "low": 9, "high": 99, "ten": 10}
    backends = [Backend(Kind.SOURCE, name, number) for name, number in numbers.items()]
    backends.append(Backend(Kind.TARGET, "other", 60))
    for seed in range(10):
        random.Random(seed).shuffle(backends)
        assert names(ranked(backends, Kind.SOURCE)) == ["high", "b", "a", "ten", "low"]


@pytest.mark.parametrize(("text", "number"), [("99", 99), ("0\n", 0), ("07\n", 7), (" 5 \n", 5)])
def test_a_priority_is_one_number(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/local.priority").write_text(text)
    assert read_backends(tmp_path, {Kind.SOURCE: {"local": 10}}) == ((Backend(Kind.SOURCE, "local", number),), [])


@pytest.mark.parametrize("text", ["", "100", "-1", "1.5", "high", "1 2", "1\n2", "\xb2", "9" * 10_000])
def test_a_bad_priority_is_fifty_and_a_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/local.priority").write_text(text)
    (backend,), (warning,) = read_backends(tmp_path, {Kind.SOURCE: {"local": 10}})
    assert backend.priority == PRIORITY == 50
    assert warning.startswith(f"{tmp_path}/src/local.priority: ")
    assert len(warning) < len(str(tmp_path)) + 200


def test_a_priority_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "src/local.priority").mkdir(parents=True)
    (backend,), (warning,) = read_backends(tmp_path, {Kind.SOURCE: {"local": 10}})
    assert (backend.priority, "Is a directory" in warning) == (50, True)


def test_what_is_turned_off_is_not_asked_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/null.disabled").symlink_to("nowhere")
    backends, (warning,) = read_backends(tmp_path, BUILT_IN)
    assert names(ranked(backends, Kind.SOURCE)) == ["local"]
    assert warning.startswith(f"{tmp_path}/src/null.disabled: the source 'null' is turned off; ")


def test_the_files_of_an_unknown_name_are_told_and_those_of_old_names_are_not(tmp_path: Path) -> None:
    for name in ("src/mine.conf", "dst/locl.disabled", "src/pithos.priority", "dst/rbd.conf", "src/network.disabled"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "src/README").touch()
    _, warnings = read_backends(tmp_path, BUILT_IN)
    assert warnings == [
        f"{tmp_path}/src/mine.conf: there is no source 'mine' in this version; remove the file",
        f"{tmp_path}/dst/locl.disabled: there is no target 'locl' in this version; remove the file",
    ]


@pytest.mark.parametrize(
    ("disabled", "img_id", "target", "refused"),
    [
        ("src/local", "debian.diskdump", "local", "source 'local'"),
        ("src/local", "local://debian", "uri", "source 'local'"),
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
