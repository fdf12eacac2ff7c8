# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn a fresh Debian root into the helper's: what is never used goes, what is used can run from a read-only disk."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
from pathlib import Path

from snf_image_helper_builder.initrd import CODE
from snf_image_helper_builder.modules import kept, read_dependencies
from snf_image_helper_builder.recipe import Recipe
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import Limits, run

# LVM without a udev to wait for, and without a disk to keep its backups on: lvm.conf(5).
_LVM = """\
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 external_device_info_source = "none" }
global { event_activation = 0 }
"""
_MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "mnt", "target", "boot", CODE)
_FILES = {"etc/hostname": "snf-image-helper\n", "etc/machine-id": "", "etc/fstab": "", "etc/lvm/lvm.conf": _LVM}
_LINKS = {"etc/mtab": "/proc/self/mounts", "var/tmp": "/tmp", "var/lock": "/run/lock", "var/run": "/run"}  # noqa: S108
_SLOW = Limits(timeout=900)


def kernel_release(tree: Path) -> str:
    """As uname -r says it. Raises ConfigurationError unless the root has exactly one kernel."""
    releases = [path.name for path in (tree / "usr/lib/modules").iterdir()]
    if len(releases) != 1:
        raise ConfigurationError(f"the new root has {len(releases)} kernels, not one: run again with --force")
    return releases[0]


def package_versions(tree: Path) -> dict[str, str]:
    listing = run(["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"]).stdout
    return dict(line.split(" ", 1) for line in listing.splitlines())


def prune(tree: Path, recipe: Recipe) -> None:
    """Remove what the recipe says, setuid bits, and device nodes; create what the read-only root must already have."""
    for pattern in recipe.removed:
        for path in tree.glob(pattern):
            _remove(path)
    for name in ("dev", "run", "tmp", "var/tmp", "var/lock", "var/run"):
        _remove(tree / name)
    for name in _MOUNT_POINTS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    for name, target in _LINKS.items():
        _remove(tree / name)
        (tree / name).symlink_to(target)
    _drop_setuid(tree)


def settle_modules(tree: Path, release: str, recipe: Recipe) -> None:
    """Keep the recipe's modules, decompressed, and index them anew.

    Under TCG, xz in the kernel costs more than reading the larger file.
    """
    folder = tree / "usr/lib/modules" / release
    dependencies = read_dependencies((folder / "modules.dep").read_text())
    keep = kept(dependencies, recipe.modules_kept, recipe.modules_dropped)
    for path in dependencies:
        module = folder / path
        if path not in keep:
            module.unlink()
        elif path.endswith(".xz"):
            module.with_suffix("").write_bytes(lzma.decompress(module.read_bytes()))
            module.unlink()
    for place, _, _ in os.walk(folder, topdown=False):
        if not any(Path(place).iterdir()):
            Path(place).rmdir()
    index_modules(tree, release)


def index_modules(tree: Path, release: str) -> None:
    """Write modules.dep and its like anew: what of the modules needs which others."""
    run(["chroot", str(tree), "depmod", release], limits=_SLOW)


def compile_python(tree: Path) -> None:
    """A .pyc for every .py of Debian's, which is never compared with its source: the image gives all files one time."""
    [library] = (tree / "usr/lib").glob("python3.*")
    compileall = [
        "/usr/bin/python3",
        "-I",
        "-S",
        "-m",
        "compileall",
        "-q",
        "-f",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    folders = [f"/usr/lib/{library.name}", "/usr/lib/python3/dist-packages"]
    run(["chroot", str(tree), *compileall, *folders], env={"PYTHONHASHSEED": "0"}, limits=_SLOW)


def make_erofs(tree: Path, image: Path, epoch: int) -> None:
    """The read-only file system; one time stamp and one UUID, so that the same tree gives the same bytes.

    Measured: squashfs, ext4 and lz4hc boot no faster, and lz4hc takes four times as long to make.
    """
    uuid = "736e662d-696d-4167-a52d-68656c706572"
    run(["mkfs.erofs", "--quiet", "-zlz4", f"-T{epoch}", f"-U{uuid}", str(image), str(tree)], limits=_SLOW)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _drop_setuid(tree: Path) -> None:
    # Everything in the VM is root. On the host the cached tree must not offer old setuid programs to anybody.
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & 0o777)
