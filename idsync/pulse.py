"""When each part of the daemon was last seen at work. In memory: after a restart nothing has been seen yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

LATE = 60.0
"""Seconds beside its own pace after which a beat that did not end is late, the third time."""


@dataclass
class Beat:
    """Something done regularly. Times are epoch seconds; `pace` returns seconds, 0.0: only when asked for."""

    name: str
    pace: Callable[[], float]
    since: float
    began_at: float | None = None
    ended_at: float | None = None

    def is_late(self, now: float) -> bool:
        last = self.ended_at if self.ended_at is not None else self.since
        return now - last > 3 * self.pace() + LATE


class Pulse:
    """What has answered, and when. `now` returns epoch seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.started_at = now()
        self.beats: dict[str, Beat] = {}
        self.gateway_answered_at: float | None = None
        self.gateway_failed: tuple[float, str] | None = None
        """When the gateway last gave no usable answer, and what it was; None: it has answered since."""
        self.chain: tuple[float, bool] | None = None
        """When the audit trail was last checked, and whether it was whole."""

    def gateway(self, code: int | str) -> None:
        """Note an answer of the gateway: one that refuses a call is an answer, unless it refuses our own key."""
        if isinstance(code, int) and code < 500 and code not in {401, 403, 429}:
            self.gateway_answered_at, self.gateway_failed = self._now(), None
        else:
            self.gateway_failed = (self._now(), str(code))

    def checked_chain(self, *, whole: bool) -> None:
        self.chain = (self._now(), whole)

    def timed(
        self, name: str, pace: Callable[[], float], beat: Callable[[], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        """Return a beat that leaves a note of when it began and ended, however it ended."""
        known = self.beats[name] = Beat(name, pace, self._now())

        async def call() -> None:
            known.began_at = self._now()
            try:
                await beat()
            finally:
                known.ended_at = self._now()

        return call
