"""How fast Okta is asked: never more than a share of each bucket, by what its own answers say of it.

A bucket counts the requests of a window of 60 seconds that nobody knows the beginning of. Every answer says how many
it takes, how many are left and when it is filled again. Waits are the difference between that time and the answer's
own Date, so a wrong clock on either side changes nothing. While a bucket is not known (at the start, and after each
window) one request alone finds out. https://developer.okta.com/docs/reference/rate-limits/
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

from idsync.clock import Clock

LONGEST_WAIT = 300.0
"""Seconds after which a bucket is asked again, wherever it says it will be filled: windows are of 60."""
MOST_BACK_OFF = 60.0

Sleep = Callable[[float], Awaitable[None]]


class Bucket:
    """The requests of one endpoint. `share` of what it takes is ours, and only while that much is left of it."""

    def __init__(self, share: float, clock: Clock, sleep: Sleep) -> None:
        self._share = share
        self._clock = clock
        self._sleep = sleep
        self._ours: int | None = None
        self._reset: float | None = None
        self._until = 0.0
        self._closed_until = 0.0
        self._in_flight = 0
        self._news = asyncio.Event()

    async def enter(self) -> None:
        """Wait until a request may be sent. Each `enter` is followed by one `leave`."""
        while (wait := self._wait()) is not None:
            if wait > 0:
                await self._sleep(wait)
            else:
                await self._news.wait()
        self._in_flight += 1

    def leave(self) -> None:
        self._in_flight -= 1
        self._news.set()
        self._news = asyncio.Event()

    def learn(self, headers: Mapping[str, str]) -> None:
        """Note what an answer says of the bucket; silence leaves it unknown, so that one request goes at a time."""
        limit, left, reset, date = _said(headers)
        if limit is None or left is None or reset is None or date is None or limit <= 0:
            return
        ours = int(left) - math.ceil(limit * (1.0 - self._share))
        if self._reset is None or self._ours is None or reset > self._reset:
            self._ours, self._reset = ours, reset
        elif reset == self._reset:
            self._ours = min(ours, self._ours)
        self._until = self._clock.monotonic() + self._pause(reset - date)

    def close(self, headers: Mapping[str, str], refusals: int) -> float:
        """After a 429: nothing is sent until the bucket is filled again. Return the seconds.

        The one about too many requests at the same time has a limit of 0 and no time to wait for: back off.
        """
        limit, _left, reset, date = _said(headers)
        if limit and reset is not None and date is not None:
            seconds = self._pause(reset - date)
        else:
            seconds = self.back_off(refusals)
        self._closed_until = max(self._closed_until, self._clock.monotonic() + seconds)
        return seconds

    def back_off(self, refusals: int) -> float:
        """Return the seconds to wait after so many refusals that did not say how long."""
        return float(min(MOST_BACK_OFF, 2.0**refusals)) * (0.5 + self._clock.jitter())

    def _pause(self, seconds: float) -> float:
        return min(max(seconds, 0.0), LONGEST_WAIT) + 1.0 + self._clock.jitter()

    def _wait(self) -> float | None:
        """Return None: go; 0: wait for an answer that is under way; else the seconds to wait."""
        now = self._clock.monotonic()
        if self._closed_until > now:
            return self._closed_until - now
        if self._ours is not None and now >= self._until:
            self._ours = None
        if self._ours is None:
            return 0.0 if self._in_flight else None
        if self._ours > self._in_flight:
            return None
        return 0.0 if self._in_flight else self._until - now


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the server's own time of an answer, epoch seconds."""
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    return None


def _said(headers: Mapping[str, str]) -> tuple[float | None, float | None, float | None, float | None]:
    names = ("X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset")
    limit, left, reset = (_number(headers.get(name, "")) for name in names)
    return limit, left, reset, date_of(headers)


def _number(given: str) -> float | None:
    """Return the smallest of the numbers of a header, which may be there several times."""
    found = [part.strip() for part in given.split(",")]
    return float(min(map(int, found))) if all(part.isascii() and part.isdigit() for part in found) else None
