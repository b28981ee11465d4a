"""The one place that knows time: durations, dates, RFC 3339, and a clock that stands still."""

from __future__ import annotations

import contextlib
import re
import uuid
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.clock import ManualClock, SystemClock, end_of_day, new_id, new_secret, parse_duration, rfc3339


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("24h", 86400.0),
        ("30d", 2592000.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        (" 10s ", 10.0),
        ("12.5", 12.5),
    ],
)
def test_a_duration_is_a_number_with_a_unit_or_of_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "m", "soon", "-5s", "-5", "1w", "1h30m", "10 m x", "1e3s", "inf", "nan", "."]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write it like 90s, 10m, 24h or 30d"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.5, "2027-01-15T08:00:00.500Z"),
        (951_782_400.0, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_times_are_written_as_rfc_3339_in_utc_with_milliseconds(at: float, text: str) -> None:
    assert rfc3339(at) == text


def test_what_expires_on_a_day_still_counts_on_it() -> None:
    assert rfc3339(end_of_day(date(2026, 12, 31))) == "2027-01-01T00:00:00.000Z"


def test_a_manual_clock_moves_only_when_told_to() -> None:
    clock = ManualClock(100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 100.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 102.5)
    assert 0.0 <= clock.jitter() < 1.0


def test_the_clock_of_the_machine_never_runs_backwards() -> None:
    clock = SystemClock()
    seen = [clock.monotonic() for _ in range(100)]
    assert seen == sorted(seen)
    assert clock.now() > 1_700_000_000
    assert all(0.0 <= clock.jitter() < 1.0 for _ in range(100))


def test_ids_are_uuids_and_secrets_are_256_bits_of_url_safe_text() -> None:
    assert str(uuid.UUID(new_id())) != new_id()
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)
