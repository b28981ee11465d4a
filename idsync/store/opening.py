"""Stores by their address: `sqlite:///` is a file of one process, `postgresql://` a database that many share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from idsync.errors import StoreError
from idsync.store import sqlite
from idsync.store.address import Address, is_shared
from idsync.store.db import Db, Inspection, Store
from idsync.store.scripts import Left, left

if TYPE_CHECKING:
    from types import ModuleType

MISSING = "store.url is a PostgreSQL address, for which psycopg is not installed; pip install 'idsync[postgres]'"


@contextmanager
def needs_psycopg() -> Iterator[None]:
    """Say what is not installed.

    Raises:
        StoreError: the extra is not there.
    """
    try:
        yield
    except ImportError as error:
        raise StoreError(MISSING) from error


def _postgres() -> ModuleType:
    with needs_psycopg():
        from idsync.store import postgres
    return postgres


def store_of(url: str, *, password: Callable[[], str] | None = None, role: str = "all") -> Store:
    """Return the store of an address, not opened yet.

    Raises:
        StoreError: the address is of no kind that is known, or what it needs is not installed.
    """
    if is_shared(url):
        made: Store = _postgres().PostgresStore(url, password=password, role=role)
        return made
    return sqlite.SqliteStore(url)


def read_only(url: str, password: Callable[[], str] | None = None) -> AbstractContextManager[Db]:
    """Open a store that daemons may be using, for reading.

    Raises:
        StoreError: there is no store yet, or it cannot be read.
    """
    if is_shared(url):
        opened: AbstractContextManager[Db] = _postgres().read_only(url, password)
        return opened
    return sqlite.read_only(url)


def inspect(url: str, password: Callable[[], str] | None = None) -> Inspection:
    """Check a store, and count its rows.

    Raises:
        StoreError: there is none yet, or it cannot be read.
    """
    if not is_shared(url):
        return sqlite.inspect(url)
    with needs_psycopg():
        from idsync.store import postgres_look
    return postgres_look.inspect(url, password)


def stands(url: str, password: Callable[[], str] | None = None) -> Left:
    """Return how the schema of a store stands to this release's; a file that is not there lacks everything.

    Raises:
        StoreError: it cannot be reached, or read.
    """
    if is_shared(url):
        found: Left = _postgres().stands(Address(url, password))
        return found
    return left(sqlite.migrations_done(url) if exists(url) else ())


def migrated(url: str, password: Callable[[], str] | None = None, *, post: bool = False) -> list[str]:
    """Bring the schema of a store up to date and return what that took; `post`: also what takes something away.

    Raises:
        StoreBusy: another process holds the file, or a replica of an older release needs what is to be taken away.
        StoreError: it cannot be reached, or is of a newer release.
    """
    if is_shared(url):
        names: list[str] = _postgres().migrated(Address(url, password), post=post)
        return names
    before = stands(url)
    store = sqlite.SqliteStore(url)
    store.open()
    store.close()
    return sorted((*before.missing, *before.post))


def exists(url: str, password: Callable[[], str] | None = None) -> bool:
    """Tell whether there is a store.

    Raises:
        StoreError: the database cannot be asked.
    """
    if not is_shared(url):
        return sqlite.path_of(url).exists()
    there: bool = _postgres().exists(url, password)
    return there


def shown(url: str) -> str:
    """Return an address as it may be printed."""
    return str(Address(url)) if is_shared(url) else url
