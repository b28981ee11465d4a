"""Many leave at once: everybody's keys are blocked before anybody's teams are cleaned.

Priorities alone do not see to that: whoever is writing to the store at the moment waits for no slot, and the next
person's tidying would take it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 10.0
"""Seconds after which tidying begins all the same: one person whose calls hang keeps nobody's receipt for longer."""


class Leaver:
    """One person on their way; `blocked` says once that their keys are."""

    def __init__(self, wave: Wave, number: int) -> None:
        self._wave = wave
        self.number = number

    def blocked(self) -> None:
        self._wave.passed(self.number)


class Wave:
    """Who has begun and is not blocked yet. For one event loop."""

    def __init__(self) -> None:
        self._begun = 0
        self._open: set[int] = set()
        self._order: list[int] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @contextmanager
    def joined(self) -> Iterator[Leaver]:
        """Count somebody in until their keys are blocked, or their run is over."""
        self._begun += 1
        number = self._begun
        self._open.add(number)
        heapq.heappush(self._order, number)
        try:
            yield Leaver(self, number)
        finally:
            self.passed(number)

    def passed(self, number: int) -> None:
        self._open.discard(number)
        while self._order and self._order[0] not in self._open:
            heapq.heappop(self._order)
        while self._waiting and (not self._order or self._order[0] > self._waiting[0][0]):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)

    async def all_blocked(self) -> None:
        """Wait until everybody who has begun by now is blocked, for `LONGEST` seconds at most."""
        if not self._order:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._begun, id(turn), turn))
        await asyncio.wait([turn], timeout=LONGEST)
