# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings that are a program with options of its own, KVM and CURL: text -> words, without a shell."""

from __future__ import annotations

import shlex

# What the helper VM decides for itself: HELPER_ACCEL the accelerator and with it the processor, the jail the user.
# A second -machine would be merged with ours ("accel=" in it then excludes -accel), and -snapshot, -S and -daemonize
# would let a run end, hang or seem to end without its work done.
_NOT_FOR_HELPER = {"accel": 1, "machine": 1, "M": 1, "cpu": 1, "runas": 1, "run-with": 1}
_NOT_FOR_HELPER |= {"enable-kvm": 0, "no-kvm": 0, "snapshot": 0, "daemonize": 0, "S": 0}


def words(setting: str) -> tuple[str, ...]:
    """The program and its options, quoted as for a shell. Raises ValueError for a quote without an end, or no word."""
    found = tuple(shlex.split(setting))
    if not found:
        raise ValueError("no program is named")
    return found


def qemu_words(setting: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The setting KVM: the words that the helper VM is started with, and those that are left out. Raises ValueError.

    `qemu-system-x86_64 -enable-kvm -machine pc,accel=kvm`, as existing configurations have it, must start one that is
    emulated too.
    """
    program, *options = words(setting)
    kept, left_out = [program], list[str]()
    while options:
        word = options.pop(0)
        values = _NOT_FOR_HELPER.get(word.removeprefix("-").removeprefix("-")) if word.startswith("-") else None
        if values is None:
            kept.append(word)
        else:
            left_out += [word, *options[:values]]
            del options[:values]
    return tuple(kept), tuple(left_out)
