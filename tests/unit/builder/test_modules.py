# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel modules stay, and the order in which the initrd loads its few."""

from __future__ import annotations

import pytest

from snf_image_helper_builder.modules import kept, load_order, module_name, read_dependencies
from snf_image_shared.errors import ConfigurationError

MODULES_DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/fs/nfs/nfs.ko.xz: kernel/net/sunrpc/sunrpc.ko.xz
kernel/fs/nfs_common/grace.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/net/sunrpc/sunrpc.ko.xz:
kernel/drivers/scsi/iscsi.ko.xz: kernel/net/sunrpc/sunrpc.ko.xz
kernel/drivers/block/virtio-blk.ko.xz:
"""
TABLE = read_dependencies(MODULES_DEP)


def test_a_kept_module_brings_what_it_needs_from_a_folder_that_goes() -> None:
    assert "kernel/net/sunrpc/sunrpc.ko.xz" in kept(TABLE, ["kernel/drivers/scsi"], [])
    assert "kernel/net/sunrpc/sunrpc.ko.xz" not in kept(TABLE, ["kernel/fs"], ["kernel/fs/nfs"])


def test_a_dropped_folder_does_not_take_its_namesake_along() -> None:
    assert "kernel/fs/nfs_common/grace.ko.xz" in kept(TABLE, ["kernel/fs"], ["kernel/fs/nfs"])


def test_a_single_module_can_be_dropped() -> None:
    assert not kept(TABLE, ["kernel/drivers/block"], ["kernel/drivers/block/virtio-blk"])


def test_what_a_module_needs_is_loaded_before_it_and_once() -> None:
    assert load_order(TABLE, [], ["mbcache", "ext4"]) == (
        "kernel/fs/mbcache.ko.xz",
        "kernel/fs/jbd2/jbd2.ko.xz",
        "kernel/lib/crc16.ko.xz",
        "kernel/fs/ext4/ext4.ko.xz",
    )


def test_a_built_in_module_is_not_loaded() -> None:
    assert load_order(TABLE, ["kernel/drivers/virtio/virtio_pci.ko"], ["virtio_pci"]) == ()


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no module floppy"):
        load_order(TABLE, [], ["floppy"])


def test_dashes_and_underscores_name_the_same_module() -> None:
    assert module_name("kernel/drivers/block/virtio-blk.ko.xz") == "virtio_blk"
    assert load_order(TABLE, [], ["virtio_blk"]) == ("kernel/drivers/block/virtio-blk.ko.xz",)
