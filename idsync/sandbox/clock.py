"""The sandbox's time: real, or standing still until a hook moves it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Seconds for cache expiry and the matching wall time for timestamps."""

    def __init__(self, manual: bool = False) -> None:
        self.manual = manual
        self._ahead = 0.0
        self._start = time.monotonic()
        self._epoch = datetime.now(UTC)

    def now(self) -> float:
        """Seconds since the sandbox started."""
        passed = 0.0 if self.manual else time.monotonic() - self._start
        return passed + self._ahead

    def wall(self) -> datetime:
        return self._epoch + timedelta(seconds=self.now())

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


def stamp(moment: datetime | None) -> str | None:
    """ISO 8601 with Z, now in micro- and now in milliseconds, as the real thing varies."""
    if moment is None:
        return None
    precision = "milliseconds" if moment.microsecond % 2 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400}


def parse_duration(text: str) -> timedelta:
    """`30s`, `15m`, `24h`, `7d`, `1mo`. Raises ValueError for anything else."""
    digits = text.rstrip("smhdwo")
    unit = text[len(digits) :]
    if not digits.isdigit() or unit not in _UNITS:
        raise ValueError(f"not a duration: {text!r}")
    return timedelta(seconds=int(digits) * _UNITS[unit])
