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
from types import TracebackType
from typing import Final

FENCE: Final = 0
BLOCK: Final = 1
DELETE: Final = 2
TIDY: Final = 3
PROVE: Final = 4
OTHER: Final = 5
FEW = 2
"""Calls that run side by side while pushes are being answered: the pushes take no longer for it all together."""
urgency: ContextVar[int] = ContextVar("idsync_gateway_urgency", default=OTHER)
"""How urgent the calls made here are; tasks inherit it. Keys die before anything is tidied or looked at again."""
_together: ContextVar[bool] = ContextVar("idsync_gateway_together", default=False)


class Slots:
    """A semaphore whose waiters are served by urgency. For one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._kept_free = count // 4
        """Slots that calls which end nobody's access leave free: what they cost, a push beside them waits for."""
        self._all = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._counter = 0
        self.is_busy: Callable[[], bool] = lambda: False
        """Whether somebody else waits for this process now: then only a few calls run side by side."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it; within `together` the one that is held already serves."""
        if _together.get():
            yield
            return
        async with self:
            yield

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Hold one slot for several calls, one after the other, so that none of ours comes in between."""
        async with self:
            token = _together.set(True)
            try:
                yield
            finally:
                _together.reset(token)

    async def __aenter__(self) -> None:
        if self._admits(urgency.get()):
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._counter += 1
        heapq.heappush(self._waiting, (urgency.get(), self._counter, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hand_on()

    def _admits(self, urgent: int) -> bool:
        """Tell whether one more call may be made. Of none under way there may always be one, so nothing waits for ever."""
        kept_free = self._kept_free if urgent >= TIDY else 0
        if self._all - self._free >= FEW and self.is_busy():
            return False
        return self._free > kept_free

    def _hand_on(self) -> None:
        """Give a slot back, and let in whoever may have one now; the most urgent stand first."""
        self._free += 1
        while self._waiting and self._admits(self._waiting[0][0]):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
