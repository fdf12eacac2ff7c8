# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: the helper and the copy beside their peers, as ratios of paired measurements."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bench import copy_bench, helper_bench
from bench.ratios import Table

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run both benchmarks. Rounds are few by default: a figure is worth as much as its quartiles are close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of the helper, a minute or two each (%(default)s)")
    parser.add_argument("--copy-rounds", type=int, default=5, help="of the copy (%(default)s)")
    options = parser.parse_args()
    if not shutil.which("virt-customize"):
        sys.exit("virt-customize is missing; run: apt install libguestfs-tools linux-image-cloud-amd64")
    results = PROJECT / "bench-results"
    copies, helpers = Table(), Table()
    copy_bench.measure(Path("/var/tmp"), options.copy_rounds, copies)
    _publish("copy", copies, results)
    helper_bench.measure(PROJECT / ".cache", options.rounds, helpers)
    _publish("helper", helpers, results)
    print(f"\nAll pairs are in {results}.")


def _publish(name: str, table: Table, results: Path) -> None:
    print(f"\n{name}\n{table.text()}", flush=True)
    table.save(results / f"{name}.json")


if __name__ == "__main__":
    main()
