"""Pieces of work for a store, and several of them in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from idsync.store import facts
from idsync.store.db import Db, Store

SOON = 10.0
"""Seconds that nothing here comes near; a wait that long is a failure."""


def put(name: str, value: object = 1) -> Callable[[Db], None]:
    return lambda db: facts.put(db, name, value, 0.0)


def names(db: Db) -> set[str]:
    return set(facts.under(db, ""))


@contextmanager
def one_batch(store: Store) -> Iterator[Future[None]]:
    """Keep the writer inside a transaction until the block ends: what is submitted meanwhile joins its batch."""
    begun, go = threading.Event(), threading.Event()

    def block(db: Db) -> None:
        facts.put(db, "first", 1, 0.0)
        begun.set()
        go.wait(SOON)

    first = store.submit(block)
    assert begun.wait(SOON)
    try:
        yield first
    finally:
        go.set()
