# SPDX-License-Identifier: GPL-2.0-or-later
"""The key of the Debian root changes with all that is in it."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from snf_image_helper_builder.recipe import Recipe

RECIPE = Recipe("trixie")


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_each_field_is_in_the_key(name: str) -> None:
    match getattr(RECIPE, name):
        case int(number):
            changed: object = number + 1
        case str(text):
            changed = text + "x"
        case tuple(items):
            changed = (*items, "x")
    other = Recipe(**{**asdict(RECIPE), name: changed})
    assert other.key() != RECIPE.key()


def test_the_same_recipe_has_the_same_key() -> None:
    assert Recipe("trixie").key() == RECIPE.key()


def test_nothing_in_the_root_is_named_twice() -> None:
    for names in (RECIPE.packages, RECIPE.removed, RECIPE.modules_kept, RECIPE.modules_dropped):
        assert len(set(names)) == len(names)


def test_no_pattern_reaches_out_of_the_root() -> None:
    assert not [name for name in RECIPE.removed if name.startswith("/") or ".." in name.split("/")]
