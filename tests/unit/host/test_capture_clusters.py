# SPDX-License-Identifier: GPL-2.0-or-later
"""Instances as Ganeti's commands tell of them, by programs that answer as they do."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from snf_image_host.progress import Progress
from snf_image_host.tools import clusters
from snf_image_host.tools.clusters import (
    active_disks,
    find_instance,
    is_this_node,
    on_node,
    parse_disks,
    parse_instance,
)
from snf_image_shared.errors import ConfigurationError, DiskError, RequestError

NODE = "node1"
STOPPED = f"web1.example.com|{NODE}.example.com|ADMIN_down|N|plain|"

Cluster = Callable[..., Path]


@pytest.fixture(autouse=True)
def _node(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is a node whatever it is called, as machines of CI are `localhost.localdomain`."""
    monkeypatch.setattr(socket, "gethostname", lambda: NODE)
    monkeypatch.setattr(socket, "getfqdn", lambda: f"{NODE}.example.com")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Make programs that answer; the answer is the file in which they note their arguments."""

    def make(instance: str = STOPPED, disks: str = "", status: int = 0) -> Path:
        log = tmp_path / "log"
        script = f"""#!/bin/sh
echo "$0 $*" | sed 's,.*/,,' >>{log}
case "$1" in
    getmaster) echo {NODE}.example.com ;;
    list) echo '{instance}' ;;
    activate-disks) printf '%s' '{disks}'; exit {status} ;;
esac
"""
        for name in ("gnt-cluster", "gnt-instance"):
            (tmp_path / name).write_text(script)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr("snf_image_shared.process.SEARCH_PATH", f"{tmp_path}:/usr/bin:/bin")
        return log

    return make


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress((tmp_path / "progress").open("w"))


@pytest.mark.image_row(91)
@pytest.mark.parametrize(
    ("kernel", "path"), [("", ""), ("-", ""), ("/boot/vmlinuz", "/boot/vmlinuz"), ("/boot/a|b", "/boot/a|b")]
)
def test_an_instance_has_a_kernel_path_or_starts_itself(kernel: str, path: str) -> None:
    found = parse_instance(f"{STOPPED}{kernel}\n", "web1")
    assert (found.name, found.kernel_path) == ("web1.example.com", path)
    assert found.is_here
    found.check_down()


@pytest.mark.image_row(91)
@pytest.mark.parametrize("status", ["running", "ERROR_up", "ERROR_down", "ADMIN_offline", "ERROR_nodedown", "(nodata)"])
def test_an_instance_that_is_not_stopped_is_refused(status: str) -> None:
    found = parse_instance(STOPPED.replace("ADMIN_down", status), "web1")
    with pytest.raises(RequestError, match=r"is not stopped.*gnt-instance shutdown web1\.example\.com.*--disk"):
        found.check_down()


def test_an_instance_that_is_not_there_is_refused(cluster: Cluster) -> None:
    cluster(instance="")
    with pytest.raises(RequestError, match="Ganeti tells of 0 instances called web9"):
        find_instance("web9")


@pytest.mark.image_row(91)
def test_names_are_the_same_whether_they_are_short_or_long() -> None:
    assert [is_this_node(name) for name in ("node1", "node1.example.com", "node1.example.org", "node2", "")] == [
        *(True, True, True, False, False),
    ]


def test_another_node_than_the_master_says_where_it_is(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(socket, "getfqdn", lambda: "elsewhere.example.com")
    with pytest.raises(
        RequestError, match=f"known on the master, {NODE}.example.com: run it there, or here with --disk"
    ):
        find_instance("web1")


def test_a_machine_without_a_cluster_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snf_image_shared.process.SEARCH_PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"gnt-cluster is not there.*give the disk by --disk"):
        find_instance("web1")


@pytest.mark.image_row(91)
def test_all_disks_of_the_primary_are_found_in_their_order() -> None:
    text = "n1.x:disk/10:/dev/drbd10\nn2.x:disk/0:/dev/drbd9\n" + "".join(
        f"n1.x:disk/{n}:/d/{n}:0\n" for n in range(10)
    )
    assert parse_disks(text, "n1.x") == (*(Path(f"/d/{n}:0") for n in range(10)), Path("/dev/drbd10"))


@pytest.mark.parametrize("text", ["", "Waiting for job 17\n", "n2:disk/0:/dev/x\n", "n1:disk/1:/dev/x\n"])
def test_an_answer_without_the_first_disk_is_refused(text: str) -> None:
    with pytest.raises(DiskError, match="names no disks on n1"):
        parse_disks(text, "n1")


@pytest.mark.image_row(91)
def test_a_disk_that_has_no_path_is_refused() -> None:
    with pytest.raises(DiskError, match=r"disk 0 has no path on n1, only rbd:\.\.\..*map it to a block device"):
        parse_disks("n1:disk/0:rbd:pool/image:id=secret\n", "n1")


@pytest.mark.image_row(91)
@pytest.mark.parametrize(("active", "end"), [("N", ["gnt-instance deactivate-disks -- web1.example.com"]), ("Y", [])])
def test_disks_are_deactivated_whatever_happens_unless_they_were_active(
    cluster: Cluster, progress: Progress, active: str, end: list[str]
) -> None:
    log = cluster(STOPPED.replace("|N|", f"|{active}|"), f"{NODE}.example.com:disk/0:/dev/vg/web1")
    found = find_instance("web1")
    with pytest.raises(KeyboardInterrupt), active_disks(found, progress) as disks:
        assert disks == (Path("/dev/vg/web1"),)
        raise KeyboardInterrupt
    assert log.read_text().splitlines()[2:] == ["gnt-instance activate-disks -- web1.example.com", *end]


def test_disks_that_were_activated_in_part_are_deactivated(cluster: Cluster, progress: Progress) -> None:
    log = cluster(status=1)
    with (
        pytest.raises(Exception, match="gnt-instance failed with status 1"),
        active_disks(find_instance("web1"), progress),
    ):
        pass
    assert log.read_text().splitlines()[-1] == "gnt-instance deactivate-disks -- web1.example.com"


@pytest.mark.image_row(91)
def test_another_node_gets_each_word_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "name").write_text("cluster.example.com\n")
    monkeypatch.setattr(clusters, "_CLUSTER_NAME", tmp_path / "name")
    command = ["snf-image-capture", "--name=a b;$(id)'", "--disk=/dev/x"]
    words = on_node("node2.example.com", command)
    assert words[0] == "ssh"
    assert "-oLogLevel=ERROR" in words
    assert "-oHostKeyAlias=cluster.example.com" in words
    assert "-oStrictHostKeyChecking=yes" in words
    assert words[-3:-1] == ["--", "node2.example.com"]
    assert shlex.split(words[-1]) == command
