# SPDX-License-Identifier: GPL-2.0-or-later
"""The first program of the helper VM, as far as it can be judged without booting it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from snf_image_helper_builder.initrd import Root, initrd, script
from snf_image_shared.errors import ConfigurationError

RELEASE = "6.12.1-amd64"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with the modules of a generic kernel; each module's content is its name."""
    folder = tmp_path / "tree/usr/lib/modules" / RELEASE
    dependencies = {"libcrc32c": [], "erofs": ["libcrc32c"], "crc32c_generic": [], "virtio_blk": []}
    for name in dependencies:
        (folder / "kernel").mkdir(parents=True, exist_ok=True)
        (folder / f"kernel/{name}.ko").write_text(name)
    lines = [f"kernel/{name}.ko: " + " ".join(f"kernel/{n}.ko" for n in needs) for name, needs in dependencies.items()]
    (folder / "modules.dep").write_text("\n".join(lines) + "\n")
    (folder / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (tmp_path / "tree/usr/bin").mkdir()
    (tmp_path / "tree/usr/bin/busybox").write_bytes(b"busybox")
    return Root(tmp_path / "tree", RELEASE, "erofs")


def unpacked(archive: bytes, into: Path) -> Path:
    into.mkdir()
    subprocess.run(["cpio", "-id", "--quiet", "--nonmatching", "dev/*"], input=archive, cwd=into, check=True)
    return into


def test_our_python_lies_where_the_root_expects_it(root: Root, tmp_path: Path) -> None:
    tree = unpacked(initrd(root, {"snf_image_helper/__init__.py": b"# here"}), tmp_path / "initrd")
    assert (tree / "usr/lib/snf-image/snf_image_helper/__init__.py").read_bytes() == b"# here"
    compile((tree / "usr/lib/snf-image/start.py").read_text(), "start.py", "exec")


def test_modules_are_loaded_in_the_order_they_need_each_other(root: Root, tmp_path: Path) -> None:
    tree = unpacked(initrd(root, {}), tmp_path / "initrd")
    init = (tree / "init").read_text()
    at = [init.index(f"/modules/{name}.ko") for name in ("crc32c_generic", "libcrc32c", "erofs")]
    assert at == sorted(at)
    assert {path.name for path in (tree / "modules").iterdir()} == {
        f"{name}.ko" for name in ("crc32c_generic", "libcrc32c", "erofs", "virtio_blk")
    }


def test_the_script_is_a_shell_script_and_executable(root: Root, tmp_path: Path) -> None:
    tree = unpacked(initrd(root, {}), tmp_path / "initrd")
    subprocess.run(["sh", "-n", str(tree / "init")], check=True)
    assert (tree / "init").stat().st_mode & 0o111 == 0o111
    assert (tree / "bin/busybox").stat().st_mode & 0o111 == 0o111


def test_a_root_whose_kernel_cannot_mount_it_is_refused(root: Root) -> None:
    with pytest.raises(ConfigurationError, match="squashfs"):
        initrd(Root(root.tree, root.release, "squashfs"), {})


def test_a_mount_that_fails_ends_the_vm_with_a_line(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_text('#!/bin/sh\n[ "$1" = poweroff ] && { echo OFF; kill $PPID; }\nexit 1\n')
    busybox.chmod(0o755)
    text = script("erofs", []).replace("b=/bin/busybox", f"b={busybox}")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "snf-image helper VM: mounting -t devtmpfs dev /dev failed, powering off",
        "OFF",
    ]
