# SPDX-License-Identifier: GPL-2.0-or-later
"""What the types of partitions mean, for people. Nothing is decided by these names."""

from __future__ import annotations

from snf_image_helper.disks.partitions import Partition

# Systemd "Discoverable Partitions Specification", the UEFI specification, and what fdisk(8) calls the types of an MBR.
_NAMES = {
    "0FC63DAF-8483-4772-8E79-3D69D8477DE4": "Linux",
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "Linux root (x86-64)",
    "44479540-F297-41B2-9AF7-D131D5F0458A": "Linux root (x86)",
    "B921B045-1DF0-41C3-AF44-4C6F280D3FAE": "Linux root (arm64)",
    "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3": "Linux root (arm)",
    "72EC70A6-CF74-40E6-BD49-4BDA08E8F224": "Linux root (riscv64)",
    "C31C45E6-3F39-412E-80FB-4809C4980599": "Linux root (ppc64le)",
    "5EEAD9A9-FE09-4A1E-A1D7-520D00531306": "Linux root (s390x)",
    "77055800-792C-4F94-B39A-98C91B762BB6": "Linux root (loong64)",
    "8484680C-9521-48C6-9C11-B0720656F69E": "Linux /usr (x86-64)",
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "Linux /home",
    "3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "Linux /srv",
    "4D21B016-B534-45C2-A9FB-5C16E091FD2D": "Linux /var",
    "E6D6D379-F507-44C2-A23C-238F2A3DF928": "Linux LVM",
    "A19D880F-05FC-4D3B-A006-743F0F84911E": "Linux RAID",
    "CA7D7CCB-63ED-4C53-861C-1742536059CC": "Linux LUKS",
    "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft data",
    "516E7CB4-6ECF-11D6-8FF8-00022D09712B": "FreeBSD",
    "516E7CB6-6ECF-11D6-8FF8-00022D09712B": "FreeBSD UFS",
    "516E7CBA-6ECF-11D6-8FF8-00022D09712B": "FreeBSD ZFS",
    "824CC7A0-36A8-11E3-890A-952519AD3F61": "OpenBSD",
    "49F48D5A-B10E-11DC-B99B-0019D1879648": "NetBSD FFS",
    "49F48D82-B10E-11DC-B99B-0019D1879648": "NetBSD LFS",
    "49F48DAA-B10E-11DC-B99B-0019D1879648": "NetBSD RAID",
    "2DB519C4-B10F-11DC-B99B-0019D1879648": "NetBSD concatenated",
    "2DB519EC-B10F-11DC-B99B-0019D1879648": "NetBSD encrypted",
    "1": "FAT12",
    "4": "FAT16",
    "6": "FAT16",
    "7": "NTFS or exFAT",
    "b": "FAT32",
    "c": "FAT32",
    "e": "FAT16",
    "83": "Linux",
    "8e": "Linux LVM",
    "fd": "Linux RAID",
    "a5": "FreeBSD",
    "a6": "OpenBSD",
    "a9": "NetBSD",
}


def role_of(partition: Partition) -> str:
    """What the partition is for, "" if nobody knows."""
    if partition.is_extended:
        return "extended"
    return partition.fixed_role or _NAMES.get(partition.type, "")
