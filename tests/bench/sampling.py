# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run and all its processes use, looked up in /proc again and again while it lasts.

The kernel's own account of children misses those that a jail kills at its end; ours has a jail.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_INTERVAL = 0.03  # seconds
_TICK = os.sysconf("SC_CLK_TCK")


class Sampler:
    """`processors` are seconds of all processes below `roots`; `memory` is the most MiB they ever had together.

    Of memory that several processes share each has its part.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self.memory = 0.0
        self._roots = frozenset(roots)
        self._ticks: dict[int, int] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def processors(self) -> float:
        """As far as it was seen."""
        return sum(self._ticks.values()) / _TICK

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        processes = dict(_processes())
        memory = 0.0
        for pid, (_, ticks) in processes.items():
            if self._is_ours(pid, processes):
                self._ticks[pid] = ticks
                memory += _memory(pid)
        self.memory = max(self.memory, memory)

    def _is_ours(self, pid: int, processes: dict[int, tuple[int, int]]) -> bool:
        while pid not in self._roots:
            if pid not in processes:
                return False
            pid = processes[pid][0]
        return True


def _processes() -> Iterable[tuple[int, tuple[int, int]]]:
    """Of each process its parent, and its ticks of processor time without its children's."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), (int(fields[1]), int(fields[11]) + int(fields[12]))


def _memory(pid: int) -> float:
    """MiB of a process, and 0 of one that has ended."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024
    return 0.0
