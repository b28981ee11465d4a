"""Reading PostgreSQL: on the connections of a pool for a daemon, on one of its own for a command."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from idsync.errors import StoreError
from idsync.store.address import Address
from idsync.store.db import Db, Row
from idsync.store.dialect import parameters, statement
from idsync.store.postgres_connection import (
    READS_ONLY,
    SNAPSHOT,
    Connection,
    PostgresDb,
    ReadingDb,
    connect,
    refuse_writing,
    words,
)
from idsync.store.postgres_schema import (
    done,
    migrate,
    refuse_statement_pooling,
    refuse_unfit,
    refuse_unreadable,
)
from idsync.store.scripts import Left, left

log = structlog.get_logger(__name__)
PATIENCE = 2.0
"""Seconds a read waits for a connection."""
DOWN = 0.5
"""Seconds for which nothing asks again after the database did not answer."""


class Reader:
    """Reads on any free connection of the pool; what the network or the server refuses is a StoreError."""

    shared = True

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self._asked_again_at = 0.0

    def execute(self, sql: str, /, **params: Any) -> int:
        raise StoreError(READS_ONLY)

    def one(self, sql: str, /, **params: Any) -> Row | None:
        rows = self._read(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        return self._read(sql, params)

    @contextmanager
    def snapshot(self) -> Iterator[Db]:
        with self._told(), self._connection() as connection:
            connection.execute(SNAPSHOT)
            try:
                yield PostgresDb(connection)
            finally:
                connection.execute("ROLLBACK")

    def operation(self) -> AbstractContextManager[Db]:
        return self.snapshot()

    def after_commit(self, call: Callable[[], None]) -> None:
        raise StoreError(READS_ONLY)

    def on_undo(self, call: Callable[[], None]) -> None:
        raise StoreError(READS_ONLY)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the network or the server refuses into a StoreError, and do not ask again for a moment."""
        if time.monotonic() < self._asked_again_at:
            raise StoreError("the database does not answer")
        try:
            yield
        except PoolClosed as error:
            raise StoreError("the store is closed") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as error:
            self._asked_again_at = time.monotonic() + DOWN
            msg = f"the store cannot be read: {words(error)}"
            raise StoreError(msg) from error
        except psycopg.ProgrammingError as error:  # a table or a right that somebody has taken away
            msg = f"the store cannot be read: {words(error)}"
            raise StoreError(msg) from error

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Take a connection of the pool that answers: all of them have ended when the server was started again."""
        with self._pool.connection(PATIENCE) as connection:
            yield connection

    def _read(self, sql: str, params: dict[str, Any]) -> Sequence[Row]:
        refuse_writing(sql)
        with self._told():
            text, given = statement(sql).encode(), parameters(params)
            try:
                with self._connection() as connection:
                    return connection.execute(text, given).fetchall()
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._pool.check()
                with self._connection() as connection:
                    return connection.execute(text, given).fetchall()


def stands(address: Address) -> Left:
    """Return how the schema of a database stands to this release's.

    Raises:
        StoreError: it cannot be reached.
    """
    with _reached(address) as connection:
        return left(done(connection))


def migrated(address: Address, *, post: bool) -> list[str]:
    """Apply the migrations that are missing, with `post` what takes away as well; return their names.

    Raises:
        StoreBusy: a replica of an older release still needs what is to be taken away.
        StoreError: the database cannot be reached, or serves this release no more.
    """
    with _reached(address) as connection:
        refuse_unfit(connection)
        return migrate(connection, post=post)


@contextmanager
def _reached(address: Address) -> Iterator[Connection]:
    try:
        with connect(address) as connection:
            yield connection
    except psycopg.Error as error:
        msg = f"cannot open the store {address}: {words(error)}"
        raise StoreError(msg) from error


@contextmanager
def read_only(url: str, password: Callable[[], str] | None) -> Iterator[Db]:
    """Read a database that daemons may be using.

    Raises:
        StoreError: it cannot be reached, or there is no store in it yet.
    """
    address = Address(url, password)
    try:
        connection = connect(address)
    except psycopg.Error as error:
        msg = f"cannot read the store {address}: {words(error)}"
        raise StoreError(msg) from error
    with contextlib.closing(connection):
        try:
            refuse_statement_pooling(connection)
            refuse_unreadable(connection, address)
            yield ReadingDb(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            msg = f"the store {address} cannot be read ({words(error)})"
            raise StoreError(msg) from error


def exists(url: str, password: Callable[[], str] | None) -> bool:
    """Tell whether there is a store in a database.

    Raises:
        StoreError: it cannot be reached.
    """
    address = Address(url, password)
    try:
        with contextlib.closing(connect(address)) as connection:
            return bool(done(connection))
    except psycopg.Error as error:
        msg = f"cannot read the store {address}: {words(error)}"
        raise StoreError(msg) from error
