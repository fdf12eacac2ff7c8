# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/conformance.md says what the tests show, no more and no less."""

from __future__ import annotations

import pytest

from conformance import CHECKLISTS, PAGE, Checklist, page, rows, shown

EACH = pytest.mark.parametrize("checklist", CHECKLISTS, ids=[checklist.marker for checklist in CHECKLISTS])


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make conformance"


@EACH
def test_every_row_is_shown_by_a_test_or_said_to_be_missing(checklist: Checklist) -> None:
    tests = shown(checklist)
    assert [row.number for row in rows(checklist) if not tests.get(row.number) and not row.missing] == []


@EACH
def test_no_test_carries_an_unknown_row(checklist: Checklist) -> None:
    assert set(shown(checklist)) - {row.number for row in rows(checklist)} == set()


def test_the_checklist_of_instance_image_has_its_ninety_nine_rows() -> None:
    assert [row.number for row in rows(CHECKLISTS[1])] == list(range(1, 100))
