"""SQLite's side of moving an installation: reads a file under its lock, writes one beside its place."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from idsync.errors import StoreError
from idsync.store.beside import owned_alike, remove, sync
from idsync.store.copying import Row, Table
from idsync.store.db import Db
from idsync.store.sqlite import AS_WHOM, GUARDS, FileLock, SqliteDb, SqliteStore, fresh_of, guard_the_trail, path_of

_TABLES = (
    'SELECT m.name AS "table", c.name AS "column", c.pk AS pk'
    " FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid"
)


def tables_of(rows: Iterable[Mapping[str, object]]) -> dict[str, Table]:
    """Put together what a store's catalogue says of its columns; `pk` counts those of the key from 1, 0: not in it."""
    columns: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        columns.setdefault(str(row["table"]), []).append((str(row["column"]), int(str(row["pk"]))))
    return {
        name: Table(
            name,
            tuple(column for column, _ in found),
            tuple(column for column, pk in sorted(found, key=lambda one: one[1]) if pk),
        )
        for name, found in columns.items()
    }


class SqliteSource:
    """A store that was opened: its lock is ours."""

    def __init__(self, store: SqliteStore, db: Db) -> None:
        self._store = store
        self.db = db

    def tables(self) -> Mapping[str, Table]:
        return tables_of(self.db.all(_TABLES))

    def write(self, work: Callable[[Db], None]) -> None:
        self._store.write(work)


@contextmanager
def source(url: str) -> Iterator[SqliteSource]:
    """Hold a store, its schema brought up to date as by a start.

    Raises:
        StoreBusy: another process holds it.
        StoreError: there is none, or it cannot be used.
    """
    path = path_of(url)
    if not path.exists():
        msg = f"there is no store at {path}"
        raise StoreError(msg)
    store = SqliteStore(url)
    store.open()
    try:
        with store.reader().snapshot() as db:
            yield SqliteSource(store, db)
    finally:
        store.close()


class SqliteTarget:
    """A file beside the place where it is to be; nobody opens it there."""

    def __init__(self, connection: sqlite3.Connection, fresh: Path, path: Path) -> None:
        self._connection = connection
        self._fresh = fresh
        self._path = path
        self.db = SqliteDb(connection)

    def tables(self) -> Mapping[str, Table]:
        return tables_of(self.db.all(_TABLES))

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        columns = ", ".join(f'"{name}"' for name in table.columns)
        places = ", ".join("?" for _ in table.columns)
        sql = f'INSERT INTO "{table.name}" ({columns}) VALUES ({places})'  # noqa: S608 - our own tables
        self._connection.executemany(sql, rows)

    def guard(self) -> None:
        guard_the_trail(self._connection)

    def finish(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        owned_alike(self._fresh, self._path.parent)
        self._fresh.replace(self._path)
        sync(self._path.parent)


@contextmanager
def target(url: str) -> Iterator[SqliteTarget]:
    """Prepare a store where there is none; it is there when it is finished, and not before.

    Raises:
        StoreBusy: another process is at work at that place.
        StoreError: there is a store already, or the folder cannot be written.
    """
    path = path_of(url)
    fresh = fresh_of(path)
    if not path.resolve().parent.is_dir() or not os.access(path.resolve().parent, os.W_OK):
        msg = f"the folder of the store {path.parent} is not there, or not writable by this user; {AS_WHOM}"
        raise StoreError(msg)
    lock = FileLock(path)
    lock.acquire()
    try:
        if path.exists():
            msg = f"{path} exists; a copy goes into a new file"
            raise StoreError(msg)
        remove(fresh)
        empty = SqliteStore(f"sqlite:///{fresh}")
        empty.open()
        empty.close()
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for guard in GUARDS:
                connection.execute(f"DROP TRIGGER {guard}")
            yield SqliteTarget(connection, fresh, path)
        except sqlite3.Error as error:
            msg = f"cannot write to {fresh}: {error}"
            raise StoreError(msg) from error
        finally:
            connection.close()
            remove(fresh)
    finally:
        lock.release()
