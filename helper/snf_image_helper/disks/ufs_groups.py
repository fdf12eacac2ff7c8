# SPDX-License-Identifier: GPL-2.0-or-later
"""The cylinder groups of a UFS: their maps, and whether what they count is what the maps say.

What fsck_ffs does in its fifth pass, without repairing anything.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass

from snf_image_helper.disks.ufs import GROUP_HEAD, Ufs

_MAGIC = 0x090255


@dataclass(frozen=True)
class Group:
    """The maps of one: a bit for each i-node in use, and for each free fragment. `initialised`: i-nodes of a UFS2."""

    number: int
    inodes: bytes
    free: bytes
    counts: tuple[int, int, int, int]  # directories, free blocks, free i-nodes, free fragments
    initialised: int


def read_group(ufs: Ufs, number: int, content: bytes) -> tuple[Group, list[str]]:
    """A group from its block, and what is wrong with it. Raises ValueError when its maps cannot be found."""
    magic, _, own_number, _, size = struct.unpack_from("<IiIiI", content, 4)
    counts: tuple[int, int, int, int] = struct.unpack_from("<4i", content, 24)
    run_counts = struct.unpack_from("<8i", content, 52)
    used_at, free_at, _, sums_at, clusters_at, cluster_blocks = struct.unpack_from("<6I", content, 92)
    here = f"cylinder group {number}"
    if magic != _MAGIC or own_number != number:
        raise ValueError(f"{here} has no header")
    fragments = ufs.group_fragments(number)
    if size != fragments:
        raise ValueError(f"{here} has {size} fragments, not {fragments}")
    _check_bounds(ufs, (used_at, free_at, sums_at, clusters_at), here)
    if ufs.version == 1:
        _check_rotational(ufs, content, used_at, here)
    inodes = content[used_at : used_at + -(-ufs.inodes // 8)]
    free = content[free_at : free_at + -(-fragments // 8)]
    initialised = struct.unpack_from("<I", content, 120)[0] if ufs.version == 2 else ufs.inodes
    group = Group(number, inodes, free, counts, initialised)
    faults = []
    if initialised > ufs.inodes:
        raise ValueError(f"{here} has {initialised} initialised i-nodes of {ufs.inodes}")
    if _beyond(free, fragments) or _beyond(inodes, ufs.inodes):
        faults.append(f"{here}: its maps go on behind its end")
    faults += _miscounted(ufs, group, run_counts, here)
    if ufs.clusters:
        given = (content[sums_at : sums_at + 4 * (ufs.clusters + 1)], content[clusters_at:], cluster_blocks)
        faults += _clusters(ufs, group, given, here)
    return group, faults


def _check_bounds(ufs: Ufs, places: tuple[int, int, int, int], here: str) -> None:
    used_at, free_at, sums_at, clusters_at = places
    sizes = {used_at: -(-ufs.inodes // 8), free_at: -(-ufs.span // 8)}
    if ufs.clusters:
        # The count of clusters of no blocks is no count, and the map before may reach into it.
        sizes |= {sums_at + 4: 4 * ufs.clusters, clusters_at: -(-ufs.span // ufs.per_block // 8)}
    begin = GROUP_HEAD
    for at, size in sorted(sizes.items()):
        if at < begin or at + size > ufs.block:
            raise ValueError(f"{here}: its maps overlap")
        begin = at + size
    if len(sizes) != (4 if ufs.clusters else 2) or sums_at % 4:
        raise ValueError(f"{here}: its maps overlap")


def _check_rotational(ufs: Ufs, content: bytes, used_at: int, here: str) -> None:
    """The tables in which Linux counts by cylinder and rotational position: ubh_cg_blktot() of fs/ufs/util.h."""
    totals_at, positions_at = struct.unpack_from("<2i", content, 84)
    (per_fragment,), (per_cylinder,) = struct.unpack_from("<i", ufs.raw, 124), struct.unpack_from("<i", ufs.raw, 172)
    (positions,) = struct.unpack_from("<i", ufs.raw, 1360)
    cylinders = (ufs.span * per_fragment - 1) // per_cylinder + 1
    if not totals_at and not positions_at and cylinders == positions == 1:
        return  # none: what Linux counts goes to the first field, which nobody reads
    if not GROUP_HEAD <= totals_at <= totals_at + 4 * cylinders <= positions_at <= used_at - 2 * cylinders * positions:
        raise ValueError(f"{here}: its tables of rotational positions do not fit")


def _beyond(bits: bytes, count: int) -> bool:
    return bool(bits) and count % 8 != 0 and bits[-1] >> count % 8 != 0


def _miscounted(ufs: Ufs, group: Group, run_counts: tuple[int, ...], here: str) -> list[str]:
    blocks, runs = free_runs(group.free, ufs.per_block)
    fragments = sum(length * number for length, number in runs.items())
    free_inodes = ufs.inodes - int.from_bytes(group.inodes, "little").bit_count()
    faults = []
    found = (blocks, free_inodes, fragments)
    for said, real, what in zip(group.counts[1:], found, ("blocks", "i-nodes", "fragments"), strict=True):
        if said != real:
            faults.append(f"{here} counts {said} free {what}, its map has {real}")
    if any(run_counts[length] != runs.get(length, 0) for length in range(1, ufs.per_block)):
        faults.append(f"{here} miscounts its runs of free fragments")
    return faults


def free_runs(free: bytes, per_block: int) -> tuple[int, Counter[int]]:
    """How many blocks are free, and how many runs of each shorter length lie in the others."""
    blocks, runs = 0, Counter[int]()
    whole = (1 << per_block) - 1
    for byte, number in Counter(free).items():
        for shift in range(0, 8, per_block):
            part = byte >> shift & whole
            if part == whole:
                blocks += number
                continue
            for run in f"{part:b}".split("0"):
                if run:
                    runs[len(run)] += number
    return blocks, runs


def _clusters(ufs: Ufs, group: Group, given: tuple[bytes, bytes, int], here: str) -> list[str]:
    sums, clusters, count = given
    whole = (1 << ufs.per_block) - 1
    parts = {
        byte: "".join("x" if byte >> shift & whole == whole else " " for shift in range(0, 8, ufs.per_block))
        for byte in set(group.free)
    }
    blocks = "".join(parts[byte] for byte in group.free)[:count]
    if count != ufs.group_fragments(group.number) // ufs.per_block:
        return [f"{here} counts {count} blocks in its map of clusters"]
    found = Counter(min(len(run), ufs.clusters) for run in blocks.split())
    said = struct.unpack(f"<{ufs.clusters + 1}i", sums)
    faults = []
    if any(said[length] != found.get(length, 0) for length in range(1, ufs.clusters + 1)):
        faults.append(f"{here} miscounts its clusters of free blocks")
    mapped = int.from_bytes(clusters[: -(-count // 8)], "little") & ((1 << count) - 1)
    if mapped != int("0" + blocks[::-1].replace("x", "1").replace(" ", "0"), 2):
        faults.append(f"{here} has another map of clusters than of fragments")
    return faults
