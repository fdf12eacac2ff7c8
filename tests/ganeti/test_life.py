# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of an instance on a file disk: added, installed again, renamed, exported, imported under another name."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ganeti.cluster import DHCP_NETWORK, GATEWAY, NETWORK, NODE, RESOLVABLE, SMALL, Cluster, Order, os_parameters
from ganeti.guests import Guest, read_guest

pytestmark = pytest.mark.ganeti

NAME, RENAMED, IMPORTED = "life.example.com", RESOLVABLE, "twin.example.com"
ADDRESS = "192.0.2.77"
GREETING = "/etc/greeting"
# What must not be found where it does not belong.
FIRST_HASH, SECOND_HASH = "$6$canary$firstSecret", "$6$canary$secondSecret"
FIRST_WORDS, SECOND_WORDS = b"canary: first private words", b"canary: second private words"
IMAGE = {
    "img_id": SMALL,
    "img_format": "diskdump",
    # The keys of a guest that is never started would take the longest.
    "img_properties": '{"SWAP": "2:16", "USERS": "root", "EXCLUDE_TASK_DELETESSHKEYS": "yes"}',
}


def personality(words: bytes) -> dict[str, str]:
    """The OS parameter that injects them."""
    return {"img_personality": json.dumps([{"path": GREETING, "contents": base64.b64encode(words).decode()}])}


ORDER = Order(
    NAME,
    public=IMAGE,
    private=personality(FIRST_WORDS),
    secret={"img_passwd_hash": FIRST_HASH},
    disks=("size=600M,name=root", "size=8M"),
    nics=(f"ip={ADDRESS},network={NETWORK},name=eth0", f"ip=pool,network={DHCP_NETWORK}"),
    options=("--tags=web,staging",),
)


@dataclass(frozen=True)
class Step:
    """What Ganeti said, the log of the OS script, and the guest then."""

    said: str
    log: str
    guest: Guest


@pytest.fixture(scope="module")
def added(cluster: Cluster) -> Iterator[Step]:
    """The instance as it was added; all names that it goes by are removed at the end."""
    said = cluster.add(ORDER)
    (cluster.disks(NAME)[1]).write_bytes(random.Random(3).randbytes(8 << 20))
    yield step(cluster, NAME, said, "add")
    for name in cluster.instances():
        if name in {NAME, RENAMED, IMPORTED}:
            cluster.remove(name)
    if RENAMED in cluster.gnt("backup", "list", "--no-headers", "--output=export"):
        cluster.gnt("backup", "remove", RENAMED)


@pytest.fixture(scope="module")
def reinstalled(cluster: Cluster, added: Step) -> Step:
    """Installed again, over a disk whose head was lost, with a new password and file."""
    with cluster.disks(NAME)[0].open("r+b") as disk:
        disk.write(bytes(2 << 20))
    classes = ("--os-parameters-private", os_parameters(personality(SECOND_WORDS)))
    secret = ("--os-parameters-secret", os_parameters({"img_passwd_hash": SECOND_HASH}))
    # Ganeti's word for "as it was before", which its reinstall hands on as it is.
    public = os_parameters({**IMAGE, "inst_properties": "default"})
    said = cluster.gnt("instance", "reinstall", "-f", "-O", public, *classes, *secret, NAME)
    return step(cluster, NAME, said, "add")


@pytest.fixture(scope="module")
def renamed(cluster: Cluster, reinstalled: Step) -> Step:
    """Given another name."""
    said = cluster.gnt("instance", "rename", NAME, RENAMED)
    return step(cluster, RENAMED, said, "rename")


@pytest.fixture(scope="module")
def exported(cluster: Cluster, renamed: Step) -> Path:
    """The directory of the export."""
    cluster.gnt("backup", "export", f"--node={NODE}", RENAMED)
    return cluster.node.root / "var/lib/ganeti/export" / RENAMED


@pytest.fixture(scope="module")
def imported(cluster: Cluster, exported: Path) -> Step:
    """A second instance made from the export."""
    source = (f"--src-node={NODE}", f"--src-dir={RENAMED}")
    target = (f"--node={NODE}", "-t", "file", "--no-ip-check", "--no-name-check")
    nics = ("--net", f"0:mac=generate,ip=pool,network={NETWORK}", "--net", "1:mac=generate,ip=none")
    said = cluster.gnt("backup", "import", *source, *target, *nics, IMPORTED)
    return step(cluster, IMPORTED, said, "rename")


def step(cluster: Cluster, name: str, said: str, script: str) -> Step:
    log = cluster.logs(f"{script}-*")[-1].read_text()
    return Step(said, log, read_guest(cluster.disks(name)[0], GREETING))


@pytest.mark.row(7, 43, 92)
def test_add_makes_the_guest_what_parameters_of_all_three_classes_say(added: Step) -> None:
    assert (added.guest.hostname, added.guest.shadow[1]) == (NAME, FIRST_HASH)
    assert added.guest.greeting == FIRST_WORDS


def test_add_gives_the_guest_the_addresses_of_ganetis_networks(added: Step) -> None:
    assert f"{ADDRESS}" in added.guest.interfaces
    assert f"default via {GATEWAY} " in added.guest.interfaces  # before what DHCP tells the other card
    assert added.guest.interfaces.count("inet dhcp") == 1


@pytest.mark.row(25)
def test_a_good_add_ends_its_log_with_success(added: Step) -> None:
    assert "Image customization finished successfully." in added.log.splitlines()[-1]
    assert "[ERROR]" not in added.log


def test_a_wrong_parameter_is_refused_by_modify_and_by_reinstall_before_anything_happens(
    cluster: Cluster, added: Step
) -> None:
    before = cluster.disks(NAME)[0].stat()
    for verb in (("modify",), ("reinstall", "-f")):
        said = cluster.failing_gnt("instance", *verb, "-O", "img_format=qcow", NAME)
        assert "img_format: 'qcow'" in said
    assert cluster.disks(NAME)[0].stat() == before


@pytest.mark.row(6)
def test_reinstall_makes_the_guest_anew_from_the_image(reinstalled: Step) -> None:
    assert (reinstalled.guest.hostname, reinstalled.guest.shadow[1]) == (NAME, SECOND_HASH)
    assert reinstalled.guest.greeting == SECOND_WORDS


@pytest.mark.row(9)
def test_rename_gives_the_guest_its_new_name_and_leaves_the_rest_alone(reinstalled: Step, renamed: Step) -> None:
    assert renamed.guest.hostname == RENAMED
    assert RENAMED in renamed.guest.hosts
    assert NAME not in renamed.guest.hosts
    unchanged = (reinstalled.guest.shadow, reinstalled.guest.interfaces, reinstalled.guest.greeting)
    assert (renamed.guest.shadow, renamed.guest.interfaces, renamed.guest.greeting) == unchanged
    assert "WARNING" not in renamed.said


@pytest.mark.row(19, 20)
def test_export_holds_every_byte_of_both_disks_and_nothing_else(cluster: Cluster, exported: Path) -> None:
    uuids = [disk.name.partition(".")[0] for disk in cluster.disks(RENAMED)]
    files = {path.name.partition(".")[0]: path for path in exported.iterdir() if path.name != "config.ini"}
    assert len(uuids) == len(files) == 2
    disks, dumps = cluster.disks(RENAMED), sorted(files.values(), key=lambda path: -path.stat().st_size)
    for disk, dump in zip(disks, dumps, strict=True):
        assert dump.stat().st_size == disk.stat().st_size
        assert dump.read_bytes() == disk.read_bytes()


@pytest.mark.row(21)
def test_import_under_another_name_copies_the_data_and_renames_the_guest(
    cluster: Cluster, renamed: Step, imported: Step
) -> None:
    assert "not imported" not in imported.said
    assert cluster.disks(IMPORTED)[1].read_bytes() == random.Random(3).randbytes(8 << 20)
    assert imported.guest.hostname == IMPORTED
    assert (imported.guest.shadow, imported.guest.greeting) == (renamed.guest.shadow, renamed.guest.greeting)


@pytest.mark.row(43)
def test_no_secret_is_kept_anywhere_and_a_private_value_by_ganeti_alone(cluster: Cluster, imported: Step) -> None:
    assert imported.guest.shadow[1] == SECOND_HASH
    for secret in (FIRST_HASH, SECOND_HASH):
        assert holding(cluster, secret.encode()) == set()
    assert holding(cluster, FIRST_WORDS) == holding(cluster, SECOND_WORDS) == set()
    assert holding(cluster, base64.b64encode(FIRST_WORDS)) == set()
    assert holding(cluster, base64.b64encode(SECOND_WORDS)) == {"config.data", "config.ini"}


def holding(cluster: Cluster, value: bytes) -> set[str]:
    """Names of the files of Ganeti that have the value in them, but for the disks' own content."""
    var = cluster.node.root / "var"
    places = [path for place in ("log", "lib/ganeti", "lib/snf-image", "tmp") for path in (var / place).rglob("*")]
    places += [*(cluster.node.root / "tmp").rglob("*"), *cluster.node.path("/run").rglob("*")]
    small = [path for path in places if path.is_file() and path.stat().st_size < 64 << 20]
    return {path.name for path in small if not is_dump(path) and value in path.read_bytes()}


def is_dump(path: Path) -> bool:
    return path.parent.parent.name == "export" and path.name != "config.ini"
