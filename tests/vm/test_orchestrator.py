# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole run as an orchestrator starts and follows it: Cyclades' document from a URL that answers once, a progress
monitor written after Synnefo's, and the same for runs that fail late.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import orchestrator
from http_server import Answer, http_server
from images.inspection import Tree, read_file, stat_file
from images.layouts import LAYOUTS, layout
from leaks import nothing_left
from orchestrator import Build, recorded
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

MIB = 1 << 20
LAYOUT = "ext4-mbr-primary"
NAME = "vm1.example.com"
PATH = "/0f3a-one-shot-path"
ANSWER_PATH = "/7c1e-answer-path"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW somebody@example.com"
TEXTS = [  # in upstream's words and order
    "Starting image copy...",
    "Image copy finished.",
    "Starting customization VM...",
    "Customization VM exited normally.",
    "Checking customization status...",
    "Customization status is: SUCCESS",
    "Image customization finished successfully.",
]


@dataclass(frozen=True)
class Followed:
    """A run that has ended. `asked` are the requests that the server of the document saw."""

    outcome: Outcome
    disk: Path
    record: Path
    url: str
    asked: list[str]

    @property
    def events(self) -> list[dict[str, object]]:
        return recorded(self.record)

    @property
    def build(self) -> Build:
        return Build.of(self.events)


@pytest.fixture(scope="module")
def image(provider: Provider, cache: Path) -> Iterator[Path]:
    """The image among those of the node, whose settings are put back in the end."""
    settings = provider.root / "etc/snf-image/snf-image.conf"
    before = settings.read_text()
    path = provider.images / "cyclades.diskdump"
    copy_disk(layout(LAYOUT, cache), path)
    beside = path.with_name(f"{path.name}.sha256")
    beside.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    yield path
    beside.unlink()
    path.unlink()
    settings.write_text(before)


def follow(provider: Provider, cache: Path, directory: Path, document: dict[str, object], **osp: str) -> Followed:
    """Create an instance with what Cyclades gives Ganeti, and `osp` beside it."""
    record, disk = directory / "record", directory / "disk"
    monitor = shlex.join([sys.executable, orchestrator.__file__, str(record), "-x"])
    verified = {"VERIFY": "checksum", "COPY_VERIFY": "yes"}
    provider.configure(HELPER_DIR=str(cache / "helper"), PROGRESS_MONITOR=monitor, **verified)
    with disk.open("wb") as file:
        file.truncate(layout(LAYOUT, cache).stat().st_size + 64 * MIB)
    answers = {PATH: Answer(json.dumps(document).encode(), once=True), ANSWER_PATH: Answer(b"<unattend/>", once=True)}
    with http_server(answers) as server:
        osp = {name: value.replace("SERVER", server.url) for name, value in osp.items()}
        given = {"config_url": server.url + PATH, "img_id": "cyclades.diskdump", "img_format": "diskdump", **osp}
        outcome = provider.run(Instance(NAME, (disk,), parameters=given))
    return Followed(outcome, disk, record, server.url, [f"{each.method} {each.target}" for each in server.asked])


def cyclades_document() -> dict[str, object]:
    """Cyclades' own example, but for an image that this node has and a key that is one."""
    files = [{"path": "/root/f", "contents": "YQ==", "owner": "root", "group": "root", "mode": 384}]
    return {
        "img_id": "cyclades.diskdump",
        "img_passwd": "S3cret",
        "img_format": "diskdump",
        "img_personality": json.dumps(files),
        "img_properties": json.dumps({"OSFAMILY": "linux", "ROOT_PARTITION": "1", "USERS": "root"}),
        "auth_keys": KEY,
        "cloud_userdata": base64.b64encode(b"#cloud-config\n").decode(),
    }


@pytest.fixture(scope="module")
def run(provider: Provider, cache: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """The run that goes well. What Ganeti itself gives contradicts the document, which wins."""
    directory = tmp_path_factory.mktemp("cyclades")
    checksum = "sha256:" + hashlib.sha256(image.read_bytes()).hexdigest()
    beside = {"img_passwd": "not this one", "img_checksum": checksum, "img_format": "koko"}
    beside["os_answer_file"] = f"SERVER{ANSWER_PATH}"
    return follow(provider, cache, directory, cyclades_document(), **beside)


@pytest.mark.row(78)
def test_all_is_said_in_upstreams_words_and_order(run: Followed) -> None:
    assert run.outcome.code == 0, run.outcome.log
    assert run.build.texts("image-info") == TEXTS
    kinds = [str(event["type"]) for event in run.events]
    first, last = kinds.index("image-copy-progress"), len(kinds) - kinds[::-1].index("image-copy-progress")
    assert kinds[:first] == ["image-info"]
    assert [event.get("messages") for event in run.events[last : last + 2]] == [[TEXTS[1]], [TEXTS[2]]]
    assert kinds[last + 2] == "image-helper"
    assert kinds[-4:] == ["image-info"] * 4
    assert "image-error" not in kinds


@pytest.mark.row(79)
def test_the_orchestrator_digests_it(run: Followed) -> None:
    assert run.build.percentage == 100.0
    assert {each.level for each in run.build.diagnostics} <= {"DEBUG", "WARNING"}
    times = [each.time for each in run.build.diagnostics]
    assert times == sorted(times)
    progress = [event for event in run.events if event["type"] == "image-copy-progress"]
    assert progress[-1]["position"] == progress[-1]["total"] == layout_size(run)


@pytest.mark.row(82)
def test_each_task_is_heard_of_from_start_to_end(run: Followed) -> None:
    started = run.build.texts("image-helper-task-start")
    assert started == run.build.texts("image-helper-task-end")
    assert started[0] == "FixPartitionTable"
    assert {"ChangePassword", "EnforcePersonality", "AssignHostname"} <= set(started)
    sources = [each.source for each in run.build.diagnostics if "task-" in each.source]
    assert sources == ["image-helper-task-start", "image-helper-task-end"] * len(started)


@pytest.mark.row(83)
def test_the_monitor_was_called_with_its_own_arguments_and_the_instance(run: Followed) -> None:
    assert {(str(event["instance"]), tuple(event["arguments"])) for event in run.events} == {(NAME, ("-x",))}  # type: ignore[arg-type]


def test_the_disk_was_read_back_as_the_settings_say(run: Followed) -> None:
    assert run.outcome.log.count("Reading the disk back...\n") == 1


@pytest.mark.row(29)
def test_each_url_was_asked_once(run: Followed) -> None:
    assert run.asked == [f"GET {PATH}", f"GET {ANSWER_PATH}"]


@pytest.mark.row(43, 84)
def test_the_log_has_its_prefixes_and_no_secret(run: Followed) -> None:
    log = run.outcome.log
    assert f"Fetching the configuration from {run.url}...\n" in log
    assert f"Fetching the answer file from {run.url}...\n" in log
    for text in TEXTS:
        assert f"[INFO] {text}\n" in log
    assert re.search(r"^\d{4}:\d\d:\d\d-\d\d:\d\d:\d\d\.\d+ VM START$", log, re.MULTILINE)
    assert re.search(r"^\d{4}:\d\d:\d\d-\d\d:\d\d:\d\d\.\d+ VM STOP$", log, re.MULTILINE)
    assert re.search(r"^HELPER: ", log, re.MULTILINE)
    for secret in ("S3cret", "not this one", PATH, ANSWER_PATH, KEY):
        assert secret not in log


@pytest.mark.row(26, 28)
def test_the_guest_is_as_the_document_says(run: Followed) -> None:
    root = Tree(run.disk, LAYOUTS[LAYOUT].root)
    shadow = {line.split(":")[0]: line.split(":")[1] for line in read_file(root, "/etc/shadow").decode().splitlines()}
    assert crypt("S3cret", shadow["root"]) == shadow["root"]
    assert KEY in read_file(root, "/root/.ssh/authorized_keys").decode().splitlines()
    assert read_file(root, "/root/f") == b"a"
    status = stat_file(root, "/root/f")
    assert (status.uid, status.gid, status.permissions) == (0, 0, 0o600)
    assert read_file(root, "/etc/hostname") == NAME.encode() + b"\n"


@pytest.mark.row(25, 80, 82)
def test_a_failing_task_is_heard_of_once_with_its_reason_and_the_disk_does_not_boot(
    provider: Provider, cache: Path, image: Path, tmp_path: Path
) -> None:
    script = base64.b64encode(b"#!/bin/sh\necho the dog ate it >&2\nexit 7\n").decode()
    properties = {"OSFAMILY": "linux", "CUSTOM_TASK": script}
    with nothing_left(tmp_path):
        failed = follow(provider, cache, tmp_path, cyclades_document() | {"img_properties": properties})
    assert failed.outcome.code == 6, failed.outcome.log
    (error,) = [each for each in failed.build.diagnostics if each.source == "image-error"]
    assert "Image customization failed." in error.message
    assert "RunCustomTask" in error.message
    assert "the dog ate it" in error.message
    assert failed.outcome.last_line == f"[ERROR] {error.message}"
    assert "S3cret" not in failed.outcome.log
    assert failed.build.texts("image-helper-task-start")[-1] == "RunCustomTask"
    helper = [each for each in failed.build.diagnostics if each.source == "image-helper" and each.level == "ERROR"]
    assert any("the dog ate it" in (each.details or each.message) for each in helper)
    assert failed.build.texts("image-info")[:3] == TEXTS[:3]
    assert_does_not_boot(failed.disk)


def test_an_image_with_another_checksum_is_not_deployed(
    provider: Provider, cache: Path, image: Path, tmp_path: Path
) -> None:
    failed = follow(provider, cache, tmp_path, cyclades_document(), img_checksum="sha512:" + "0" * 128)
    assert failed.outcome.code == 4, failed.outcome.log
    (error,) = [each for each in failed.build.diagnostics if each.source == "image-error"]
    found = hashlib.sha512(image.read_bytes()).hexdigest()
    assert f"has the sha512 {found}, and img_checksum expects {'0' * 128}" in error.message
    assert failed.build.texts("image-info") == TEXTS[:1]
    assert_does_not_boot(failed.disk)


def assert_does_not_boot(path: Path) -> None:
    """Neither a boot sector nor a partition table, primary or backup, is on the disk."""
    with path.open("rb") as disk:
        assert disk.read(MIB) == bytes(MIB)
        disk.seek(-MIB, 2)
        assert disk.read() == bytes(MIB)


def layout_size(run: Followed) -> int:
    return run.disk.stat().st_size - 64 * MIB


def crypt(password: str, setting: str) -> str:
    """crypt(3) of the C library's own libcrypt: Python has had none since 3.13."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    result = library.crypt(password.encode(), setting.encode())
    return result.decode() if result else "*"
