# SPDX-License-Identifier: GPL-2.0-or-later
"""An orchestrator hears of every failure of create once and with its reason, however early it comes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestrator
from http_server import Answer, How, HttpServer, http_server
from orchestrator import Build, RefusedError, messages, recorded
from provider import GANETI_PATH, Instance, Outcome, Provider
from snf_image_host.progress import Progress

MIB = 1 << 20
SECRET = "s3cr3t-one-shot-path"
MONITOR = [sys.executable, orchestrator.__file__]


@pytest.fixture
def node(provider: Provider, tmp_path: Path) -> Iterator[Provider]:
    """The provider with an image and no helper image: nothing here comes that far. Its settings are put back."""
    settings = provider.root / "etc/snf-image/snf-image.conf"
    before = settings.read_text()
    provider.configure(HELPER_DIR=str(tmp_path / "no-helper"))
    image = provider.images / "tiny.diskdump"
    image.write_bytes(os.urandom(2 * MIB))
    yield provider
    image.unlink()
    settings.write_text(before)


@pytest.fixture
def record(node: Provider, tmp_path: Path) -> Path:
    """Where the progress monitor of the settings, which has an option, writes to."""
    path = tmp_path / "record"
    monitor = shlex.join([*MONITOR, str(path), "--verbose"])
    node.configure(PROGRESS_MONITOR=monitor, HELPER_DIR=str(tmp_path / "no-helper"))
    return path


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xa5" * (3 * MIB))
    return Instance("vm1.example.com", (disk,), parameters={"img_id": "tiny.diskdump", "img_format": "diskdump"})


@pytest.fixture
def server() -> Iterator[HttpServer]:
    answers = {
        f"/{SECRET}": Answer(json.dumps({"img_passwd": "from the url"}).encode(), once=True),
        f"/{SECRET}/text": Answer(b"not JSON"),
        f"/{SECRET}/number": Answer(b'{"img_passwd": 7}'),
        f"/{SECRET}/held": Answer(b"{}", how=How.HELD),
        f"/{SECRET}/cut": Answer(b'{"img_passwd": "x"}', how=How.CUT),
    }
    with http_server(answers) as running:
        yield running


def assert_told(record: Path, outcome: Outcome, code: int, *words: str) -> None:
    """One image-error, which is all there is, and the log ends with the same reason."""
    assert outcome.code == code, outcome.log
    (event,) = recorded(record)
    assert (event["type"], event["instance"], event["arguments"]) == ("image-error", "vm1.example.com", ["--verbose"])
    (diagnostic,) = Build.of([event]).diagnostics
    assert (diagnostic.source, diagnostic.level) == ("image-error", "ERROR")
    for word in words:
        assert word in diagnostic.message
    assert outcome.last_line == "[ERROR] " + diagnostic.message.rpartition("\n")[2]
    assert SECRET not in outcome.log


def digest(instance: Instance) -> str:
    return hashlib.sha256(instance.disks[0].read_bytes()).hexdigest()


@pytest.mark.row(32, 75, 80, 81, 83)
@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        pytest.param({"OSP_IMG_FORMAT": "koko"}, 2, ("img_format", "koko"), id="bad parameter"),
        pytest.param({"OSP_IMG_PASSWD_HASH": "!", "OSP_IMG_PASSWD": "x"}, 2, ("img_passwd_hash",), id="conflict"),
        pytest.param({"OSP_IMG_ID": ""}, 2, ("img_id", "is missing"), id="no image"),
        pytest.param({"OS_API_VERSION": "15"}, 2, ("OS_API_VERSION",), id="other interface"),
        pytest.param({"DISK_COUNT": "0"}, 2, ("DISK_COUNT",), id="no disk"),
        pytest.param({"OS_VARIANT": "missing"}, 3, ("variant 'missing'", "does not exist"), id="missing variant"),
        pytest.param({}, 3, ("helper", "snf-image-update-helper"), id="no helper image"),
    ],
)
def test_an_early_failure_is_told_once_with_its_reason(
    node: Provider, instance: Instance, record: Path, extra: dict[str, str], code: int, words: tuple[str, ...]
) -> None:
    before = digest(instance)
    assert_told(record, node.run(instance, **extra), code, *words)
    assert digest(instance) == before


@pytest.mark.row(81)
@pytest.mark.parametrize(
    ("line", "words"),
    [("HELPER_MEMORY=lots\n", "HELPER_MEMORY"), ("HELPER_DIR=$(pwd)\n", "snf-image.conf, line 3"), ("'", "line 3")],
)
def test_faulty_settings_are_told_to_the_monitor_that_stands_before_the_fault(
    node: Provider, instance: Instance, record: Path, line: str, words: str
) -> None:
    with (node.root / "etc/snf-image/snf-image.conf").open("a") as file:
        file.write(line)
    assert_told(record, node.run(instance), 3, words)


def test_what_looks_like_a_monitor_inside_a_broken_value_is_not_run(
    node: Provider, instance: Instance, record: Path, tmp_path: Path
) -> None:
    text = f'IMG_PROPERTIES=\'\nPROGRESS_MONITOR="touch {tmp_path}/owned"\n'
    (node.root / "etc/snf-image/snf-image.conf").write_text(text)
    outcome = node.run(instance)
    assert outcome.code == 3
    assert [message["type"] for message in outcome.messages] == ["image-error"]
    assert not (tmp_path / "owned").exists()


@pytest.mark.root
@pytest.mark.row(30, 32, 81)
@pytest.mark.parametrize("parameter", ["config_url", "os_answer_file"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("nowhere", "the server answered 404", id="404"),
        pytest.param(f"{SECRET}/cut", "the answer was cut off before its end", id="cut"),
    ],
)
def test_a_failed_fetch_is_told_without_the_path_and_before_the_disk_is_touched(
    node: Provider,
    instance: Instance,
    record: Path,
    server: HttpServer,
    parameter: str,
    path: str,
    words: str,
) -> None:
    before = digest(instance)
    outcome = node.run(instance, **{f"OSP_{parameter.upper()}": f"{server.url}/{path}?token={SECRET}"})
    assert_told(record, outcome, 2, f"OS parameter {parameter}: {server.url}: {words}")
    assert server.methods == ["GET"]
    assert digest(instance) == before


@pytest.mark.root
@pytest.mark.row(30, 81)
@pytest.mark.parametrize(("path", "words"), [("text", "is not JSON"), ("number", "img_passwd as a number")])
def test_a_wrong_document_is_told(
    node: Provider, instance: Instance, record: Path, server: HttpServer, path: str, words: str
) -> None:
    outcome = node.run(instance, OSP_CONFIG_URL=f"{server.url}/{SECRET}/{path}")
    assert_told(record, outcome, 2, "OS parameter config_url: the document", words)


@pytest.mark.root
@pytest.mark.row(32)
def test_the_document_and_ganeti_may_contradict_each_other_but_not_silently(
    node: Provider, instance: Instance, record: Path, server: HttpServer
) -> None:
    outcome = node.run(instance, OSP_CONFIG_URL=f"{server.url}/{SECRET}", OSP_IMG_PASSWD_HASH="!")
    assert_told(record, outcome, 2, "img_passwd and img_passwd_hash exclude each other")
    assert server.methods == ["GET"]
    assert f"Fetching the configuration from {server.url}...\n" in outcome.log


@pytest.mark.root
@pytest.mark.row(90)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_of_a_fetch_outlives_create(
    node: Provider, instance: Instance, record: Path, server: HttpServer, number: signal.Signals, code: int
) -> None:
    before = digest(instance)
    process = node.start(instance, OSP_CONFIG_URL=f"{server.url}/{SECRET}/held")
    assert server.came.wait(60)
    started = list(descendants(process.pid))
    assert "curl" in {name_of(pid) for pid in started}
    process.send_signal(number)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == code, log
    deadline = time.monotonic() + 60
    while any(name_of(pid) in {"bwrap", "curl"} for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in started if name_of(pid) in {"bwrap", "curl"}]
    assert digest(instance) == before
    if number == signal.SIGTERM:
        assert [event["messages"] for event in recorded(record)] == [["Image deployment was interrupted."]]


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.root
@pytest.mark.row(14)
def test_verify_asks_no_server(node: Provider, server: HttpServer) -> None:
    url = f"{server.url}/{SECRET}"
    env = {"OS_API_VERSION": "20", "PATH": GANETI_PATH, "OSP_CONFIG_URL": url, "OSP_OS_ANSWER_FILE": url}
    done = subprocess.run(
        [node.os_directory / "verify", "parameters"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert server.asked == []


@pytest.mark.row(79)
@given(texts=st.lists(st.text(min_size=1, max_size=300), max_size=8), cut=st.integers(1, 700))
def test_whatever_is_said_the_stream_is_digestible(texts: list[str], cut: int) -> None:
    """As [MONITOR] lines carry the very messages, the log stands for the pipe here."""
    log = io.StringIO()
    with Progress.start("vm1", "", log=log) as progress:
        for text in texts:
            progress.info(text)
            progress.helper_warning(text)
            progress.helper_error(stderr=text)
        progress.copy_finished(3)
    lines = [line.removeprefix("[MONITOR] ") for line in log.getvalue().splitlines() if line.startswith("[MONITOR] ")]
    stream = "\n".join([*lines, ""]).encode("ascii")
    found = list(messages(io.BytesIO(b" " * cut + stream)))
    assert found == [json.loads(line) for line in lines]
    build = Build.of(found)
    assert build.percentage == 100.0
    assert [each.message for each in build.diagnostics if each.source == "image-info"] == texts


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "image-progress"},
        {"type": "image-copy-progress", "progress": -0.5},
        {"type": "image-copy-progress", "progress": "5"},
        {"type": "image-info", "messages": "text"},
        {"type": "image-error", "messages": []},
        {"type": "image-helper", "subtype": "error", "stderr": ["a"]},
    ],
)
def test_cyclades_would_refuse_what_is_not_as_described(wrong: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        Build.of([{**wrong, "timestamp": 1.0}])
