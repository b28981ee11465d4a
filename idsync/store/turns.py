"""What one process alone does at a time, where several share a store: a full pass, a poll of a source, rotations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from idsync.errors import StoreError
from idsync.store.db import Db, Store

T = TypeVar("T")

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
    while not await _taken(store, place):  # noqa: ASYNC110 - nothing here learns when it is given back
        await asyncio.sleep(PAUSE)
    try:
        yield
    finally:
        await asyncio.to_thread(store.end_turn, place)


@asynccontextmanager
async def turn_if_free(store: Store, place: str) -> AsyncIterator[bool]:
    """Have a place as `turn` does, or be told that another process has it.

    Raises:
        StoreError: the store cannot be written.
    """
    free = await _taken(store, place)
    try:
        yield free
    finally:
        if free:
            await asyncio.to_thread(store.end_turn, place)


async def _taken(store: Store, place: str) -> bool:
    """Try to take a place; cancelled meanwhile, it is given back."""
    asked = asyncio.ensure_future(asyncio.to_thread(store.take_turn, place))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        if await asked:
            await asyncio.to_thread(store.end_turn, place)
        raise


def has_turn(db: Db, owner: str, place: str) -> bool:
    """Tell whether a process still has a place: one that stood still has lost its own, and does not know."""
    row = db.one("SELECT replica_id FROM leader WHERE place = :place", place=place) if db.shared else None
    return not db.shared or (row is not None and row["replica_id"] == owner)


def in_turn(store: Store, place: str, work: Callable[[Db], T]) -> Callable[[Db], T]:
    """Return a write that is refused once another process has the place: what was read before may be older than theirs.

    A process that stood still, or could not reach the database for some seconds, has lost its places and does not know.
    """

    def checked(db: Db) -> T:
        if not has_turn(db, store.name, place):
            msg = f"another process has taken over ({place}); what was begun here is left to it"
            raise StoreError(msg)
        return work(db)

    return checked
