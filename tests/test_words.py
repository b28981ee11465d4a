"""How numbers, settings, times and lengths of time are written for people."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync import words
from idsync.clock import parse_duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (60.0, "60s"),
        (90.0, "90s"),
        (600.0, "10m"),
        (3600.0, "1h"),
        (86400.0, "24h"),
        (604800.0, "7d"),
        (31 * 86400.0, "31d"),
    ],
)
def test_a_length_of_time_is_written_as_the_file_says_it(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@given(st.one_of(st.integers(0, 10**9).map(float), st.floats(0.001, 10**6).map(lambda seconds: round(seconds, 3))))
def test_what_is_written_is_read_as_the_same(seconds: float) -> None:
    assert parse_duration(words.duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not set"),
        (2000.0, "2000"),
        (0.25, "0.25"),
        (7, "7"),
        (True, "true"),
        ("1mo", "1mo"),
        ("", "empty"),
        ((), "empty"),
        (["gpt-5", "gpt-5-mini"], "gpt-5, gpt-5-mini"),
        ({"b": [1], "a": None}, '{"a": null, "b": [1]}'),
    ],
)
def test_a_setting_has_no_marks_of_the_language_it_is_kept_in(value: Any, said: str) -> None:
    assert words.setting(value) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (words.count(1, "person", "people"), "1 person"),
        (words.count(0, "key"), "0 keys"),
        (words.count(1200, "loss", "losses"), "1,200 losses"),
        (words.at_most(0.0301), "0.1 s"),
        (words.at_most(0.3), "0.3 s"),
        (words.at_most(61.23), "61.3 s"),
        (words.to_the_second("2026-10-24T20:40:23.582113Z"), "2026-10-24T20:40:23Z"),
        (words.to_the_second("2026-10-24T20:40:23.5+00:00"), "2026-10-24T20:40:23+00:00"),
        (words.to_the_second("2026-10-24T20:40:23Z"), "2026-10-24T20:40:23Z"),
        (words.to_the_second("never, or v1.2"), "never, or v1.2"),
    ],
)
def test_counts_limits_and_times(found: str, said: str) -> None:
    assert found == said
