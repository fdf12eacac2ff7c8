# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of snf-image 0.23 and before whose work is done differently here, each with what to do instead.

They are harmless in an old file, so they are no error: the warning that names them ends with the text below.
"""

from __future__ import annotations

_OWN = "remove it; snf-image does this itself now"
_PITHOS = "remove it; Pithos is not served, so put the image into IMAGE_DIR"
_XEN = "remove it; the helper VM runs under QEMU on Xen nodes as well"
_MULTISTRAP = "remove it; snf-image-update-helper builds the helper image with mmdebstrap"
_RBD = "name it in the disk's URI (rbd:POOL/IMAGE:conf=FILE), or let it be /etc/ceph/ceph.conf"

OBSOLETE = {
    "AWK": _OWN,
    "BLOCKDEV": _OWN,
    "DATE": _OWN,
    "DD": "remove it; the copy needs no program, and skips holes",
    "INSTALL_MBR": _OWN,
    "KPARTX": "remove it; partitions are seen by the helper VM alone",
    "LOSETUP": "remove it; no loop device is used",
    "MD5SUM": "remove it; the helper image is checked by SHA-256, and an image by the OS parameter img_checksum",
    "MULTISTRAP_APTPREFDIR": _MULTISTRAP,
    "MULTISTRAP_CONFIG": _MULTISTRAP,
    "PARTED": "remove it; partitions are changed by the helper VM alone",
    "PITHCAT_UMASK": _PITHOS,
    "PITHOS_ARCHIPELAGO_CONF": _PITHOS,
    "PITHOS_BACKEND_STORAGE": _PITHOS,
    "PITHOS_DATA": _PITHOS,
    "PITHOS_DB": _PITHOS,
    "PITHOS_RADOS_CEPH_CONF": _PITHOS,
    "PITHOS_RADOS_POOL_BLOCKS": _PITHOS,
    "PITHOS_RADOS_POOL_MAPS": _PITHOS,
    "QEMU_NBD": "remove it; QEMU's own block layer reaches such disks, without the kernel's nbd",
    "RBD_BLOCK_SIZE": _OWN,
    "RBD_CEPH_CONF": _RBD,
    "SFDISK": "remove it; partitions are changed by the helper VM alone",
    "TAR": _OWN,
    "TIMEOUT": "remove it; HELPER_SOFT_TIMEOUT and HELPER_HARD_TIMEOUT are kept without a program",
    "VERSION_CHECK": "remove it; the helper image is always checked against this version",
    "XEN_CMD": _XEN,
    "XEN_SCRIPTS_DIR": _XEN,
}
