# SPDX-License-Identifier: GPL-2.0-or-later
"""The initrd: busybox, the modules that reach the root, our Python, and the shell script that ties them together.

Our Python lies here and not in the root file system, which therefore stays as it is when only the helper changed: the
script binds it into the root. That is also why it moves the root over / itself: switch_root would first delete it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from snf_image_helper_builder import cpio
from snf_image_helper_builder.modules import load_order, module_name, read_dependencies

CODE = "usr/lib/snf-image"
START = f"""\
import sys

sys.path += ["/usr/lib/python3/dist-packages", "/{CODE}"]

from snf_image_helper.__main__ import main

sys.exit(main())
"""
# crc32c_generic is what the soft dependency of libcrc32c asks for, which insmod does not follow.
_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk")


@dataclass(frozen=True)
class Root:
    """The unpacked Debian root: `release` of its kernel, `root_fs` as mount(8) calls the file system of its image."""

    tree: Path
    release: str
    root_fs: str


def initrd(root: Root, code: Mapping[str, bytes]) -> bytes:
    """`code` maps paths below CODE to contents. Raises OSError, and ConfigurationError for a module that is missing."""
    modules = _modules(root)
    nodes = {
        "init": cpio.file(script(root.root_fs, [path.name for path in modules]).encode(), 0o755),
        "bin/busybox": cpio.file((root.tree / "usr/bin/busybox").read_bytes(), 0o755),
        "dev/console": cpio.character_device(5, 1),
        "root": cpio.directory(),
        f"{CODE}/start.py": cpio.file(START.encode()),
    }
    nodes |= {f"modules/{path.name}": cpio.file(path.read_bytes()) for path in modules}
    nodes |= {f"{CODE}/{name}": cpio.file(content) for name, content in code.items()}
    return cpio.archive(nodes)


def script(root_fs: str, modules: list[str]) -> str:
    """The /init: `modules` are file names in load order. Whatever fails ends the VM with a line on the console.

    Each command names busybox: its shell runs some applets through /proc/self/exe, and /proc is not mounted here.
    """
    loads = "\n".join(
        f"$b insmod /modules/{module} || fail 'loading the module {module_name(module)}'" for module in modules
    )
    return f"""\
#!/bin/busybox sh
b=/bin/busybox
fail() {{
    echo "snf-image helper VM: $1 failed, powering off"
    $b poweroff -f
}}
attach() {{
    $b mount "$@" || fail "mounting $*"
}}
attach -t devtmpfs dev /dev
{loads}
attach -t {root_fs} -o ro /dev/vda /root
attach -t devtmpfs dev /root/dev
attach -t proc -o nosuid,nodev,noexec proc /root/proc
attach -t sysfs -o nosuid,nodev,noexec sys /root/sys
attach -t tmpfs -o nosuid,nodev,mode=755 run /root/run
attach -t tmpfs -o nosuid,nodev,mode=1777 tmp /root/tmp
attach -o bind /{CODE} /root/{CODE}
export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/root
cd /root
attach -o move . /
exec $b chroot . /usr/bin/python3 -I -S -B /{CODE}/start.py
fail "starting Python"
"""


def _modules(root: Root) -> list[Path]:
    folder = root.tree / "usr/lib/modules" / root.release
    dependencies = read_dependencies((folder / "modules.dep").read_text())
    built_in = (folder / "modules.builtin").read_text().split()
    order = load_order(dependencies, built_in, (*_MODULES, root.root_fs))
    return [folder / PurePosixPath(path) for path in order]
