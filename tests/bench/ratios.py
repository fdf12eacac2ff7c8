# SPDX-License-Identifier: GPL-2.0-or-later
"""Ratios of paired measurements: the only figures of a benchmark that mean anything on a machine one does not own."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Table:
    """Rows of pairs of seconds that were measured one right after the other. The ratio is the first by the second."""

    rows: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, row: str, seconds: float, reference: float) -> None:
        """One more pair."""
        self.rows.setdefault(row, []).append((seconds, reference))

    def text(self) -> str:
        """The table for a person: medians of the seconds, median and quartiles of the paired ratios."""
        lines = [f"{'':<44} {'seconds':>9} {'reference':>9} {'ratio':>7} {'quartiles':>15} {'n':>3}"]
        for row, pairs in self.rows.items():
            low, middle, high = quartiles([first / second for first, second in pairs])
            first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
            lines.append(
                f"{row:<44} {first:9.2f} {second:9.2f} {middle:7.2f} {f'{low:.2f} - {high:.2f}':>15} {len(pairs):3}"
            )
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """All pairs as JSON, with what the machine is."""
        thp = Path("/sys/kernel/mm/transparent_hugepage/enabled")
        document = {
            "kernel": platform.release(),
            "transparent_hugepage": thp.read_text().strip() if thp.exists() else None,
            "pairs": self.rows,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value all three are that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
