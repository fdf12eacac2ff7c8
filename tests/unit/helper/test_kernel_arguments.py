# SPDX-License-Identifier: GPL-2.0-or-later
"""Arguments of a kernel among those that a line has already, and their quoting for each reader of that line."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.linux.kernel_arguments import (
    Arguments,
    changed,
    changed_value,
    for_grub,
    for_grub_entry,
    merged,
    parse,
    raw,
    split,
)
from snf_image_shared.errors import GuestError

SERIAL = Arguments(serial=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  quiet\tnosmt ", ("quiet", "nosmt")),
        ("memmap=1G$4G a=b;c d=`e`", ("memmap=1G$4G", "a=b;c", "d=`e`")),
        ('dyndbg="file x.c +p; func y +p" q', ("dyndbg=file x.c +p; func y +p", "q")),
        ('"a=b c"', ("a=b c",)),
    ],
)
def test_words_end_at_blanks_outside_of_double_quotes(text: str, words: tuple[str, ...]) -> None:
    assert parse(text) == words


@pytest.mark.parametrize(
    "text", ["a\nb", "é", "it's", "a\\b", 'a="b', "-quiet", "-- init", '""', "x" * 1025, "a\x1b[2J", "\0"]
)
def test_what_no_boot_loader_can_hand_on_is_refused(text: str) -> None:
    with pytest.raises(GuestError, match="property KERNEL_ARGS"):
        parse(text)


@pytest.mark.parametrize(
    ("line", "words", "wanted"),
    [
        ("ro quiet", ("nosmt",), "ro quiet nosmt"),
        ("ro quiet", ("quiet",), "ro quiet"),
        ("ro net.ifnames=0 quiet", ("net.ifnames=1",), "ro net.ifnames=1 quiet"),
        ("a=1 b a=2", ("a=3",), "a=3 b"),
        ("rd.lvm.lv=vg/root", ("rd.lvm.lv=vg/swap",), "rd.lvm.lv=vg/root rd.lvm.lv=vg/swap"),
        ("console=ttyS1", ("console=hvc0",), "console=ttyS1 console=hvc0"),
        ('x="a b" ${extra}', ("x=c d",), '"x=c d" ${extra}'),
        ('x="a b"', ("x=a b",), 'x="a b"'),
        ("a", (), "a"),
    ],
)
def test_a_word_replaces_the_one_for_the_same_thing(line: str, words: tuple[str, ...], wanted: str) -> None:
    assert " ".join(merged(split(line), Arguments(words), raw)) == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("ro quiet", "ro quiet console=tty0 console=ttyS0,115200"),
        ("console=tty1 console=ttyS0", "console=tty1 console=ttyS0"),
        ("console=ttyS0,115200n8 console=tty0 ro", "console=tty0 ro console=ttyS0,115200"),
        ("console=ttyS0", "console=tty0 console=ttyS0,115200"),
        ("console=hvc0 console=tty0 console=ttyS0,9600", "console=hvc0 console=tty0 console=ttyS0,9600"),
        ("console=ttyS01", "console=ttyS01 console=tty0 console=ttyS0,115200"),
    ],
)
def test_the_serial_port_is_the_last_console_and_the_screen_another(line: str, wanted: str) -> None:
    assert changed_value(line, SERIAL, raw) == wanted


@pytest.mark.parametrize(
    ("line", "fixed", "wanted"),
    [
        ("\tlinux\t/vmlinuz root=x  ro", 2, "\tlinux\t/vmlinuz root=x ro n"),
        ("linux /vmlinuz", 2, "linux /vmlinuz n"),
        ("linux /vmlinuz ro }", 2, "linux /vmlinuz ro n }"),
        ("linux /vmlinuz ro # old", 2, "linux /vmlinuz ro n # old"),
        ("linux /vmlinuz ro ; initrd /i", 2, "linux /vmlinuz ro n ; initrd /i"),
        ("linux /vmlinuz ro \\", 2, "linux /vmlinuz ro n \\"),
        ("options", 1, "options n"),
        ("linux /vmlinuz n  ro", 2, "linux /vmlinuz n  ro"),
    ],
)
def test_a_line_keeps_its_head_and_what_is_no_argument(line: str, fixed: int, wanted: str) -> None:
    assert changed(line, fixed, Arguments(("n",)), raw) == wanted


@pytest.mark.parametrize(
    ("word", "kernel", "grub"),
    [
        ("quiet", "quiet", "quiet"),
        ("a=b c", '"a=b c"', '"a=b c"'),
        ("a=b;c", "a=b;c", '"a=b;c"'),
        ("memmap=1G$4G", "memmap=1G$4G", "'memmap=1G$4G'"),
    ],
)
def test_each_reader_of_a_line_has_its_quotes(word: str, kernel: str, grub: str) -> None:
    assert (raw(word), for_grub(word)) == (kernel, grub)


def test_an_entry_for_grub_cannot_have_a_dollar_sign() -> None:
    with pytest.raises(GuestError, match=r"memmap=1G\$4G"):
        for_grub_entry("memmap=1G$4G")


WORD = st.text(st.sampled_from("abc=,.;|&<>{}()[]$#*?~! -"), min_size=1, max_size=12)


@given(st.lists(WORD, max_size=5), st.lists(WORD, max_size=3), st.booleans())
def test_a_second_time_changes_nothing(words: list[str], old: list[str], serial: bool) -> None:
    wanted = Arguments(tuple(word.strip() for word in words if word.strip("- ")), serial)
    for quote in (raw, for_grub):
        once = changed_value(" ".join(map(quote, old)), wanted, quote)
        assert changed_value(once, wanted, quote) == once


@given(st.lists(WORD.map(str.strip).filter(lambda word: word.strip("-= ")), max_size=5))
def test_quotes_for_grub_are_quotes_for_a_shell_too_and_hold_every_word(words: list[str]) -> None:
    # GRUB's scripts have the quotes of a shell (grub.info, "Quoting").
    assert shlex.split(" ".join(map(for_grub, words))) == words


@pytest.mark.parametrize("text", ["\t" * 300_000, "a" * 300_000, "' " * 100_000, '"' * 300_001])
def test_a_hostile_line_is_read_in_one_go(text: str) -> None:
    assert changed_value(text, Arguments(("n",)), raw)
