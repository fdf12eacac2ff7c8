# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/conformance.md says what the tests show, no more and no less."""

from __future__ import annotations

from conformance import PAGE, page, rows, shown


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(rows(), shown()), "run: make conformance"


def test_every_row_is_shown_by_a_test() -> None:
    tests = shown()
    assert [row.number for row in rows() if not tests.get(row.number)] == []


def test_no_test_carries_an_unknown_row() -> None:
    assert set(shown()) - {row.number for row in rows()} == set()
