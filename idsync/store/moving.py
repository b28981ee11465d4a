"""`idsync db copy`: from one address to another, each a file or a shared database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from idsync.errors import UsageError
from idsync.store import sqlite_copy
from idsync.store.address import is_shared
from idsync.store.copying import Copied, Copy, Source, Step, Target
from idsync.store.opening import needs_psycopg, shown
from idsync.store.sqlite import path_of

Password = Callable[[], str] | None


def move(
    source: str,
    target: str,
    *,
    passwords: tuple[Password, Password] = (None, None),
    at: float,
    by: str,
    tell: Callable[[Step], None] = lambda step: None,
) -> Copied:
    """Copy a store into another one, compare them, and freeze the old one.

    `passwords` are those of shared databases that are not left to libpq's own ways. `at` is epoch seconds.

    Raises:
        UsageError: both addresses are the same, or one is of no kind that is known.
        StoreBusy: a process uses one of the stores.
        StoreError: there is nothing to copy, the target has content, or the copy is not equal; nothing was moved then.
    """
    if _same(source, target):
        raise UsageError("both addresses are those of the same store")
    with source_of(source, passwords[0]) as have, target_of(target, passwords[1]) as made:
        return Copy(have, made, (shown(source), shown(target)), tell).run(at=at, by=by)


def _same(source: str, target: str) -> bool:
    if is_shared(source) or is_shared(target):
        return shown(source) == shown(target)
    return path_of(source).resolve() == path_of(target).resolve()


def source_of(url: str, password: Password) -> AbstractContextManager[Source]:
    """Return what a store is read by, its lock or locks taken."""
    if not is_shared(url):
        return sqlite_copy.source(url)
    with needs_psycopg():
        from idsync.store import postgres_copy
    return postgres_copy.source(url, password)


def target_of(url: str, password: Password) -> AbstractContextManager[Target]:
    """Return what a store is made by."""
    if not is_shared(url):
        return sqlite_copy.target(url)
    with needs_psycopg():
        from idsync.store import postgres_copy
    return postgres_copy.target(url, password)
