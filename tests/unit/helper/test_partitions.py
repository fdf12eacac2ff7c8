# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of partition tables, on tables that real tools write and on any that could be."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.disks.partitions import (
    MIB,
    Change,
    Partition,
    PartitionTable,
    SwapDisk,
    SwapPartition,
    TableKind,
    check,
    differences,
    growing,
    grown,
    parse_sfdisk,
    parse_swap,
)
from snf_image_shared.errors import GuestError

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
GPT_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
TEN_GIB = 10 * 1024 * 2048  # sectors of 512 bytes
TWO_TIB = 1 << 32


def dos(*partitions: Partition, sector_size: int = 512) -> PartitionTable:
    return PartitionTable(TableKind.DOS, sector_size, partitions)


def gpt(*partitions: Partition, sector_size: int = 512) -> PartitionTable:
    return PartitionTable(TableKind.GPT, sector_size, partitions)


def linux(number: int, start: int, size: int) -> Partition:
    return Partition(number, start, size, "83", f"0000abcd-{number:02x}")


def place(change: Change, number: int) -> tuple[int, int]:
    """Start and end."""
    found = change.table.partition(number)
    assert found is not None
    return found.start, found.end


def test_the_only_partition_grows_to_one_mib_before_the_end() -> None:
    assert place(grown(dos(linux(1, 2048, 4096)), TEN_GIB), 1) == (2048, TEN_GIB - 2049)


def test_on_4096_byte_sectors_it_is_the_same_mib() -> None:
    change = grown(gpt(Partition(1, 256, 4096, LINUX), sector_size=4096), 1 << 20)
    assert place(change, 1) == (256, (1 << 20) - 257)


def test_swap_takes_the_end_and_the_last_partition_ends_one_sector_before() -> None:
    change = grown(dos(linux(1, 2048, 4096)), TEN_GIB, SwapPartition(2, 512))
    assert place(change, 1) == (2048, TEN_GIB - 2049 - 1048576)
    assert place(change, 2) == (TEN_GIB - 2048 - 1048576, TEN_GIB - 2049)
    assert change.created[0].type == "82"


def test_swap_on_gpt_has_the_type_of_swap() -> None:
    change = grown(gpt(Partition(1, 2048, 4096, LINUX)), TEN_GIB, SwapPartition(15, 16))
    assert [(item.number, item.type) for item in change.created] == [(15, GPT_SWAP)]


def test_a_logical_partition_grows_after_its_container() -> None:
    table = dos(linux(1, 2048, 2048), Partition(2, 4096, 10000, "5"), linux(5, 6144, 7000))
    change = grown(table, TEN_GIB)
    assert [(item.number, item.end) for item in change.resized] == [(2, TEN_GIB - 2049), (5, TEN_GIB - 2049)]


def test_logical_swap_leaves_a_mib_for_its_boot_record() -> None:
    table = dos(Partition(2, 4096, 10000, "f"), linux(5, 6144, 7000))
    change = grown(table, TEN_GIB, SwapPartition(6, 16))
    swap_start = TEN_GIB - 2048 - 16 * 2048
    assert place(change, 5) == (6144, swap_start - 2049)
    assert place(change, 2) == (4096, TEN_GIB - 2049)
    assert place(change, 6) == (swap_start, TEN_GIB - 2049)


def test_the_first_logical_swap_gets_a_container() -> None:
    change = grown(dos(linux(1, 2048, 4096)), TEN_GIB, SwapPartition(5, 16))
    container, swap = change.created
    assert (container.number, container.type, swap.number) == (2, "5", 5)
    assert place(change, 1) == (2048, container.start - 1)
    assert (swap.start - container.start, swap.end) == (2048, container.end)


def test_logical_swap_fills_an_empty_container_at_the_end() -> None:
    table = dos(linux(1, 2048, 4096), Partition(2, 8192, 2048, "5"))
    change = grown(table, TEN_GIB, SwapPartition(5, 16))
    assert place(change, 1) == (2048, 6143)
    assert place(change, 2) == (8192, TEN_GIB - 2049)


def test_a_primary_numbered_after_the_container_does_not_hide_the_logical_one() -> None:
    table = dos(linux(3, 2048, 2048), Partition(1, 4096, 10000, "5"), linux(5, 6144, 7000))
    assert [item.number for item in grown(table, TEN_GIB).resized] == [1, 5]


def test_the_physically_last_partition_grows_whatever_its_number() -> None:
    table = gpt(
        Partition(1, 227328, 4096, LINUX), Partition(14, 2048, 8192, BIOS_BOOT), Partition(15, 10240, 217088, ESP)
    )
    assert [item.number for item in grown(table, TEN_GIB).resized] == [1]


@pytest.mark.parametrize("fixed", [ESP, BIOS_BOOT, GPT_SWAP, "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"])
def test_a_last_partition_that_is_no_data_stays_as_it_is(fixed: str) -> None:
    change = grown(gpt(Partition(1, 2048, 2048, LINUX), Partition(2, 4096, 2048, fixed)), TEN_GIB)
    assert change.resized == ()
    assert "partition 2" in change.warnings[0]


def test_nothing_is_said_when_there_is_no_room() -> None:
    table = dos(linux(1, 2048, TEN_GIB - 4096))
    assert grown(table, TEN_GIB) == Change((), (), table)


def test_a_partition_that_ends_in_the_last_mib_does_not_shrink() -> None:
    assert grown(gpt(Partition(1, 2048, TEN_GIB - 2048 - 34, LINUX)), TEN_GIB).resized == ()


def test_an_msdos_table_grows_to_its_own_limit_with_a_warning() -> None:
    change = grown(dos(linux(1, 2048, 4096)), TWO_TIB + TEN_GIB)
    assert place(change, 1) == (2048, TWO_TIB - 2049)
    assert "2 TiB" in change.warnings[0]


@pytest.mark.parametrize("number", [2, 5])
def test_the_partition_to_resize_is_the_same_before_and_after_swap_came_behind_it(number: int) -> None:
    swap = SwapPartition(number, 16)
    change = grown(dos(linux(1, 2048, 4096)), TEN_GIB, swap)
    found = growing(change.table, swap)
    assert found is not None
    assert found.number == 1


@pytest.mark.parametrize(
    ("partitions", "word"),
    [
        ((linux(1, 2048, 4096), linux(2, 6143, 10)), "overlap"),
        ((linux(1, 0, 4096),), "does not lie on the disk"),
        ((linux(1, 2048, 0),), "does not lie on the disk"),
        ((linux(1, 2048, -5),), "does not lie on the disk"),
        ((linux(1, 2048, TEN_GIB),), "does not lie on the disk"),
        ((Partition(1, 2048, 100, "5"), linux(5, 2100, 100)), "does not lie in extended"),
        ((Partition(1, 2048, 100, "5"), linux(5, 2048, 10)), "does not lie in extended"),
        ((linux(5, 2100, 100),), "extended partitions"),
        ((Partition(1, 2048, 100, "5"), Partition(2, 4096, 100, "f")), "extended partitions"),
        ((Partition(1, 2048, 1000, "5"), linux(5, 2100, 100), linux(6, 2150, 100)), "overlap"),
        ((linux(1, 2048, 4096), linux(1, 2048, 4096)), "chain"),
        ((Partition(1, 2048, 100000, "5"), *(linux(5 + n, 3000 + 20 * n, 10) for n in range(56))), "chain"),
    ],
)
def test_an_impossible_table_is_refused(partitions: tuple[Partition, ...], word: str) -> None:
    with pytest.raises(GuestError, match=word):
        grown(dos(*partitions), TEN_GIB)


@pytest.mark.parametrize(
    ("table", "swap", "word"),
    [
        (dos(linux(1, 2048, 4096)), "1:16", "exists already"),
        (dos(linux(1, 2048, 4096)), "2:10240", "10236 MiB are free"),
        (dos(linux(1, 2048, 4096)), "6:16", "number 5"),
        (gpt(Partition(1, 2048, 4096, LINUX)), "129:16", "128"),
        (dos(*(linux(n, 2048 * n, 2048) for n in (1, 2, 3, 4))), "5:16", "no primary number"),
        (dos(Partition(1, 2048, 2048, "5"), linux(2, 8192, 2048)), "5:16", "stands behind"),
    ],
)
def test_swap_without_room_or_number_is_refused(table: PartitionTable, swap: str, word: str) -> None:
    wanted = parse_swap(swap)
    assert isinstance(wanted, SwapPartition)
    with pytest.raises(GuestError, match=word):
        grown(table, TEN_GIB, wanted)


@pytest.mark.parametrize(("spare", "refused"), [(0, False), (-1, True)])
def test_swap_may_begin_right_behind_the_last_partition(spare: int, refused: bool) -> None:
    swap_start = TEN_GIB - 2048 - 16 * 2048
    table = dos(linux(1, 2048, swap_start - 2048 - spare))
    if refused:
        with pytest.raises(GuestError, match="15 MiB are free"):
            grown(table, TEN_GIB, SwapPartition(2, 16))
    else:
        assert place(grown(table, TEN_GIB, SwapPartition(2, 16)), 1) == (2048, swap_start - 1)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("2:512", SwapPartition(2, 512)), ("15:1", SwapPartition(15, 1)), ("b", SwapDisk(1)), ("z", SwapDisk(25))],
)
def test_swap_is_a_partition_or_the_letter_of_a_disk(text: str, meaning: SwapPartition | SwapDisk) -> None:
    assert parse_swap(text) == meaning


@pytest.mark.row(134)
@pytest.mark.parametrize(
    "text", ["", "a", "bb", "B", "2", "2:", ":5", "02:5", "2:05", "0:5", "2:0", "2:5\n", "٢:5", "-1:5"]
)
def test_other_swaps_are_refused(text: str) -> None:
    with pytest.raises(GuestError, match="property SWAP"):
        parse_swap(text)


def test_sfdisks_words_become_a_table() -> None:
    partition = {"node": "/dev/loop0p5", "start": 8, "size": 9, "type": "83", "bootable": True}
    found = parse_sfdisk(json.dumps({"partitiontable": {
        "label": "dos", "id": "0x0badcafe", "device": "/dev/loop0", "sectorsize": 4096, "partitions": [partition],
    }}))  # fmt: skip
    assert found == dos(Partition(5, 8, 9, "83", "0badcafe-05", bootable=True), sector_size=4096)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"partitiontable": {"label": "sun"}}', '{"partitiontable": 7}'])
def test_what_is_no_msdos_or_gpt_table_is_refused(text: str) -> None:
    with pytest.raises(GuestError, match="partition table"):
        parse_sfdisk(text)


@pytest.mark.parametrize(
    "found",
    [
        gpt(),
        gpt(Partition(1, 2048, 99, LINUX, "u", "n")),
        gpt(Partition(1, 2048, 100, ESP, "u", "n")),
        gpt(Partition(1, 2048, 100, LINUX, "other", "n")),
        gpt(Partition(1, 2048, 100, LINUX, "u")),
        gpt(Partition(1, 2048, 100, LINUX, "u", "n"), Partition(2, 4096, 100, LINUX)),
    ],
)
def test_a_table_that_was_written_otherwise_is_noticed(found: PartitionTable) -> None:
    assert differences(gpt(Partition(1, 2048, 100, LINUX, "u", "n")), found) != ()


def test_the_new_uuid_of_a_created_partition_is_no_difference() -> None:
    assert differences(gpt(Partition(1, 2048, 100, LINUX)), gpt(Partition(1, 2048, 100, LINUX, "new"))) == ()


@dataclass(frozen=True)
class Case:
    table: PartitionTable
    total: int
    swap: SwapPartition | None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tables as tools write them: any numbering, gaps, containers, types; disks from full to far too large."""
    kind = draw(st.sampled_from(TableKind))
    sector_size = draw(st.sampled_from([512, 4096]))
    types = ["83", "82", "7", "ef", "8e"] if kind is TableKind.DOS else [LINUX, GPT_SWAP, ESP, BIOS_BOOT]
    gaps, sizes = st.integers(2, 5000), st.integers(1, 1 << 21)
    count = draw(st.integers(1, 4))
    numbers = draw(st.permutations(range(1, 5 if kind is TableKind.DOS else 129)))[:count]
    container = draw(st.sampled_from([None, *numbers])) if kind is TableKind.DOS else None
    position, partitions = draw(st.integers(3, 5000)), []
    for number in numbers:
        start = position
        if number == container:
            for logical in range(draw(st.integers(0, 3))):
                begin = position + draw(gaps)
                partitions.append(
                    Partition(5 + logical, begin, draw(sizes), draw(st.sampled_from(types)), f"u{logical}")
                )
                position = partitions[-1].end + 1
            size = position - start + draw(st.integers(1, 5000))
            partitions.append(Partition(number, start, size, "5", f"c{number}"))
        else:
            size = draw(sizes)
            name = draw(st.sampled_from(["", "my root"]))
            partitions.append(Partition(number, start, size, draw(st.sampled_from(types)), f"p{number}", name))
        position = start + size + draw(st.integers(0, 5000))
    total = max(item.end for item in partitions) + 1 + draw(st.integers(0, 1 << draw(st.integers(1, 34))))
    swaps = st.builds(SwapPartition, st.integers(1, 9), st.integers(1, 4096))
    return Case(PartitionTable(kind, sector_size, tuple(partitions)), total, draw(st.none() | swaps))


def plan(case: Case) -> Change | None:
    """The change, or None where the swap asked for is rightly refused."""
    try:
        return grown(case.table, case.total, case.swap)
    except GuestError as error:
        assert case.swap is not None
        assert "property SWAP" in str(error)
        return None


@given(cases())
def test_nothing_moves_shrinks_or_loses_its_identity(case: Case) -> None:
    change = plan(case)
    for before in case.table.partitions if change else ():
        assert change is not None
        after = change.table.partition(before.number)
        assert after is not None
        assert replace(after, size=before.size) == before
        assert after.size >= before.size


@given(cases())
def test_no_sector_belongs_to_two_partitions_or_to_none_of_the_disk(case: Case) -> None:
    change = plan(case)
    if change is None:
        return
    inner = sorted((item.start, item.end) for item in change.table.partitions if not item.is_extended)
    assert all(one[1] < other[0] for one, other in pairwise(inner))
    assert all(0 < start <= end < case.total for start, end in inner)
    container = change.table.extended
    for item in change.table.partitions:
        inside = container is not None and container.start <= item.start and item.end <= container.end
        assert item.is_extended or inside == change.table.is_logical(item)


@given(cases())
def test_only_the_last_partition_and_its_container_change(case: Case) -> None:
    change = plan(case)
    if change is None:
        return
    last = max(
        (item for item in case.table.partitions if not item.is_extended), key=lambda item: item.start, default=None
    )
    for item in change.resized:
        assert item.is_extended or item.number == (last and last.number)


@given(cases())
def test_the_last_mib_stays_free_of_what_is_new(case: Case) -> None:
    change = plan(case)
    for item in (*change.resized, *change.created) if change else ():
        assert item.end < case.total - MIB // case.table.sector_size


@given(cases())
def test_swap_has_exactly_its_size_and_number(case: Case) -> None:
    change = plan(case)
    if change is not None and case.swap is not None:
        made = change.created[-1]
        assert (made.number, made.size * case.table.sector_size) == (case.swap.number, case.swap.mib * MIB)


@given(cases())
def test_the_boot_records_of_logical_partitions_keep_a_sector(case: Case) -> None:
    change = plan(case)
    if change is None:
        return
    logicals = sorted(
        (item for item in change.table.partitions if change.table.is_logical(item)), key=lambda i: i.start
    )
    for item in logicals:
        before = [other.end for other in change.table.partitions if not other.is_extended and other.end < item.start]
        assert item.start - max(before, default=0) > 1


@given(cases())
def test_a_grown_table_has_nothing_left_to_grow(case: Case) -> None:
    change = plan(replace(case, swap=None))
    assert change is not None
    again = grown(change.table, case.total)
    assert (again.resized, again.created) == ((), ())


@given(st.lists(st.builds(Partition, *[st.integers(-1, 70)] * 3, st.sampled_from(["83", "5"])), max_size=5))
def test_any_table_is_refused_or_sound(partitions: list[Partition]) -> None:
    table = dos(*partitions)
    try:
        check(table, 64)
    except GuestError:
        return
    inner = sorted((item.start, item.end) for item in table.partitions if not item.is_extended)
    assert all(one[1] < other[0] for one, other in pairwise(inner))
