"""What one process alone does at a time, where several share a store: a full pass, a poll of a source, rotations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from idsync.store.db import Store

PAUSE = 0.2
"""Seconds between two tries to take what another process has."""


@asynccontextmanager
async def turn(store: Store, place: str) -> AsyncIterator[None]:
    """Wait until no other process has the place, and have it; one that dies loses it after some seconds.

    Within a process a lock of its own keeps two tasks apart.

    Raises:
        StoreError: the store cannot be written.
    """
    if not store.shared:
        yield
        return
    while not await asyncio.to_thread(store.take_turn, place):  # noqa: ASYNC110 - nothing here learns when it is given back
        await asyncio.sleep(PAUSE)
    try:
        yield
    finally:
        await asyncio.to_thread(store.end_turn, place)
