# SPDX-License-Identifier: GPL-2.0-or-later
"""How long an image that is no disk takes to become one: create against a node that does it itself, and guestfish.

"on the node" is what instance-image 0.7.3 does in words of today: a table, file systems and a mount on the node, and
tar or restore as root in there (its own scripts ask sfdisk for units that no current one knows). guestfish and
virt-make-fs do it in a virtual machine, as we do. All begin at the archive, and end with a disk that is flushed; the
guest is one that Ganeti gives its kernel, because none of the others makes a boot loader that works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.ratios import Table
from images.archives import guest_tarball
from provider import Instance, Provider

SIZE = 3  # GiB
_NEEDED = ("guestfish", "virt-make-fs", "dump", "restore", "pigz", "sfdisk")
_NAME = "bench.example.com"
# $1 the archive, $2 the disk, $3 where it is mounted, $4 how it is unpacked there.
_ON_THE_NODE = """
printf 'label: dos\\n, , 83, *\\n' | sfdisk --quiet --no-tell-kernel "$2"
loop=$(losetup --find --show --offset=1048576 "$2")
mkfs.ext4 -Fq -L / "$loop"
mount "$loop" "$3"
cd "$3"
eval "$4"
uuid=$(blkid -c /dev/null -s UUID -o value "$loop")
printf 'UUID=%s / ext4 defaults 0 1\\nproc /proc proc defaults 0 0\\n' "$uuid" >etc/fstab
echo bench.example.com >etc/hostname
cd /
sync --file-system "$3"
umount "$3"
losetup --detach "$loop"
"""
_TAR = 'tar --extract --gzip --preserve-permissions --file="$1"'
_RESTORE = 'TMPDIR=$3 restore -r -y -f "$1"'
# The same tree as dumps: a file system of its own, dumped as the tools of 0.7.3 do it.
_DUMPED = """
truncate --size=2G "$2"
mkfs.ext4 -Fq "$2"
loop=$(losetup --find --show "$2")
mount "$loop" "$3"
tar --extract --numeric-owner --xattrs --xattrs-include='*' --file="$1" --directory="$3"
umount "$3"
dump -0 -q -z9 -f "$4" "$loop"
losetup --detach "$loop"
"""


@dataclass(frozen=True)
class Images:
    """The same guest as a compressed tarball and as a compressed dump."""

    tarball: Path
    dump: Path


def measure(cache: Path, rounds: int, table: Table) -> None:
    """Add the rows of archives. Needs root, the helper image in the cache, libguestfs-tools and dump.

    Raises SystemExit for a missing program, or for a tool that fails.
    """
    if missing := [program for program in _NEEDED if not shutil.which(program)]:
        sys.exit(f"{', '.join(missing)} is missing; run: apt install libguestfs-tools linux-image-cloud-amd64 dump")
    with tempfile.TemporaryDirectory(prefix="snf-image-archives-", dir="/var/tmp") as name:
        scratch = Path(name)
        images = _images(cache, scratch)
        provider = Provider.install(scratch / "installed", cache)
        for image in (images.tarball, images.dump):
            (provider.images / image.name).hardlink_to(image)
        for _ in range(rounds):
            ours = _create(provider, scratch, images.tarball.name, "tarball")
            table.add("tarball: on the node / create", _on_the_node(images.tarball, scratch, _TAR), ours)
            table.add("tarball: guestfish tar-in / create", _guestfish(images.tarball, scratch), ours)
            table.add("tarball: virt-make-fs / create", _virt_make_fs(images.tarball, scratch), ours)
            ours = _create(provider, scratch, images.dump.name, "dump")
            table.add("dump: on the node / create", _on_the_node(images.dump, scratch, _RESTORE), ours)


def _images(cache: Path, scratch: Path) -> Images:
    images = Images(scratch / "guest.tar.gz", scratch / "guest.dump")
    tree = guest_tarball("trixie", cache)
    with images.tarball.open("wb") as file:
        subprocess.run(["pigz", "--to-stdout", str(tree)], stdout=file, check=True)
    mounted = scratch / "mounted"
    mounted.mkdir()
    _shell(_DUMPED, tree, scratch / "file-system", mounted, images.dump)
    (scratch / "file-system").unlink()
    return images


def _create(provider: Provider, scratch: Path, image: str, img_format: str) -> float:
    """A whole create, from the start of the script to its exit; of the tasks only the host name's."""
    disk = _empty(scratch)
    parameters = {
        "img_id": image,
        "img_format": img_format,
        "img_properties": {"FILESYSTEM": "ext4", "EXCLUDE_TASK_DELETESSHKEYS": "yes"},
    }
    start = time.monotonic()
    outcome = provider.run(
        Instance(_NAME, (disk,), parameters=parameters), INSTANCE_HV_kernel_path="/boot/vmlinuz-of-ganeti"
    )
    if outcome.code:
        sys.exit(outcome.log)
    return time.monotonic() - start


def _on_the_node(image: Path, scratch: Path, unpack: str) -> float:
    disk = _empty(scratch)
    start = time.monotonic()
    _shell(_ON_THE_NODE, image, disk, scratch / "mounted", unpack)
    return time.monotonic() - start


def _guestfish(image: Path, scratch: Path) -> float:
    disk = _empty(scratch)
    orders = ("run", "part-disk /dev/sda mbr", "mkfs ext4 /dev/sda1 label:/", "mount /dev/sda1 /")
    commands = [*orders, f"tar-in {image} / compress:gzip xattrs:true selinux:true acls:true", "umount-all", "sync"]
    start = time.monotonic()
    subprocess.run(
        ["guestfish", "--format=raw", "-a", str(disk)],
        input="\n".join(commands),
        text=True,
        check=True,
        env=_guestfs_environment(),
    )
    return time.monotonic() - start


def _virt_make_fs(image: Path, scratch: Path) -> float:
    disk = _empty(scratch)
    start = time.monotonic()
    options = ("--partition=mbr", "--type=ext4", f"--size={SIZE}G", "--format=raw", "--label=/")
    subprocess.run(["virt-make-fs", *options, str(image), str(disk)], check=True, env=_guestfs_environment())
    return time.monotonic() - start


def _guestfs_environment() -> dict[str, str]:
    """Emulated like our helper, whose kernel is a cloud kernel as well."""
    env = os.environ | {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    if kernels := sorted(Path("/boot").glob("vmlinuz-*")):
        release = kernels[-1].name.removeprefix("vmlinuz-")
        env |= {"SUPERMIN_KERNEL": str(kernels[-1]), "SUPERMIN_MODULES": f"/lib/modules/{release}"}
    return env


def _empty(scratch: Path) -> Path:
    disk = scratch / "disk"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(SIZE << 30)
    return disk


def _shell(script: str, *arguments: object) -> None:
    """In a mount namespace of its own: what is interrupted leaves no mount."""
    command = ["unshare", "--mount", "bash", "-euo", "pipefail", "-c", script, "bench"]
    subprocess.run([*command, *map(str, arguments)], check=True)
