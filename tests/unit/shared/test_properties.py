# SPDX-License-Identifier: GPL-2.0-or-later
"""Image properties: names, values, what overrides what, and what a boolean is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_shared.errors import RequestError
from snf_image_shared.properties import NO, YES, Properties, merge, parse_boolean, parse_properties

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
MAPPINGS = st.dictionaries(NAMES, TEXT, max_size=8)


def parse(text: str) -> dict[str, str]:
    return parse_properties(text, "img_properties")


def spelling(draw: st.DrawFn, name: str) -> str:
    return "".join(draw(st.sampled_from((letter.lower(), letter.upper()))) for letter in name)


@st.composite
def spelt_differently(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """The properties, and the same ones with names in any case."""
    values = draw(MAPPINGS)
    return values, {spelling(draw, name): value for name, value in values.items()}


@pytest.mark.row(107)
@given(spelt_differently())
def test_names_may_be_written_in_any_case(values: tuple[dict[str, str], dict[str, str]]) -> None:
    expected, written = values
    assert parse(json.dumps(written)) == expected


@pytest.mark.row(109)
@given(MAPPINGS, MAPPINGS)
def test_what_the_instance_says_overrides_the_image_key_by_key(image: dict[str, str], instance: dict[str, str]) -> None:
    merged = merge(image, instance).values
    assert set(merged) == set(image) | set(instance)
    for name, value in merged.items():
        assert value == (instance[name] if name in instance else image[name])


@pytest.mark.row(107)
@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (True, "True"), (False, "False"), (1.5, "1.5"), ("x", "x"), ("", ""), (10**9, "1000000000")],
)
def test_a_scalar_is_taken_as_its_text(value: object, text: str) -> None:
    assert parse(json.dumps({"A": value})) == {"A": text}


def test_null_is_as_if_the_property_were_not_there() -> None:
    assert parse('{"A": null, "B": "1"}') == {"B": "1"}


def test_null_for_the_instance_leaves_what_the_image_says() -> None:
    assert merge(parse('{"A": "1"}'), parse('{"a": null}')).text("A") == "1"


def test_control_characters_are_allowed_inside_strings() -> None:
    assert parse('{"A": "one\ntwo\t"}') == {"A": "one\ntwo\t"}


@pytest.mark.row(108)
@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", '"x"', "1", "null", "{", '{"A": 1,}', "{'A': 1}", '{"A": NaN}', '{"A": -Infinity}', "\0"),
        *('{"A": []}', '{"A": {"B": 1}}', '{"A": 1, "A": 1}', '{"A": 1, "a": 1}', '{"A": null, "a": 1}'),
        *(r'{"A": "\u0000"}', r'{"A": "\ud800"}', r'{"A\u0000": 1}', r'{"\udfff": 1}', '{"": 1}', '{"A=B": 1}'),
        *("[" * 100_000, '{"A":' * 100_000, '{"A": ' + "9" * 5000 + "}"),
    ],
    ids=lambda text: text[:20],
)
def test_anything_but_an_object_of_scalars_is_refused_by_name(text: str) -> None:
    with pytest.raises(RequestError, match=r"^OS parameter img_properties: ") as caught:
        parse(text)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@given(st.text(max_size=200))
def test_no_text_is_an_error_of_another_kind(text: str) -> None:
    try:
        parsed = parse(text)
    except RequestError:
        return
    assert all(name == name.upper() for name in parsed)


@pytest.mark.row(111)
@pytest.mark.parametrize("word", sorted(YES))
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, lambda word: f" {word}\n"])
def test_a_word_for_yes_is_yes(word: str, change: Callable[[str], str]) -> None:
    assert parse_boolean(change(word)) == (True, None)


@pytest.mark.row(111)
@pytest.mark.parametrize("word", sorted(NO))
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, lambda word: f" {word}\n"])
def test_a_word_for_no_is_no(word: str, change: Callable[[str], str]) -> None:
    assert parse_boolean(change(word)) == (False, None)


def test_what_is_absent_is_no_and_not_worth_a_word() -> None:
    assert parse_boolean(None) == (False, None)


@pytest.mark.row(111)
def test_what_is_empty_is_no_with_a_warning() -> None:
    assert Properties({"A": ""}).flag("A") is False
    assert Properties({"A": ""}).odd_flags(("A", "B")) == ("Property A: is empty, taken as no; write yes or no",)


@pytest.mark.row(111)
@given(st.text(min_size=1).filter(lambda text: text.strip() and text.strip().lower() not in YES | NO))
def test_any_other_word_is_yes_with_a_warning(word: str) -> None:
    properties = Properties({"A": word})
    assert properties.flag("a") is True
    assert len(properties.odd_flags(("a",))) == 1


def test_an_empty_value_is_no_text() -> None:
    assert Properties({"A": ""}).text("a") is None
    assert Properties({"A": "x"}).text("a") == "x"
