"""Whatever the gateway sends, what comes out is a value or one of our errors, and holds no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.errors import BadAnswer, GatewayError
from idsync.gateway.answers import Answer, clean, error_of, json_of
from idsync.gateway.parse import key_from, team_from, user_from

FIELDS = st.sampled_from(
    ["user_id", "user_info", "info", "team_info", "token", "key", "metadata", "members_with_roles", "teams", "blocked",
     "status", "spend", "models", "error", "detail", "message", "type"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("sk-secret-secret")
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=20
)


@pytest.mark.parametrize("read", [user_from, key_from, team_from])
@given(value=JSON)
def test_a_row_is_read_or_refused(read: Callable[[Any], Any], value: Any) -> None:
    try:
        read(value)
    except BadAnswer:
        return


@given(status=st.integers(100, 599), value=JSON, after=st.text(max_size=20))
def test_an_answer_is_judged(status: int, value: Any, after: str) -> None:
    answer = Answer(status, {"Retry-After": after, "Location": after}, json.dumps(value).encode())
    error = error_of(answer, now=0.0)
    assert (error is None) == (200 <= status < 300)
    assert "sk-secret" not in str(error)
    assert error is None or str(error).isprintable()


@given(body=st.binary(max_size=64))
def test_bytes_are_json_or_refused(body: bytes) -> None:
    said = ""
    try:
        json_of(Answer(200, {}, body))
    except GatewayError as error:
        said = str(error)
    assert said.isprintable()


@given(before=st.text(), after=st.text(), limit=st.integers(1, 300))
def test_cleaned_text_is_short_and_shows_no_key(before: str, after: str, limit: int) -> None:
    text = clean(f"{before} sk-secret-secret {after}", limit=limit)
    assert len(text) <= limit
    assert text.isprintable()
    assert "sk-secret" not in text
