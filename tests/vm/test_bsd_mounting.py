# SPDX-License-Identifier: GPL-2.0-or-later
"""UFS written by the kernel of the real helper VM: what is there afterwards, file by file, and whether it is sound."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from images import ufs_exercise
from images.ufs2 import as_ufs2
from images.ufs_damage import Spoiled, plant_check_hashes
from snf_image_helper.disks.ufs import prepare_for_writing, read_ufs, refuse_unwritable
from snf_image_helper.disks.ufs_check import faults_of, refuse_spoiled
from snf_image_helper.system import OsFamily
from snf_image_helper_builder import cpio
from snf_image_helper_builder.initrd import CODE
from snf_image_shared.manifest import Manifest
from snf_image_shared.process import run

pytestmark = [pytest.mark.vm, pytest.mark.root]

# Name -> version, options of makefs, size in MiB, cylinder groups.
MADE = {
    "ufs1": (1, "bsize=16384,fsize=2048,density=8192", 24, 1),
    "ufs2": (2, "bsize=16384,fsize=2048,density=8192", 24, 1),
    "ufs1-groups": (1, "bsize=4096,fsize=512,density=1500", 30, 3),
    "ufs2-groups": (2, "bsize=4096,fsize=512,density=1500", 30, 3),
    "ufs2-check-hashes": (2, "bsize=32768,fsize=4096,density=8192", 32, 1),
    "ufs2-no-fragments": (2, "bsize=4096,fsize=4096,density=8192", 42, 2),
}
_REPORT = 8 << 20


@dataclass(frozen=True)
class Written:
    """The images after the VM, and for each what was seen in it before and after the exercise."""

    images: Mapping[str, Path]
    report: Mapping[str, Mapping[str, object]]
    before: ufs_exercise.Picture
    after: ufs_exercise.Picture


def plant(tree: Path) -> None:
    """What the exercise begins with."""
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/small").write_text("small\n")
    (tree / "large").write_bytes(os.urandom(1 << 20))
    (tree / "many").mkdir()
    for number in range(300):
        (tree / "many" / f"a-file-with-a-name-{number}").write_text(str(number) * number)


def make(name: str, tree: Path, image: Path) -> None:
    version, options, mib, groups = MADE[name]
    options = f"version={version},{options}"
    run(["makefs", "-t", "ffs", "-B", "le", "-s", f"{mib}m", "-o", options, str(image), str(tree)])
    if version == 2:
        as_ufs2(image)
    spoiled = Spoiled(image)
    assert spoiled.field(44) >= groups
    if name == "ufs2-check-hashes":
        plant_check_hashes(spoiled)
        spoiled.save()
    ufs = read_ufs(str(image))
    refuse_unwritable(ufs, OsFamily.FREEBSD, name)
    assert faults_of(str(image)) == ()
    prepare_for_writing(ufs, OsFamily.FREEBSD, str(image))


def boot(helper: Path, initrd: Path, disks: list[Path]) -> str:
    """Run the exercise as the VM's program; the answer is the console."""
    program = Path(ufs_exercise.__file__).read_text()
    head = f"import sys; sys.path += ['/usr/lib/python3/dist-packages', '/{CODE}']\n"
    future = "from __future__ import annotations\n"
    start = {f"{CODE}/start.py": cpio.file((future + head + program.replace(future, "")).encode())}
    initrd.write_bytes((helper / "initrd").read_bytes() + cpio.archive(start))
    machine = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512"]
    machine += ["-machine", "pc,accel=tcg", "-serial", "stdio", "-kernel", str(helper / "kernel")]
    machine += ["-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"]
    machine += ["-drive", f"if=virtio,format=raw,readonly=on,file={helper / 'image'}"]
    for disk in disks:
        machine += ["-drive", f"if=virtio,format=raw,file={disk}"]
    done = subprocess.run(machine, capture_output=True, text=True, errors="replace", timeout=600, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def written(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One VM with a disk of each sort."""
    if not Manifest.load(cache / "helper").ufs:
        pytest.fail("the helper image has no UFS: run snf-image-update-helper --with-ufs")
    scratch = tmp_path_factory.mktemp("written")
    tree = scratch / "tree"
    plant(tree)
    images = {name: scratch / name for name in MADE}
    for name, image in images.items():
        make(name, tree, image)
    report = scratch / "report"
    with report.open("xb") as file:
        file.truncate(_REPORT)
    console = boot(cache / "helper", scratch / "initrd", [*images.values(), report])
    content = report.read_bytes()
    told = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")] or "{}")
    assert "failure" not in told, told["failure"]
    assert len(told) == len(MADE), console
    seen = {name: told[f"vd{chr(ord('b') + number)}"] for number, name in enumerate(MADE)}
    before = ufs_exercise.picture(tree)
    ufs_exercise.exercise(tree)
    after = ufs_exercise.picture(tree)
    shutil.rmtree(tree)
    return Written(images, seen, before, after)


@pytest.mark.parametrize("name", MADE)
def test_linux_reads_each_file_as_it_was_put_there(written: Written, name: str) -> None:
    assert json.loads(json.dumps(written.before)) == written.report[name]["before"]


@pytest.mark.parametrize("name", MADE)
def test_what_was_written_is_what_any_file_system_would_have(written: Written, name: str) -> None:
    assert json.loads(json.dumps(written.after)) == written.report[name]["after"]


@pytest.mark.parametrize("name", MADE)
def test_the_file_system_is_sound_afterwards(written: Written, name: str) -> None:
    assert faults_of(str(written.images[name])) == ()
    refuse_spoiled(str(written.images[name]))
    assert written.report[name]["kernel"] == []


def test_freebsd_is_told_to_do_without_its_check_hashes(written: Written) -> None:
    ufs = read_ufs(str(written.images["ufs2-check-hashes"]))
    assert (ufs.flags & 0x200, ufs.hashes) == (0, 0)
