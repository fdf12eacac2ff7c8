# SPDX-License-Identifier: GPL-2.0-or-later
"""Disklabels against the tests' own implementation, and their growth against the formulas of snf-image 0.23."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.bsd_labels import FFS, LETTERS, SWAP, Label, Slice, System, checksum, decode
from snf_image_helper.disks.disklabel import LONGEST, Disklabel, Labelled, check, first_number, numbered, parse
from snf_image_helper.disks.disklabel_growth import LabelChange, enlarged, mbr_entry
from snf_image_helper.disks.partitions import Partition
from snf_image_shared.errors import GuestError

TYPES = {System.FREEBSD: "a5", System.NETBSD: "a9", System.OPENBSD: "a6"}
# Letters that stand for the whole disk, or for all of the system's part.
WHOLE = {System.FREEBSD: "c", System.NETBSD: "cd", System.OPENBSD: "c"}
START = 64
MOST = (1 << 32) - 1
systems = st.sampled_from(System)


def padded(raw: bytes) -> bytes:
    return raw + bytes(LONGEST - len(raw))


def parent_of(label: Label, size: int, number: int = 1) -> Partition:
    return Partition(number, START, size, TYPES[label.system])


def read(label: Label, parent: Partition) -> Labelled:
    found = parse(padded(label.encode()), parent)
    check(found, parent)
    return Labelled(parent, found, numbered(found, parent, 5)[0])


def label_of(system: System, slices: dict[str, Slice], size: int, total: int) -> Label:
    """One of 255 heads and 63 sectors in a partition of `size` sectors at START."""
    own = {"c": Slice(START, size, 0), "d": Slice(0, total, 0)} if system is System.NETBSD else {}
    own |= {"c": Slice(0, total, 0, 0, 0)} if system is System.OPENBSD else {}
    own |= {"c": Slice(START, size, 0)} if system is System.FREEBSD else {}
    unit = size if system is System.FREEBSD else total
    bounds = (START, START + size) if system is System.OPENBSD else (0, 0)
    return Label(system, unit, slices | own, 255, 63, unit // 16065, 16, *bounds, "0123456789abcdef")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Label, Partition]:
    """A label with some slices side by side, not in the order of their letters, and its partition."""
    system = draw(systems)
    letters = [letter for letter in "abefghijklmnop" if letter not in WHOLE[system]]
    chosen = draw(st.lists(st.sampled_from(letters), min_size=1, max_size=6, unique=True))
    at, slices = START + draw(st.integers(0, 64)), {}
    for letter in chosen:
        size = draw(st.integers(1, 1 << 24))
        slices[letter] = Slice(at, size, draw(st.sampled_from([SWAP, FFS, 8])))
        at += size + draw(st.integers(0, 64))
    size = at - START + draw(st.integers(0, 100))
    label = label_of(system, slices, size, START + size + draw(st.integers(0, 1 << 20)))
    return label, parent_of(label, size)


@given(layouts())
def test_a_label_is_read_as_it_was_written(made: tuple[Label, Partition]) -> None:
    label, parent = made
    found = read(label, parent).label
    own = {letter: item for letter, item in label.slices.items() if letter not in WHOLE[label.system]}
    assert {item.letter: (item.start, item.size, item.kind) for item in found.own(parent)} == {
        letter: (item.start, item.size, item.kind) for letter, item in own.items()
    }
    assert found.duid == ("0123456789abcdef" if label.system is System.OPENBSD else "")


@given(layouts(), st.integers(0, 1 << 16))
def test_one_wrong_bit_is_noticed(made: tuple[Label, Partition], bit: int) -> None:
    label, parent = made
    raw = bytearray(label.encode())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises(GuestError, match="disklabel in partition 1"):
        parse(padded(bytes(raw)), parent)


@given(systems, st.binary(min_size=LONGEST, max_size=LONGEST), st.integers(1, 22))
def test_garbage_under_a_right_checksum_is_refused_or_has_sound_slices(
    system: System, garbage: bytes, count: int
) -> None:
    raw = bytearray(garbage)
    raw[0:4] = raw[132:136] = b"\x57\x45\x56\x82"
    raw[40:44], raw[136:140] = (512).to_bytes(4, "little"), bytes(2) + count.to_bytes(2, "little")
    raw[136:138] = checksum(bytes(raw[: 148 + 16 * count])).to_bytes(2, "little")
    parent = Partition(1, START, 1 << 20, TYPES[system])
    try:
        found = parse(bytes(raw), parent)
        check(found, parent)
    except GuestError:
        return
    places = sorted((item.start, item.end) for item in found.own(parent))
    assert all(parent.start <= start <= end <= parent.end for start, end in places)
    assert all(one[1] < other[0] for one, other in pairwise(places))


SOUND = label_of(System.OPENBSD, {"a": Slice(START, 1000, FFS)}, 2000, 4000)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (replace(SOUND, count=53), "says that it has 53 partitions, openbsd has at most 52"),
        (replace(SOUND, count=0), "says that it has 0 partitions"),
        (replace(SOUND, heads=0), "geometry with a zero"),
        (
            label_of(System.NETBSD, {"a": Slice(START, 1000, FFS), "e": Slice(START + 999, 10, FFS)}, 2000, 4000),
            "overlapping partitions a and e",
        ),
        (label_of(System.NETBSD, {"a": Slice(START, 2001, FFS)}, 2000, 4000), "a that reaches beyond partition 1"),
        (label_of(System.NETBSD, {"e": Slice(0, START + 1, FFS)}, 2000, 4000), "e that reaches beyond partition 1"),
        (label_of(System.NETBSD, {"e": Slice(START, MOST, FFS)}, 2000, 4000), "e that reaches beyond partition 1"),
        (
            label_of(System.OPENBSD, {"a": Slice(START, (1 << 48) - 1, FFS)}, 2000, 4000),
            "a that reaches beyond partition 1",
        ),
    ],
)
def test_a_label_that_cannot_be_is_refused(label: Label, words: str) -> None:
    parent = parent_of(label, 2000)
    with pytest.raises(GuestError, match=words):
        read(label, parent)


@pytest.mark.parametrize("system", System)
def test_400_partitions_other_sectors_and_half_a_magic_are_refused_under_a_right_checksum(system: System) -> None:
    label = label_of(system, {"a": Slice(START, 1000, FFS)}, 2000, 4000)
    for at, number, words in (
        (138, 400, "400 partitions"),
        (40, 4096, "sectors of 4096 bytes"),
        (132, 0, "second magic number"),
    ):
        raw = bytearray(label.encode())
        raw[at : at + 2] = number.to_bytes(2, "little")
        raw[136:138] = bytes(2)
        raw[136:138] = checksum(bytes(raw)).to_bytes(2, "little")
        with pytest.raises(GuestError, match=words):
            parse(padded(bytes(raw)), parent_of(label, 2000))


def numbers(label: Label, size: int, number: int = 1, first: int = 5) -> dict[int, str]:
    parent = parent_of(label, size, number)
    found = parse(padded(label.encode()), parent)
    return {number: item.letter for number, item in numbered(found, parent, first)[0].items()}


def test_slices_are_numbered_by_their_letters_wherever_they_lie() -> None:
    slices = {"a": Slice(1000, 500, FFS), "b": Slice(START, 100, SWAP), "e": Slice(200, 100, FFS)}
    assert numbers(label_of(System.OPENBSD, slices, 2000, 4000), 2000) == {5: "a", 6: "b", 7: "e"}


def test_a_slice_that_is_all_of_its_partition_has_its_number() -> None:
    assert numbers(label_of(System.OPENBSD, {"a": Slice(START, 2000, FFS)}, 2000, 4000), 2000, 4) == {4: "a"}


def test_a_slice_outside_takes_no_number_and_an_empty_one_does() -> None:
    slices = {"a": Slice(START, 100, FFS), "e": Slice(300, 0, FFS), "i": Slice(3000, 100, 8), "j": Slice(400, 100, FFS)}
    assert numbers(label_of(System.OPENBSD, slices, 2000, 4000), 2000) == {5: "a", 7: "j"}


def test_offsets_of_freebsd_count_from_its_partition_when_those_of_c_do() -> None:
    label = label_of(System.FREEBSD, {"a": Slice(16, 100, FFS)}, 2000, 4000)
    relative = replace(label, slices=label.slices | {"c": Slice(0, 2000, 0)})
    assert [item.start for item in read(relative, parent_of(label, 2000)).label.slices] == [START + 16]


def test_52_partitions_of_openbsd_are_read() -> None:
    slices = {letter: Slice(START + 10 * at, 10, FFS) for at, letter in enumerate(LETTERS) if letter != "c"}
    label = replace(label_of(System.OPENBSD, slices, 2000, 4000), count=52)
    found = numbers(label, 2000)
    assert (len(found), found[5], found[55]) == (51, "a", "Z")


def test_the_first_number_is_5_or_follows_those_of_the_table() -> None:
    assert [first_number(those) for those in ((), (1, 4), (1, 2, 5, 6), (1, 128))] == [5, 5, 7, 129]


def growth(label: Label, size: int, grown: int, total: int) -> tuple[Labelled, LabelChange, Label]:
    found = read(label, parent_of(label, size))
    change = enlarged(found, grown, total)
    return found, change, decode(change.raw, label.system)


@pytest.mark.row(135)
@given(layouts(), st.integers(0, 1 << 33))
def test_a_label_grows_by_the_formulas(made: tuple[Label, Partition], more: int) -> None:
    label, parent = made
    grown = min(parent.size + more, MOST - START)
    total = START + grown
    after = growth(label, parent.size, grown, total)[2]
    match label.system:
        case System.OPENBSD:
            assert (after.total, after.cylinders) == (total, total // 16065)
            assert (after.begin, after.end, after.uid) == (START, START + grown, label.uid)
            assert (after.slices["c"].start, after.slices["c"].size) == (0, total)
        case System.NETBSD:
            assert (after.total, after.cylinders) == (total, 16383 if total >= 16514064 else total // 16065)
            assert (after.slices["c"].start, after.slices["c"].size) == (START, grown)
            assert (after.slices["d"].start, after.slices["d"].size) == (0, total)
        case System.FREEBSD:
            assert (after.total, after.cylinders) == (grown, grown // 16065)
            assert (after.slices["c"].start, after.slices["c"].size) == (START, grown)
    own = {letter: item for letter, item in label.slices.items() if letter not in WHOLE[label.system]}
    last = max(own, key=lambda letter: own[letter].start)
    wanted = total - own[last].start
    wanted -= wanted % 32 if label.system is System.OPENBSD else 0
    if own[last].kind != SWAP:
        own[last] = replace(own[last], size=max(own[last].size, wanted))
    assert {letter: item for letter, item in after.slices.items() if letter not in WHOLE[label.system]} == own
    assert (after.heads, after.track, after.count) == (label.heads, label.track, label.count)


@given(layouts(), st.integers(0, 1 << 33))
def test_a_second_growth_changes_nothing(made: tuple[Label, Partition], more: int) -> None:
    label, parent = made
    grown = min(parent.size + more, MOST - START)
    _, change, after = growth(label, parent.size, grown, START + grown)
    again = growth(after, grown, grown, START + grown)[1]
    assert (again.raw, again.parent.size, again.grown) == (change.raw, grown, None)


def test_a_label_of_openbsd_goes_beyond_32_bits() -> None:
    total = (5 << 32) + 7
    label = SOUND
    after = growth(label, 2000, total - START, total)[2]
    assert (after.total, after.end, after.slices["c"].size) == (total, total, total)
    assert after.slices["a"].size == (total - START) // 32 * 32


def test_an_old_label_of_openbsd_keeps_the_sizes_of_its_fragments() -> None:
    label = replace(SOUND, version=0)
    raw = bytearray(label.encode())
    raw[148 + 8 : 148 + 12] = (2048).to_bytes(4, "little")  # p_fsize, where d_version 1 has the high bits
    raw[136:138] = bytes(2)
    raw[136:138] = checksum(bytes(raw)).to_bytes(2, "little")
    parent = parent_of(label, 2000)
    found = Labelled(parent, parse(padded(bytes(raw)), parent), {})
    change = enlarged(found, 4000, 4064)
    assert (change.raw[148 + 8 : 148 + 12], change.grown and change.grown.size) == ((2048).to_bytes(4, "little"), 4000)


def entry(label: Label, size: int, total: int) -> tuple[int, int, int, int]:
    """Cylinder, head and sector of the end in the MBR, and the number of sectors."""
    found = Disklabel(read(label, parent_of(label, 2000)).label.family, padded(label.encode()), 0, ())
    change = LabelChange(parent_of(label, size), b"")
    raw = mbr_entry(bytes.fromhex("80010203a9ffffff04050607ffffffff"), change, found, total)
    assert raw[:5] + raw[8:12] == bytes.fromhex("80010203a904050607")
    return raw[7] | (raw[6] & 0xC0) << 2, raw[5], raw[6] & 63, int.from_bytes(raw[12:], "little")


@pytest.mark.row(135)
@pytest.mark.parametrize(
    ("total", "heads"),
    [
        *((1032192, 16), (1032193, 32), (2064384, 32), (2064385, 64), (4128768, 64), (4128769, 128)),
        *((8257536, 128), (8257537, 255), (16450560, 255)),
    ],
)
def test_netbsd_counts_heads_as_a_bios_does(total: int, heads: int) -> None:
    label = label_of(System.NETBSD, {"a": Slice(START, 1000, FFS)}, 2000, 4000)
    last = total - 1
    cylinder, head, sector = last // (heads * 63), last // 63 % heads, last % 63 + 1
    assert entry(label, total - START, total) == (cylinder, head, sector, total - START)


@pytest.mark.row(135)
def test_what_lies_beyond_1024_cylinders_is_told_as_each_system_does() -> None:
    slices, total = {"a": Slice(START, 1000, FFS)}, 30_000_000
    last = total - 1
    size = total - START
    netbsd = entry(label_of(System.NETBSD, slices, 2000, 4000), size, total)
    assert netbsd == (1023, last // 63 % 255, last % 63 + 1, size)
    assert entry(label_of(System.OPENBSD, slices, 2000, 4000), size, total) == (1023, 254, 63, size)


@given(st.integers(2000, 16065 * 1024))
def test_openbsd_counts_by_the_geometry_of_its_label(total: int) -> None:
    label = SOUND
    cylinder, head, sector, _ = entry(label, total - START, total)
    assert (cylinder * 255 + head) * 63 + sector == total
