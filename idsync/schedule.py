"""A metronome: APScheduler with its memory store. What is due is in our own store; this only says when to look."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

STEP = 1.0
"""Seconds by which the clock has to be set back before anybody hurries."""


class Metronome:
    """Calls coroutines at intervals on the running loop; a beat that is still going swallows the next one."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._ahead = time.time() - time.monotonic()

    def every(
        self, seconds: float, beat: Callable[[], Awaitable[None]], *, jitter: float = 0.0
    ) -> Callable[[float], None]:
        """Call `beat` now and then every so many seconds (at least one), each time up to `jitter` seconds off.

        What is returned gives it another pace, in seconds; the next beat comes that much after the change.
        """

        async def call() -> None:
            with contextlib.suppress(asyncio.CancelledError):  # the daemon stops; the next start beats at once
                await beat()

        def pace(seconds: float) -> dict[str, Any]:
            return {"seconds": max(1.0, seconds), "jitter": int(jitter) or None}

        job = self._scheduler.add_job(call, "interval", **pace(seconds), next_run_time=datetime.now(UTC))
        return lambda changed: job.reschedule("interval", **pace(changed))

    def hurry(self) -> None:
        """Let every beat come now; one that is still going is not begun twice."""
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

    def mind_the_clock(self) -> None:
        """Let every beat come now if the machine's clock was set back: by that clock none would be due for as long."""
        ahead = time.time() - time.monotonic()
        if ahead < self._ahead - STEP:
            self.hurry()
        self._ahead = ahead

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the beats; one under way is not cut off by this."""
        self._scheduler.shutdown(wait=False)
