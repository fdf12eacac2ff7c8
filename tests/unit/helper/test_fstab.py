# SPDX-License-Identifier: GPL-2.0-or-later
"""fstab as honest and as hostile people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.fstab import MAX_MOUNTS, Entry, local_mounts, parse, root_entry
from snf_image_shared.errors import GuestError

DEBIAN = """\
# /etc/fstab: static file system information.
UUID=0a1b / ext4 errors=remount-ro 0 1
UUID=AB-CD\t/boot/efi\tvfat\tumask=0077 0 1
/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0
"""


def places(text: str) -> list[str]:
    return [entry.mount_point for entry in local_mounts(parse(text)[0])[0]]


def test_a_debian_fstab_is_understood() -> None:
    entries, problems = parse(DEBIAN)
    assert problems == ()
    assert entries[1] == Entry("UUID=AB-CD", "/boot/efi", "vfat", ("umask=0077",))


def test_octal_escapes_are_undone() -> None:
    (entry,), _ = parse("LABEL=my\\040disk /srv/a\\011b\\134c\\303\\251 ext4")
    assert (entry.device, entry.mount_point) == ("LABEL=my disk", "/srv/a\tb\\c\u00e9")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n  # here\n"])
def test_a_fstab_of_comments_is_empty(text: str) -> None:
    assert parse(text) == ((), ())


def test_a_broken_line_is_skipped_with_a_warning() -> None:
    entries, problems = parse("garbage\nUUID=1 /data ext4\n")
    assert [entry.mount_point for entry in entries] == ["/data"]
    assert problems == ("/etc/fstab line 1 is broken and skipped",)


def test_a_thousand_broken_lines_make_few_warnings() -> None:
    assert len(parse("x\n" * 1000)[1]) < 20


def test_the_root_is_found_however_it_is_written() -> None:
    found = root_entry(parse("UUID=1 // btrfs subvol=@,subvol=@new\n")[0])
    assert found is not None
    assert found.value("subvol") == "@new"


def test_parents_come_before_children() -> None:
    text = "UUID=3 /boot/efi vfat\nUUID=4 /a-b ext4\nUUID=2 /boot ext4\nUUID=5 /a/z ext4\nUUID=5 /a ext4"
    assert places(text) == ["/a", "/a/z", "/a-b", "/boot", "/boot/efi"]


@pytest.mark.parametrize(
    "line",
    [
        "UUID=1 none swap sw",
        "proc /proc proc defaults",
        "tmpfs /tmp tmpfs defaults",
        "UUID=1 /data ext4 noauto",
        "UUID=1 / ext4 defaults",
        "server:/export /data nfs defaults",
        "/host /data none bind",
        "/data /srv ext4 rbind",
        "overlay /o overlay lowerdir=/a",
        "/dev/fd0 /media/floppy auto",
        "UUID=1 data ext4",
    ],
)
def test_what_is_not_on_the_disk_is_not_mounted(line: str) -> None:
    assert places(line) == []


@pytest.mark.parametrize("line", ["server:/export /data nfs x", "/host /data none bind", "UUID=1 data ext4"])
def test_what_might_surprise_is_said(line: str) -> None:
    assert len(local_mounts(parse(line)[0])[1]) == 1


def test_the_second_line_of_a_mount_point_is_skipped() -> None:
    mounts, warnings = local_mounts(parse("UUID=1 /data ext4\nUUID=2 /data/ ext4\n")[0])
    assert [entry.device for entry in mounts] == ["UUID=1"]
    assert "same mount point" in warnings[0]


def test_ten_thousand_mounts_are_refused() -> None:
    text = "".join(f"UUID=1 /{number} ext4\n" for number in range(10_000))
    with pytest.raises(GuestError, match=f"more than {MAX_MOUNTS}"):
        local_mounts(parse(text)[0])


def test_a_control_character_does_not_reach_a_message() -> None:
    warnings = local_mounts(parse("a /x\x1b[2Jy nfs")[0])[1]
    assert warnings[0].isprintable()


words = st.text(st.characters(codec="utf-8"), max_size=12)
lines = st.lists(st.sampled_from(["UUID=1", "/", "/boot", "ext4", "swap", "\\040", "\\777", "..", "#", "\0"]) | words)


@given(st.lists(lines.map(" ".join), max_size=20).map("\n".join))
def test_any_text_is_parsed_and_what_is_mounted_lies_below_the_root(text: str) -> None:
    mounts, _ = local_mounts(parse(text)[0])
    assert all(entry.mount_point.startswith("/") and entry.place and ".." not in entry.place for entry in mounts)


plain = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1, max_size=12)


@given(plain, plain)
def test_an_escaped_field_comes_back(device: str, name: str) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{byte:03o}" for byte in text.encode())

    (entry,), _ = parse(f"{escaped(device)} /{escaped(name)} ext4")
    assert (entry.device, entry.mount_point) == (device, f"/{name}")
