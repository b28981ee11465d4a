"""The only place that knows time and chance.

Everything else is handed a `Clock`, so that a test can move hours in an instant and a run can be repeated.
"""

from __future__ import annotations

import random
import secrets
import time
import uuid
from datetime import UTC, date, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for waiting, chance for jitter."""

    def now(self) -> float:
        """Return epoch seconds (UTC)."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards; only differences mean anything."""

    def jitter(self) -> float:
        """Return a number in [0, 1)."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()  # noqa: S311  (spreads retries; decides nothing that needs a secret)


class EvenClock:
    """Wall time that goes evenly: where the other clock is set, it says by how much, and follows when told to.

    So nothing is due too early, and nothing is written in a new time, before what waits was moved along.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.now() - clock.monotonic()

    def now(self) -> float:
        return self._clock.monotonic() + self._offset

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def jitter(self) -> float:
        return self._clock.jitter()

    def strayed(self) -> float:
        """Return by how many seconds the other clock is ahead of this one, negative when it is behind."""
        return self._clock.now() - self.now()

    def follow(self, seconds: float) -> None:
        """Go along with a step of the other clock."""
        self._offset += seconds

    def held(self) -> EvenClock:
        """Return this clock as it goes now, for work that must not see it set before it ends."""
        held = EvenClock(self._clock)
        held._offset = self._offset
        return held

    def ahead_of(self, held: EvenClock) -> float:
        """Return by how many seconds this one was set since."""
        return self._offset - held._offset


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def jitter(self) -> float:
        return 0.5

    def advance(self, seconds: float) -> None:
        self._now += seconds


def new_id() -> str:
    """Return a fresh UUID, the form of every id idsync makes."""
    return str(uuid.uuid4())


def new_secret() -> str:
    """Return 256 random bits as URL-safe text (a bearer token is this behind a prefix)."""
    return secrets.token_urlsafe(32)


def rfc3339(at: float) -> str:
    """Write epoch seconds as RFC 3339 UTC with milliseconds, the form SCIM's meta and our receipts use."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_of(text: str | None) -> float | None:
    """Read RFC 3339, UTC unless it says otherwise; None for what is no such time."""
    try:
        at = datetime.fromisoformat(text or "")
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):  # a time of the year 10000 in UTC could not be written again
        return None


def end_of_day(day: date) -> float:
    """Return the epoch seconds at which a date has ended in UTC: what expires on a day still counts on it."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86400.0


def parse_duration(text: str) -> float:
    """Read `90s`, `10m`, `24h`, `30d`, `500ms` or a bare number of seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    raw = text.strip()
    for suffix in ("ms", "s", "m", "h", "d"):
        number = raw.removesuffix(suffix)
        if number != raw and number.replace(".", "", 1).isdigit():
            return float(number) * units[suffix]
    if raw.replace(".", "", 1).isdigit():
        return float(raw)
    msg = f"{text!r} is not a duration; write it like 90s, 10m, 24h or 30d"
    raise ValueError(msg)
