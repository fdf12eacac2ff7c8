# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Debian root of the helper VM is made of. Change anything here and the next run builds a new root."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

# Raise it when the code that turns the recipe into a root changes what comes out.
_REVISION = 2

# systemd-standalone-sysusers satisfies what udev (which lvm2 wants) would otherwise take all of systemd for.
# Floppy and BSD disk labels are in the generic kernel only: the cloud kernel has none of them.
_PACKAGES = """
    linux-image-amd64 busybox-static kmod systemd-standalone-sysusers
    python3 python3-serial python3-hivex python3-jinja2 libcrypt1
    util-linux mount fdisk gdisk parted lvm2
    e2fsprogs xfsprogs btrfs-progs f2fs-tools dosfstools mtools ntfs-3g
    tar dump attr acl zstd xz-utils bzip2 lz4
    openssh-client eatmydata libeatmydata1 policycoreutils
"""

# Never unpacked: dpkg's path-exclude patterns.
_NOT_UNPACKED = """
    /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/* /usr/share/lintian/*
    /usr/share/bash-completion/* /usr/share/zsh/* /usr/share/bug/* /usr/share/doc-base/*
"""

# Removed once all is installed: globs below the root. ICU is 37 MB for xfs_scrub alone; the rest is of
# programs that never run there, or differs from build to build.
_REMOVED = """
    boot vmlinuz* initrd.img* home media opt srv
    var/cache/* var/log/* var/lib/apt/* var/lib/dpkg/*-old var/lib/dpkg/info/*.md5sums
    etc/resolv.conf etc/machine-id etc/*- etc/apt etc/lvm/*
    usr/lib/udev/hwdb.d usr/lib/udev/hwdb.bin usr/lib/systemd/system usr/share/perl5 usr/share/pixmaps
    usr/sbin/xfs_scrub* usr/lib/x86_64-linux-gnu/libicu*
    usr/lib/python3*/test usr/lib/python3*/idlelib usr/lib/python3*/ensurepip usr/lib/python3*/pydoc_data
    usr/lib/python3*/tkinter usr/lib/python3*/turtledemo
"""

# What the VM can meet: disks of every bus QEMU or Xen offers, a floppy, file systems, RAID, LVM, encryption.
_MODULES_KEPT = """
    kernel/arch kernel/block kernel/crypto kernel/fs kernel/lib kernel/mm kernel/drivers/ata kernel/drivers/block
    kernel/drivers/cdrom kernel/drivers/char/hw_random
    kernel/drivers/char/virtio_console kernel/drivers/dax kernel/drivers/firmware kernel/drivers/md
    kernel/drivers/message kernel/drivers/nvdimm kernel/drivers/nvme kernel/drivers/scsi kernel/drivers/virtio
    kernel/drivers/xen
"""

_MODULES_DROPPED = """
    kernel/arch/x86/kvm kernel/arch/x86/events kernel/fs/9p kernel/fs/afs kernel/fs/ceph kernel/fs/coda
    kernel/fs/dlm kernel/fs/gfs2 kernel/fs/lockd kernel/fs/nfs kernel/fs/nfsd kernel/fs/nfs_common kernel/fs/ocfs2
    kernel/fs/orangefs kernel/fs/smb kernel/drivers/block/aoe kernel/drivers/block/drbd kernel/drivers/block/nbd
    kernel/drivers/block/rbd kernel/drivers/block/rnbd kernel/drivers/md/dm-vdo kernel/drivers/scsi/aacraid
    kernel/drivers/scsi/be2iscsi kernel/drivers/scsi/bfa kernel/drivers/scsi/bnx2fc kernel/drivers/scsi/bnx2i
    kernel/drivers/scsi/csiostor kernel/drivers/scsi/cxgbi kernel/drivers/scsi/elx kernel/drivers/scsi/fcoe
    kernel/drivers/scsi/fnic kernel/drivers/scsi/libfc kernel/drivers/scsi/lpfc kernel/drivers/scsi/qedf
    kernel/drivers/scsi/qedi kernel/drivers/scsi/qla2xxx kernel/drivers/scsi/qla4xxx kernel/drivers/nvme/target
    kernel/drivers/xen/xen-netback
"""


@dataclass(frozen=True)
class Recipe:
    """`root_fs`: the file system of the image, as mount(8) names it; module folders begin with "kernel/".

    `ufs`: whether the kernel is to write UFS, for which a module is compiled if that can be done.
    """

    suite: str
    packages: tuple[str, ...] = tuple(_PACKAGES.split())
    not_unpacked: tuple[str, ...] = tuple(_NOT_UNPACKED.split())
    removed: tuple[str, ...] = tuple(_REMOVED.split())
    modules_kept: tuple[str, ...] = tuple(_MODULES_KEPT.split())
    modules_dropped: tuple[str, ...] = tuple(_MODULES_DROPPED.split())
    root_fs: str = "erofs"
    ufs: bool = True
    revision: int = _REVISION

    def key(self) -> str:
        """Lower-case hex that changes with anything in the recipe. Not with the mirror: all have the same Debian."""
        return digest(asdict(self))


def digest(inputs: object) -> str:
    """sha256 of `inputs` as canonical JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
