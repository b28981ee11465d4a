"""The store of a test: a file of its own, or with IDSYNC_TEST_STORE=postgresql a database of its own on a real server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from idsync.store import sqlite
from idsync.store.address import Address
from idsync.store.db import Db
from idsync.store.postgres import PostgresDb, connect
from idsync.store.postgres_schema import GUARD, migrate
from idsync.store.scripts import scripts
from support.adding import later

SERVER = os.environ.get("IDSYNC_TEST_POSTGRES", "")
"""The address of a PostgreSQL that tests may make databases on: `tools/with_postgres.py` starts one."""
LATER = bool(os.environ.get("IDSYNC_TEST_LATER", ""))
"""Whether the databases have what a later release might add, as they do while one release replaces another."""
SHARED = os.environ.get("IDSYNC_TEST_STORE", "") == "postgresql"


if TYPE_CHECKING or not SHARED:
    from idsync.store.sqlite import SqliteStore as UsualStore
else:
    from idsync.store.postgres import PostgresStore as UsualStore

__all__ = ["SERVER", "SHARED", "UsualStore", "database", "drop_databases", "put_back", "scratch", "set_aside", "url_of"]

_made: dict[str, Path] = {}
"""The databases of this process by their names, and the files that they are in the place of."""


def url_of(file: Path, *, shared: bool = SHARED) -> str:
    """Return the address of the store that a test keeps at a file, or instead of it in a database."""
    return database(file) if shared else f"sqlite:///{file}"


def database(file: Path) -> str:
    """Return the address of the database in the place of a file; it is made when first asked for, with every table.

    A copy of a template, file by file, costs 20 ms where the server's files are in memory, and 500 ms on a disk.
    """
    name = _name(file)
    if name not in _made:
        with _server() as connection, contextlib.suppress(psycopg.errors.DuplicateDatabase):
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_template(connection)} STRATEGY file_copy".encode())
        _made[name] = file
    return _address(name)


@contextmanager
def scratch(folder: Path) -> Iterator[Db]:
    """Open an empty store inside a transaction that is undone in the end."""
    if not SHARED:
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            sqlite.migrate(connection)
            yield sqlite.SqliteDb(connection)
        return
    with contextlib.closing(connect(Address(database(folder / "scratch.db")))) as shared:
        shared.execute("BEGIN")
        yield PostgresDb(shared)


def set_aside(file: Path, kept: Path) -> None:
    """Keep a store that nobody uses under another name; where it was there is none any more."""
    if not SHARED:
        file.rename(kept)
        return
    with _server() as connection:
        connection.execute(f"ALTER DATABASE {_name(file)} RENAME TO {_name(kept)}".encode())
    del _made[_name(file)]
    _made[_name(kept)] = kept


def put_back(kept: Path, file: Path) -> None:
    """Put a copy of what was kept in the place of a store, if there is one."""
    if not SHARED:
        for earlier in file.parent.glob(f"{file.name}*"):
            if earlier.is_file():
                earlier.unlink()
        shutil.copy(kept, file)
        return
    with _server() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {_name(file)} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {_name(file)} TEMPLATE {_name(kept)} STRATEGY file_copy".encode())
    _made[_name(file)] = file


def drop_databases(folder: Path) -> None:
    """Drop what was made in the place of files in a folder, whoever still uses it."""
    gone = [name for name, file in _made.items() if file.is_relative_to(folder)]
    if gone:
        with _server() as connection:
            for name in gone:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
                del _made[name]


def _name(file: Path) -> str:
    return f"test_{hashlib.sha256(str(file).encode()).hexdigest()[:24]}"


def _address(name: str) -> str:
    return f"{SERVER.rpartition('/')[0]}/{name}"


def _server() -> AbstractContextManager[psycopg.Connection]:
    return psycopg.connect(SERVER, autocommit=True)


def _template(connection: psycopg.Connection) -> str:
    """Return the database that all others are copied from, made by whoever comes first."""
    texts = GUARD + "".join(script.text for script in scripts())
    name = f"idsync_template_{hashlib.sha256(texts.encode()).hexdigest()[:8]}"
    if _made:
        return name
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            with _server() as other:
                other.execute("CREATE DATABASE idsync_making")
            with connect(Address(_address("idsync_making"))) as made:
                migrate(made)
                if LATER:
                    tables = made.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
                    made.execute(later(sorted(row["tablename"] for row in tables)).encode())
                    made.execute("INSERT INTO idsync_migrations (name) VALUES ('9999_later')")
            with _server() as other:
                other.execute(f"ALTER DATABASE idsync_making RENAME TO {name}".encode())
    return name


def empty_database(file: Path) -> str:
    """Return the address of a database in the place of a file; nothing is in it, not even a table."""
    import psycopg

    name = f"test_{hashlib.sha256(f'{file} empty'.encode()).hexdigest()[:24]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy".encode())
    return f"{SERVER.rpartition('/')[0]}/{name}"
