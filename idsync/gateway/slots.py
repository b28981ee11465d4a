"""How many calls run side by side, and which goes first when there are more: the most urgent, then the oldest.

A thousand people who leave at once are all fenced before the first of their keys is looked at, because a fence ends
every key a person holds with one call.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

FENCE: Final = 0
BLOCK: Final = 1
DELETE: Final = 2
TIDY: Final = 3
PROVE: Final = 4
OTHER: Final = 5
FEWEST = 2
"""Calls that may always run side by side while pushes are answered."""
PACE = 200.0
"""Calls a second that are let run all the same, however slow the gateway is: a push waits for our work, not for its."""
urgency: ContextVar[int] = ContextVar("idsync_gateway_urgency", default=OTHER)
"""How urgent the calls made here are; tasks inherit it. Keys die before anything is tidied or looked at again."""
_together: ContextVar[bool] = ContextVar("idsync_gateway_together", default=False)


class Slots:
    """A semaphore whose waiters are served by urgency. For one event loop."""

    def __init__(self, count: int) -> None:
        self._all = self._free = count
        self._kept_free = count // 4
        """Slots that calls which end nobody's access leave free: what they cost, a push beside them waits for."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._counter = 0
        self._seconds = 0.0
        """How long a slot is held, on the average of late."""
        self.is_busy: Callable[[], bool] = lambda: False
        """Whether pushes are being answered: then only as many calls run as keep the pace."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it; within `together` the one that is held already serves."""
        if _together.get():
            yield
            return
        async with self._held():
            yield

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Hold one slot for several calls, one after the other, so that none of ours comes in between."""
        async with self._held():
            token = _together.set(True)
            try:
                yield
            finally:
                _together.reset(token)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._counter += 1
        heapq.heappush(self._waiting, (urgency.get(), self._counter, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise
        began = loop.time()
        try:
            yield
        finally:
            self._seconds += (loop.time() - began - self._seconds) / 16
            self._give_back()

    def _give_back(self) -> None:
        self._free += 1
        self._let_in()

    def _let_in(self) -> None:
        """Let in whoever may have a slot now, the most urgent first, then the oldest: nobody is passed by."""
        while self._waiting and self._admits(self._waiting[0][0]):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _admits(self, urgent: int) -> bool:
        """Tell whether one more call may be made. Some may always run, and each that ends looks again."""
        kept_free = self._kept_free if urgent >= TIDY else 0
        if self._all - self._free >= max(FEWEST, PACE * self._seconds) and self.is_busy():
            return False
        return self._free > kept_free
