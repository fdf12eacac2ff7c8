# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/guests.md says what the tests show, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest_matrix.cases import CASES
from guests_page import PAGE, lines, markers, page
from images.guests import DISKS, IMAGES
from images.stacks import STACKS


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(lines()), "run: make guests"


def test_every_stack_and_every_layout_is_booted() -> None:
    booted = [IMAGES[case.image] for case in CASES]
    assert {image.stack for image in booted} == set(STACKS)
    assert {image.disk for image in booted} == set(DISKS)


def test_one_run_of_the_tests_boots_few_guests() -> None:
    assert len([case for case in CASES if case.in_ci]) <= 4


def test_markers_are_read_without_running_the_tests(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text("import nothing_of_that_name\n@pytest.mark.guest(family='A', proven='tree')\ndef test_a(): ...\n")
    assert list(markers(path)) == [("test_a", {"family": "A", "proven": "tree"})]


def test_a_value_that_must_be_computed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text("@pytest.mark.guest(family=FAMILY)\ndef test_a(): ...\n")
    with pytest.raises(ValueError, match="malformed"):
        list(markers(path))
