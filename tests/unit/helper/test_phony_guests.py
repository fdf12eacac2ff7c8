# SPDX-License-Identifier: GPL-2.0-or-later
"""The phony guests themselves: each says where its facts come from, and can be laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from phony_guests import PHONY


@pytest.mark.parametrize("name", PHONY)
def test_every_entry_of_a_phony_guest_has_a_source(name: str) -> None:
    assert name.startswith("phony-")
    for part in PHONY[name].parts:
        assert len(part.source) > 10
        assert part.entries


@pytest.mark.parametrize("name", PHONY)
def test_a_phony_guest_is_laid_out_without_leaving_its_root(tmp_path: Path, name: str) -> None:
    root = PHONY[name].make(tmp_path / "guest")
    for entry in PHONY[name].entries:
        assert (root / entry.path.lstrip("/")).lstat()
        assert (root / entry.path.lstrip("/")).parent.resolve().is_relative_to(root)
