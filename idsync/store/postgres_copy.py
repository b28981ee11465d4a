"""PostgreSQL's side of moving an installation: one transaction on each database, under locks that end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import psycopg
from psycopg import sql

from idsync.errors import StoreBusy, StoreError
from idsync.store import journal, replicas
from idsync.store.address import Address
from idsync.store.copying import LOCAL, Row, Table, names
from idsync.store.db import Db
from idsync.store.postgres import Connection, PostgresDb, connect, words
from idsync.store.postgres_schema import COPYING, migrate, refuse_unfit
from idsync.store.sqlite_copy import tables_of

_TABLES = """
SELECT c.relname AS "table", a.attname AS "column", COALESCE(array_position(i.indkey::int2[], a.attnum) + 1, 0) AS pk
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname, a.attnum
"""
_UNHURRIED = (
    b"SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0;"
    b" SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL extra_float_digits = 1"
)
_MARK = "CREATE TABLE IF NOT EXISTS idsync_copying (begun_at TIMESTAMPTZ NOT NULL DEFAULT now())"
_TRAIL = ("audit", "audit_checkpoints")


class PostgresSource:
    """A database that nobody else writes while this transaction lasts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.db = PostgresDb(connection)

    def tables(self) -> Mapping[str, Table]:
        return tables_of(self.db.all(_TABLES))

    def write(self, work: Callable[[Db], None]) -> None:
        work(self.db)
        _link(self.db)
        self._connection.execute("COMMIT")


@contextmanager
def source(url: str, password: Callable[[], str] | None) -> Iterator[PostgresSource]:
    """Hold a store that no process uses, its schema brought up to date as by a start, its trail linked to the end.

    Raises:
        StoreBusy: a process uses it.
        StoreError: there is none, or it cannot be used.
    """
    with _connected(url, password) as (address, connection):
        if not _has(connection, "facts"):
            msg = f"there is no store in {address}"
            raise StoreError(msg)
        if _has(connection, "replicas"):
            _refuse_used(connection, address)
        migrate(connection)
        tables = _there(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")  # it sees what there is when it has the locks
        _take(connection, address, tables, "SHARE ROW EXCLUSIVE")
        held = PostgresSource(connection)
        _link(held.db)
        yield held


class PostgresTarget:
    """A database without content, inside the transaction that gives it one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.db = PostgresDb(connection)

    def tables(self) -> Mapping[str, Table]:
        return tables_of(self.db.all(_TABLES))

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
        with self._connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row(row)

    def guard(self) -> None:
        _trigger(self._connection, "ENABLE")

    def finish(self) -> None:
        _link(self.db)
        for name in names():
            self._connection.execute(f'ANALYZE "{name}"'.encode())
        self._connection.execute("DROP TABLE idsync_copying")
        self._connection.execute("COMMIT")


@contextmanager
def target(url: str, password: Callable[[], str] | None) -> Iterator[PostgresTarget]:
    """Prepare a database without content; until it is finished, a mark in it keeps daemons from taking it for empty.

    Raises:
        StoreBusy: a process uses it.
        StoreError: it has content already, or cannot be used.
    """
    with _connected(url, password) as (address, connection):
        _refuse_content(connection, address)
        connection.execute(_MARK)
        connection.execute("BEGIN")
        connection.execute(_UNHURRIED)
        migrate(connection)
        _take(connection, address, _there(connection), "ACCESS EXCLUSIVE")
        _refuse_content(connection, address)
        _trigger(connection, "DISABLE")
        yield PostgresTarget(connection)


@contextmanager
def _connected(url: str, password: Callable[[], str] | None) -> Iterator[tuple[Address, Connection]]:
    """Connect; whatever was not committed at the end is undone."""
    address = Address(url, password)
    try:
        with closing(connect(address)) as connection:
            refuse_unfit(connection)
            yield address, connection
    except psycopg.errors.LockNotAvailable as error:
        msg = f"another process uses the database {address}; stop every `idsync serve` on it first"
        raise StoreBusy(msg) from error
    except psycopg.Error as error:
        msg = f"the database {address} refused: {words(error)}"
        raise StoreError(msg) from error


def _take(connection: Connection, address: Address, tables: Sequence[str], mode: str) -> None:
    """Keep everybody from writing until the transaction ends, or from anything at all.

    Waited for: the server's own upkeep may be at a table, and gives way; so may the session of a copy that was killed.
    """
    connection.execute(_UNHURRIED)
    every = ", ".join(f'"{name}"' for name in tables)
    connection.execute(f"LOCK TABLE {every} IN {mode} MODE".encode())
    alone = connection.execute(b"SELECT pg_try_advisory_xact_lock(%d) AS got" % COPYING).fetchone()
    if alone is not None and not alone["got"]:
        msg = f"another process opens the database {address}, or copies it; stop every `idsync serve` on it first"
        raise StoreBusy(msg)
    _refuse_used(connection, address)


def _refuse_used(connection: Connection, address: Address) -> None:
    db = PostgresDb(connection)
    there = replicas.present(db, replicas.time_of(db, 0.0))
    if there:
        msg = f"the database {address} is in use; stop first: {'; '.join(map(str, there))}"
        raise StoreBusy(msg)


def _refuse_content(connection: Connection, address: Address) -> None:
    for name in names():
        if _has(connection, name) and PostgresDb(connection).one(f'SELECT 1 AS one FROM "{name}" LIMIT 1') is not None:  # noqa: S608
            msg = f"the database {address} has a store in it already ({name}); a copy goes into an empty one"
            raise StoreError(msg)


def _there(connection: Connection) -> list[str]:
    return [name for name in (*names(), *sorted(LOCAL)) if _has(connection, name)]


def _has(connection: Connection, name: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) AS there", (f'"{name}"',)).fetchone()
    return found != {"there": None}


def _trigger(connection: Connection, do: str) -> None:
    for name in _TRAIL:
        connection.execute(f'ALTER TABLE "{name}" {do} TRIGGER USER'.encode())


def _link(db: Db) -> None:
    while journal.link(db):
        pass
