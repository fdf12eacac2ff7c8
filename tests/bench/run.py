# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: the helper, the copy and archives beside their peers, as ratios of paired measurements."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bench import archive_bench, copy_bench, helper_bench
from bench.ratios import Table

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the benchmarks. Rounds are few by default: a figure is worth as much as its quartiles are close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of the helper, a minute or two each (%(default)s)")
    parser.add_argument("--archive-rounds", type=int, default=3, help="of archives, some minutes each (%(default)s)")
    parser.add_argument("--copy-rounds", type=int, default=5, help="of the copy (%(default)s)")
    options = parser.parse_args()
    if missing := [program for program in ("virt-customize", "virt-make-fs", "dump") if not shutil.which(program)]:
        sys.exit(f"{', '.join(missing)} is missing; run: apt install libguestfs-tools linux-image-cloud-amd64 dump")
    results = PROJECT / "bench-results"
    copies, helpers, archives = Table(), Table(), Table()
    copy_bench.measure(Path("/var/tmp"), options.copy_rounds, copies)
    _publish("copy", copies, results)
    helper_bench.measure(PROJECT / ".cache", options.rounds, helpers)
    _publish("helper", helpers, results)
    archive_bench.measure(PROJECT / ".cache", options.archive_rounds, archives)
    _publish("archives", archives, results)
    print(f"\nAll pairs are in {results}.")


def _publish(name: str, table: Table, results: Path) -> None:
    print(f"\n{name}\n{table.text()}", flush=True)
    table.save(results / f"{name}.json")


if __name__ == "__main__":
    main()
