"""The thread on which a store's writes are done one after the other, and how work gets to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from idsync.errors import StoreError
from idsync.store.db import Db
from idsync.store.queued import Queue

T = TypeVar("T")


class Writing:
    """What stores have in common: a queue, and one thread that takes from it until it is closed."""

    def __init__(self) -> None:
        self._queue = Queue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        """Queue a write; the future resolves after it is on disk, or with what `run` raised after it was undone.

        What is `urgent` (a client waits for the answer) goes before other work, but never before more than
        `HEAD_START` pieces of it: nothing waits for ever.
        """
        future: Future[T] = Future()
        with self._guard:
            if self._thread is None:
                future.set_exception(StoreError("the store is closed"))
            else:
                self._queue.put(run, future, urgent=urgent)
        return future

    def write(self, run: Callable[[Db], T]) -> T:
        """Write and wait. Not for an event loop."""
        return self.submit(run).result()

    def _start(self, work: Callable[[], None]) -> None:
        self._queue = Queue()
        self._thread = threading.Thread(target=work, name="idsync-writer", daemon=True)
        self._thread.start()

    def _finish(self) -> None:
        """Let the thread do what was accepted, and wait for its end."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.end()
        if thread is not None:
            thread.join()
