# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs with options of their own, as existing configurations name them, before the real QEMU."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.programs import qemu_words, words

# What the helper VM's own list begins with; test_qemu.py holds the whole of it.
OURS = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,usb=off,vmport=off"]
OURS += ["-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1", "-m", "128", "-nic", "none", "-S", "-qmp", "stdio"]
OURS += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_quoted_words_are_the_words(program: list[str]) -> None:
    assert words(shlex.join(program)) == tuple(program)


@pytest.mark.parametrize("setting", ["", "  ", "'x", 'kvm "', "kvm \\"])
def test_what_is_no_command_line_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"no program is named|No closing quotation|No escaped character"):
        words(setting)


@pytest.mark.row(36)
@pytest.mark.parametrize(
    ("setting", "kept", "left_out"),
    [
        ("kvm", "kvm", ""),
        ("kvm -name x", "kvm -name x", ""),
        ("kvm -enable-kvm -name x", "kvm -name x", "-enable-kvm"),
        ("kvm -machine pc,accel=kvm -m 9 -M q35", "kvm -m 9", "-machine pc,accel=kvm -M q35"),
        ("kvm --accel kvm --cpu host --enable-kvm", "kvm", "--accel kvm --cpu host --enable-kvm"),
        ("-S machine", "-S machine", ""),
        ("kvm -snapshot -daemonize -S -runas nobody", "kvm", "-snapshot -daemonize -S -runas nobody"),
        ("kvm -accel", "kvm", "-accel"),
    ],
)
def test_what_the_helper_vm_decides_itself_is_left_out(setting: str, kept: str, left_out: str) -> None:
    assert tuple(map(" ".join, qemu_words(setting))) == (kept, left_out)


@pytest.mark.row(36)
@pytest.mark.parametrize(
    "setting",
    [
        "qemu-system-x86_64 -enable-kvm -machine pc-i440fx-2.1,accel=kvm",
        "qemu-system-x86_64 -machine accel=kvm -cpu host -m 2048 -smp 4 -nographic -vga none -runas nobody",
        "qemu-system-x86_64 -accel kvm -snapshot -name 'a b'",
    ],
)
def test_the_real_qemu_starts_with_what_old_configurations_say_even_where_it_emulates(setting: str) -> None:
    said = subprocess.run(
        [*qemu_words(setting)[0], *OURS],
        input='{"execute": "qmp_capabilities"}\n{"execute": "query-kvm"}\n{"execute": "quit"}\n',
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer["return"]["enabled"] for answer in answers if answer.get("return")] == [False]
