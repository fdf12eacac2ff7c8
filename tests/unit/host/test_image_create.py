# SPDX-License-Identifier: GPL-2.0-or-later
"""create and verify of the OS definition `image`, called as Ganeti calls them; nothing here comes as far as a VM."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from http_server import Answer, Asked, Document, HttpServer, http_server
from provider import Instance, Outcome, Provider

MIB = 1 << 20
OLD = b"\xa5" * (3 * MIB)
IMAGE = os.urandom(2 * MIB)


@pytest.fixture
def node(provider: Provider) -> Iterator[Provider]:
    """The provider's definition `image`, without images and settings of its own."""
    image = provider.as_image()
    image.configure()
    image.configure("default")
    (image.root / "etc/ganeti/instance-image/variants.list").write_text("default\n")
    yield image
    for path in image.images.iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    disks = (tmp_path / "disk0", tmp_path / "disk1")
    for disk in disks:
        disk.write_bytes(OLD)
    return Instance("web1.example.com", disks)


def put(node: Provider, name: str, content: bytes = IMAGE) -> Path:
    path = node.images / name
    path.write_bytes(content)
    return path


def refused(node: Provider, instance: Instance, script: str = "create", **env: str) -> Outcome:
    """How a run ended that has to fail and must not touch a disk."""
    outcome = node.run(instance, script, **env)
    assert outcome.code != 0
    assert [disk.read_bytes() == OLD for disk in instance.disks] == [True, True], outcome.log
    return outcome


def qcow2(path: Path, content: bytes) -> None:
    raw = path.with_suffix(".tmp")
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()


@pytest.mark.root
@pytest.mark.image_row(40, 99)
def test_files_of_networks_are_not_read_for_who_has_not_switched_on_the_hook_interfaces(
    node: Provider, instance: Instance
) -> None:
    node.configure("default", IMAGE_NAME="win", ARCH="x86_64", IMAGE_TYPE="raw", NOMOUNT="yes")
    put(node, "win-x86_64.raw")
    file = node.root / "etc/ganeti/instance-image/networks/instances" / instance.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("ADDRESS=192.0.2.7/24\nADDRESS6=2001:db8::7\n")
    try:
        outcome = node.run(replace(instance, nics=({"MAC": "aa:00:00:12:34:56"},)))
    finally:
        file.unlink()
    assert outcome.code == 0, outcome.log


@pytest.mark.root
@pytest.mark.image_row(40, 43)
def test_nomount_copies_the_image_onto_the_first_disk_and_does_nothing_else(node: Provider, instance: Instance) -> None:
    node.configure("default", IMAGE_NAME="win", ARCH="x86_64", IMAGE_TYPE="raw", NOMOUNT="yes")
    put(node, "win-x86_64.raw")
    outcome = node.run(instance)
    assert outcome.code == 0, outcome.log
    assert instance.disks[0].read_bytes()[: 2 * MIB] == IMAGE
    assert instance.disks[1].read_bytes() == OLD
    assert "VM" not in outcome.log


@pytest.mark.root
@pytest.mark.image_row(21, 25)
@pytest.mark.parametrize(("kind", "name"), [("qcow2", "i-.qcow2"), ("qemu", "i-.img"), ("raw", "i.raw")])
def test_each_type_of_a_disk_arrives_byte_by_byte(node: Provider, instance: Instance, kind: str, name: str) -> None:
    """Its zeros as well, where the disk had something else; by the name without an architecture too."""
    node.configure("default", IMAGE_NAME="i", IMAGE_TYPE=kind, NOMOUNT="yes")
    content = IMAGE[:MIB] + bytes(MIB)
    if kind == "raw":
        put(node, name, content)
    else:
        qcow2(node.images / name, content)
    outcome = node.run(instance)
    assert outcome.code == 0, outcome.log
    assert instance.disks[0].read_bytes()[: 2 * MIB] == content


@pytest.mark.root
@pytest.mark.image_row(22)
@pytest.mark.parametrize("kind", ["raw", "qcow2", "qemu"])
def test_a_backing_file_never_comes_onto_the_disk(
    node: Provider, instance: Instance, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"node's own" * 100000)
    node.configure("default", IMAGE_NAME="i", IMAGE_TYPE=kind, NOMOUNT="yes")
    suffix = {"raw": "raw", "qcow2": "qcow2", "qemu": "img"}[kind]
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        str(secret),
        "-F",
        "raw",
        str(node.images / f"i.{suffix}"),
    ]
    subprocess.run(create, check=True)
    said = "it is a QCOW2 image" if kind == "raw" else "backing file"
    assert said in refused(node, instance).last_line


@pytest.mark.root
@pytest.mark.image_row(23)
def test_an_image_that_is_larger_than_the_disk_is_refused(node: Provider, instance: Instance) -> None:
    node.configure("default", IMAGE_NAME="i", IMAGE_TYPE="raw", NOMOUNT="yes")
    put(node, "i.raw", bytes(4 * MIB))
    assert "has 4194304 bytes, the disk" in refused(node, instance).last_line


@pytest.mark.image_row(42)
@pytest.mark.parametrize("env", [{}, {"INSTANCE_REINSTALL": "1"}])
def test_cdinstall_leaves_all_disks_alone_whether_there_is_an_image_or_not(
    node: Provider, instance: Instance, env: dict[str, str]
) -> None:
    node.configure("default", CDINSTALL="yes", IMAGE_URL="http://192.0.2.1/nobody")
    outcome = node.run(instance, **env)
    assert (outcome.code, "[INFO] CDINSTALL: the disks are left as they are.\n" in outcome.log) == (0, True)
    assert [disk.read_bytes() == OLD for disk in instance.disks] == [True, True]


@pytest.mark.root
@pytest.mark.image_row(68)
@pytest.mark.parametrize("mode", ["NOMOUNT", "CDINSTALL"])
def test_no_hook_runs_where_no_guest_is_looked_at(
    node: Provider, instance: Instance, tmp_path: Path, mode: str
) -> None:
    hook = tmp_path / "hooks/50-mark"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\necho 50-mark runs; touch {tmp_path}/mark\n")
    hook.chmod(0o755)
    settings = {"IMAGE_NAME": "win", "ARCH": "x86_64", "IMAGE_TYPE": "raw", "CUSTOMIZE_DIR": str(hook.parent)}
    node.configure("default", **settings, **{mode: "yes"})
    put(node, "win-x86_64.raw")
    outcome = node.run(instance)
    assert outcome.code == 0, outcome.log
    assert "customization VM" not in outcome.log
    assert "50-mark" not in outcome.log
    assert not (tmp_path / "mark").exists()


@pytest.mark.image_row(5)
@pytest.mark.parametrize(
    ("name", "value"), [("SWAP", "perhaps"), ("FDISK", "cfdisk"), ("IMAGE_TYPE", "iso"), ("FILESYSTEM", "ntfs")]
)
def test_a_setting_that_cannot_be_leaves_the_disks_alone(
    node: Provider, instance: Instance, name: str, value: str
) -> None:
    node.configure("default", **{"IMAGE_NAME": "deb", name: value})
    outcome = refused(node, instance)
    assert (outcome.code, f"default.conf, line 2: {name}: " in outcome.last_line) == (3, True), outcome.log


@pytest.mark.image_row(20)
@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"IMAGE_TYPE": "tarball"}, "deb-x86.tar.gz"),
        ({"IMAGE_TYPE": "qcow2"}, "deb-x86.qcow2"),
        ({"IMAGE_TYPE": "qemu"}, "deb-x86.img"),
        ({"IMAGE_TYPE": "raw"}, "deb-x86.raw"),
        ({}, "deb-x86-root.dump"),
    ],
)
def test_a_missing_image_is_told_by_its_whole_name(
    node: Provider, instance: Instance, settings: dict[str, str], missing: str
) -> None:
    node.configure("default", IMAGE_NAME="deb", ARCH="x86", SWAP="no", **settings)
    outcome = refused(node, instance)
    assert (outcome.code, outcome.last_line.split(";")[0]) == (
        4,
        f"[ERROR] Can't find image file: {node.images / missing}",
    )


@pytest.mark.image_row(17, 18)
def test_the_dump_of_boot_has_to_be_there_unless_the_hypervisor_brings_the_kernel(
    node: Provider, instance: Instance
) -> None:
    node.configure("default", IMAGE_NAME="deb", SWAP="no")
    put(node, "deb-root.dump")
    told = refused(node, instance).last_line
    assert told.startswith(f"[ERROR] Can't find image file: {node.images / 'deb-boot.dump'}; ")
    # With a kernel the next thing that is wrong is told: this is no dump, or there is no helper VM for it.
    told = refused(node, instance, INSTANCE_HV_kernel_path="/boot/vmlinuz").last_line
    assert "boot.dump" not in told


@pytest.mark.image_row(32)
def test_swap_needs_a_size(node: Provider, instance: Instance) -> None:
    node.configure("default", IMAGE_NAME="deb", IMAGE_TYPE="tarball")
    put(node, "deb.tar.gz")
    told = refused(node, instance, INSTANCE_BE_maxmem="").last_line
    assert told.startswith("[ERROR] SWAP_SIZE not set however SWAP is enabled")


@pytest.mark.root
def test_the_format_that_a_user_gives_decides_what_the_files_say_of_the_disk(
    node: Provider, instance: Instance
) -> None:
    node.configure("default", NOMOUNT="yes", SWAP_SIZE="0")
    put(node, "mine.raw")
    disk = replace(instance, parameters={"img_id": "mine.raw", "img_format": "diskdump"})
    assert node.run(disk).code == 0
    instance.disks[0].write_bytes(OLD)
    node.configure("default", IMAGE_TYPE="raw", SWAP_SIZE="0")
    archive = replace(instance, parameters={"img_id": "mine.raw", "img_format": "tarball"})
    assert "SWAP_SIZE: 0 MiB are no swap partition" in refused(node, archive).last_line


@pytest.mark.image_row(4)
def test_an_unknown_variant_is_an_error_of_the_node(node: Provider, instance: Instance) -> None:
    outcome = refused(node, instance, OS_VARIANT="nobody")
    assert (outcome.code, "Unofficial variant nobody is unsupported" in outcome.last_line) == (3, True)


@pytest.mark.image_row(6)
@pytest.mark.parametrize("name", ["INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT"])
def test_each_variable_that_is_missing_ends_the_run_at_once(node: Provider, instance: Instance, name: str) -> None:
    outcome = refused(node, instance, **{name: ""})
    assert "Missing OS API Variable:" in outcome.log
    assert outcome.last_line.startswith(f"[ERROR] {name}: not set")


@pytest.mark.image_row(6, 7)
def test_a_disk_may_be_at_a_uri_but_has_to_be_somewhere(node: Provider, instance: Instance) -> None:
    assert "At least one disk is needed" in refused(node, instance, DISK_0_PATH="").last_line
    assert "At least one disk is needed" in refused(node, instance, DISK_COUNT="0").last_line
    node.configure("default", IMAGE_NAME="i", IMAGE_TYPE="raw", NOMOUNT="yes")
    put(node, "i.raw")
    told = refused(node, instance, DISK_0_PATH="", DISK_0_URI="sheepdog:x").last_line
    assert told.startswith("[ERROR] DISK_0_URI: ")


@pytest.mark.image_row(8)
@pytest.mark.parametrize(("version", "code"), [("15", 0), ("20", 0), ("10", 2), ("", 2)])
def test_versions_15_and_20_of_the_os_interface_are_spoken(
    node: Provider, instance: Instance, version: str, code: int
) -> None:
    node.configure("default", CDINSTALL="yes")
    assert node.run(instance, OS_API_VERSION=version).code == code
    assert (node.os_directory / "ganeti_api_version").read_text() == "20\n15\n"


@pytest.mark.image_row(8)
@pytest.mark.parametrize(
    ("parameters", "settings", "code", "said"),
    [
        ({}, {}, 0, ""),
        ({"OSP_IMG_FORMAT": "tarball", "OSP_IMG_ID": "x.tar"}, {}, 0, ""),
        ({"OSP_IMG_FORMAT": "iso"}, {}, 2, "OS parameter img_format: 'iso' is not one of"),
        ({}, {"SWAP": "perhaps"}, 3, "SWAP: 'perhaps' is neither yes nor no"),
    ],
)
def test_verify_judges_parameters_and_files(
    node: Provider, parameters: dict[str, str], settings: dict[str, str], code: int, said: str
) -> None:
    node.configure("default", **settings)
    env = {"OS_API_VERSION": "20", "OS_VARIANT": "default", "PATH": os.environ["PATH"], **parameters}
    command = [str(node.os_directory / "verify"), "parameters"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (code, True)


@pytest.mark.root
def test_an_os_parameter_wins_over_the_files(node: Provider, instance: Instance) -> None:
    node.configure("default", IMAGE_NAME="missing", NOMOUNT="yes")
    put(node, "other.raw")
    outcome = node.run(instance, OSP_IMG_ID="other.raw", OSP_IMG_FORMAT="diskdump")
    assert outcome.code == 0, outcome.log
    assert instance.disks[0].read_bytes()[: 2 * MIB] == IMAGE


def test_nomount_and_an_archive_exclude_each_other(node: Provider, instance: Instance) -> None:
    node.configure("default", IMAGE_NAME="deb", IMAGE_TYPE="tarball", NOMOUNT="yes", SWAP="no")
    put(node, "deb.tar.gz")
    assert "NOMOUNT=yes is for images that are copied as they are" in refused(node, instance).last_line


@pytest.mark.root
@pytest.mark.image_row(98)
@pytest.mark.parametrize(("setting", "level"), [("yes", "0"), ("1", "0"), ("", "1")])
def test_the_log_tells_more_if_the_settings_or_ganeti_ask_for_it(
    node: Provider, instance: Instance, setting: str, level: str
) -> None:
    node.configure(IMAGE_DEBUG=setting)
    node.configure("default", IMAGE_NAME="i", IMAGE_TYPE="raw", NOMOUNT="yes")
    put(node, "i.raw")
    assert "[DEBUG] setting IMAGE_DIR=" in node.run(instance, DEBUG_LEVEL=level).log
    node.configure()
    assert "[DEBUG]" not in node.run(instance, DEBUG_LEVEL="0").log


def sums(content: bytes, name: str, algorithm: str) -> bytes:
    return f"{hashlib.new(algorithm, content).hexdigest()}  {name}\n".encode()


def from_url(node: Provider, server: HttpServer, **settings: str) -> None:
    common = {"IMAGE_NAME": "deb 13", "ARCH": "x86", "IMAGE_TYPE": "raw", "NOMOUNT": "yes"}
    node.configure("default", IMAGE_URL=f"{server.url}/images/", **(common | settings))


@pytest.mark.root
@pytest.mark.image_row(86, 87, 88, 40)
def test_an_image_is_fetched_once_from_a_private_server_and_kept_as_long_as_it_is_the_same(
    node: Provider, instance: Instance
) -> None:
    name = "deb 13-x86.raw"
    path = "/images/deb%2013-x86.raw"
    with http_server({path: Document(IMAGE), f"{path}.sha256": Answer(sums(IMAGE, name, "sha256"))}) as server:
        from_url(node, server)
        assert [node.run(instance).code for _ in range(2)] == [0, 0]
        assert instance.disks[0].read_bytes()[: 2 * MIB] == IMAGE
        bodies = [each for each in server.asked if each.method == "GET" and each.target == path and not _asks(each)]
        assert len(bodies) == 1


def test_nobody_names_what_others_had_fetched(node: Provider, instance: Instance) -> None:
    """The cache lies in IMAGE_DIR, and calls an image by its sha256, which is no secret."""
    node.configure("default", IMAGE_TYPE="raw", NOMOUNT="yes")
    (node.images / "snf-image").mkdir(mode=0o700)
    put(node, f"snf-image/image-{'0' * 64}")
    for name in (f"snf-image/image-{'0' * 64}", f"local://snf-image/../snf-image/image-{'0' * 64}"):
        assert "it leads into CACHE_DIR" in refused(node, instance, OSP_IMG_ID=name).last_line


@pytest.mark.root
def test_a_url_that_a_user_gives_may_not_lead_where_that_of_the_files_does(node: Provider, instance: Instance) -> None:
    with http_server({"/private": Document(IMAGE)}) as server:
        from_url(node, server, IMAGE_VERIFY="no")
        told = refused(node, instance, OSP_IMG_ID=f"{server.url}/private").last_line
        assert ("IMAGE_ALLOW" in told, server.asked) == (True, [])


@pytest.mark.root
@pytest.mark.image_row(87)
@pytest.mark.parametrize("is_good", [True, False])
def test_the_old_list_of_sha1_still_counts_with_a_warning(node: Provider, instance: Instance, is_good: bool) -> None:
    name, path = "deb 13-x86.raw", "/images/deb%2013-x86.raw"
    listed = sums(IMAGE if is_good else b"other", name, "sha1")
    with http_server({path: Document(IMAGE), f"{path}.sig": Answer(listed)}) as server:
        from_url(node, server)
        outcome = node.run(instance)
    assert (outcome.code == 0) is is_good
    if is_good:
        assert "[WARNING] deb 13-x86.raw.sig beside it: SHA-1 tells a damaged image, but no forged one" in outcome.log
    else:
        assert "has the sha1 " in outcome.last_line
        assert instance.disks[0].read_bytes()[:MIB] in {OLD[:MIB], bytes(MIB)}


@pytest.mark.root
@pytest.mark.image_row(87)
def test_an_image_without_a_checksum_is_refused_unless_the_settings_do_without(
    node: Provider, instance: Instance
) -> None:
    with http_server({"/images/deb%2013-x86.raw": Document(IMAGE)}) as server:
        from_url(node, server)
        assert "has no checksum, and this node wants one" in refused(node, instance).last_line
        from_url(node, server, IMAGE_VERIFY="no")
        assert node.run(instance).code == 0


@pytest.mark.root
@pytest.mark.image_row(86)
def test_what_the_server_has_not_is_no_image_and_is_not_kept(node: Provider, instance: Instance) -> None:
    path = "/images/deb%2013-x86.raw"
    with http_server({}) as server:
        from_url(node, server, IMAGE_VERIFY="no")
        assert "404" in refused(node, instance).last_line
    moved = Answer(status=302, headers={"Location": "/moved"})
    with http_server({path: moved, "/moved": Document(IMAGE)}) as server:
        from_url(node, server, IMAGE_VERIFY="no")
        assert node.run(instance).code == 0
    assert instance.disks[0].read_bytes()[: 2 * MIB] == IMAGE


@pytest.mark.root
@pytest.mark.image_row(40, 89)
def test_image_cleanup_keeps_nothing(node: Provider, instance: Instance) -> None:
    with http_server({"/images/deb%2013-x86.raw": Document(IMAGE)}) as server:
        from_url(node, server, IMAGE_VERIFY="no", IMAGE_CLEANUP="yes")
        assert node.run(instance).code == 0
    kept = [path for path in node.images.rglob("*") if path.is_file() and path.name != "lock"]
    assert kept == []


def _asks(request: Asked) -> bool:
    """Whether it only asks if the image is still the same."""
    return bool({"if-none-match", "if-modified-since"} & {name.lower() for name in request.headers})
