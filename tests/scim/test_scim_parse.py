"""JSON from strangers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scim2_models import InvalidSyntaxException

from idsync.scim import parse

_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names.map(str.lower), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(_values)
def test_what_is_fine_arrives_as_it_is(value: Any) -> None:
    names = json.dumps(value)
    try:
        assert parse.loads(names.encode()) == value
    except InvalidSyntaxException as error:
        assert "twice" in str(error)  # noqa: PT017  (lower() is not idempotent for every letter)


@given(st.binary(max_size=60))
def test_noise_is_a_value_or_a_syntax_error(noise: bytes) -> None:
    try:
        parse.loads(noise)
    except InvalidSyntaxException as error:
        assert error.scim_type == "invalidSyntax"  # noqa: PT017


@pytest.mark.parametrize(("levels", "fine"), [(31, True), (32, True), (33, False), (34, False), (100_000, False)])
def test_depth(levels: int, fine: bool) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        text = opening * levels + "1" + closing * levels
        if fine:
            parse.loads(text)
        else:
            with pytest.raises(InvalidSyntaxException):
                parse.loads(text)


def test_integers_up_to_63_bits() -> None:
    assert parse.loads(str(2**63 - 1)) == 2**63 - 1
    for text in (str(2**63), str(-(2**64)), "9" * 5000):
        with pytest.raises(InvalidSyntaxException):
            parse.loads(text)


def test_a_refusal_never_repeats_the_document() -> None:
    with pytest.raises(InvalidSyntaxException) as caught:
        parse.loads('{"password":"hunter2"')
    assert "hunter2" not in str(caught.value)
