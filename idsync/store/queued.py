"""What waits for the writer: in the order it came, but for what somebody waits for, which goes before other work."""

from __future__ import annotations

import contextlib
import itertools
import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from idsync.store.db import Db

HEAD_START = 500
"""How many pieces of work that were queued before may be overtaken by one whose answer somebody waits for."""


@dataclass
class Work:
    """A write in the queue. `number` counts them as they come."""

    number: int
    run: Callable[[Db], Any]
    future: Future[Any]
    urgent: bool


class Queue:
    """What waits for the writer. Anybody puts; the writer alone takes, and sorts what has come by itself.

    Of what is urgent and what is not, each is taken in its order; an urgent piece goes before at most `HEAD_START` others.
    """

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._urgent: deque[Work] = deque()
        self._others: deque[Work] = deque()
        self._numbers = itertools.count()
        self._is_last = False

    def put(self, run: Callable[[Db], Any], future: Future[Any], *, urgent: bool) -> None:
        self._came.put(Work(next(self._numbers), run, future, urgent))

    def end(self) -> None:
        """Let the writer stop after all that was put before."""
        self._came.put(None)

    def wait(self, seconds: float | None) -> bool:
        """Wait for work; False when there is none and none will come.

        Raises:
            queue.Empty: nothing came in time.
        """
        self._sort()
        if not self._urgent and not self._others and not self._is_last:
            self._sort_one(self._came.get(timeout=seconds))
        return bool(self._urgent or self._others)

    def is_empty(self) -> bool:
        """Tell whether nothing waits now."""
        self._sort()
        return not self._urgent and not self._others

    def take(self, *, only_urgent: bool = False) -> Work | None:
        """Return the next piece of work, None when there is none now."""
        self._sort()
        if self._urgent and (not self._others or self._urgent[0].number - HEAD_START < self._others[0].number):
            return self._urgent.popleft()
        return self._others.popleft() if self._others and not only_urgent else None

    def _sort(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._sort_one(self._came.get_nowait())

    def _sort_one(self, work: Work | None) -> None:
        if work is None:
            self._is_last = True
        else:
            (self._urgent if work.urgent else self._others).append(work)
