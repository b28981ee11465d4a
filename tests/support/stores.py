"""The store of a test: a file of its own, or with IDSYNC_TEST_STORE=postgresql a database of its own on a real server."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from support.adding import later

SERVER = os.environ.get("IDSYNC_TEST_POSTGRES", "")
"""The address of a PostgreSQL that tests may make databases on: `tools/with_postgres.py` starts one."""
LATER = bool(os.environ.get("IDSYNC_TEST_LATER", ""))
"""Whether the databases have what a later release might add, as they do while one release replaces another."""
SHARED = os.environ.get("IDSYNC_TEST_STORE", "") == "postgresql"


def url_of(file: Path, *, shared: bool = SHARED) -> str:
    """Return the address of the store that a test keeps at a file, or instead of it in a database."""
    return database(file) if shared else f"sqlite:///{file}"


def database(file: Path) -> str:
    """Return the address of the database in the place of a file; it is made when first asked for, with every table."""
    import psycopg

    name = f"test_{hashlib.sha256(str(file).encode()).hexdigest()[:24]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if there is None:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_template(connection)} STRATEGY file_copy".encode())
    return f"{SERVER.rpartition('/')[0]}/{name}"


def _template(connection: object) -> str:
    """Return the database that all others are copied from, made by whoever comes first."""
    import psycopg

    from idsync.store.address import Address
    from idsync.store.postgres import connect
    from idsync.store.postgres_schema import migrate

    assert isinstance(connection, psycopg.Connection)
    name = "idsync_template"
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
            return name
        with psycopg.connect(SERVER, autocommit=True) as other:
            other.execute("CREATE DATABASE idsync_making")
        with connect(Address(f"{SERVER.rpartition('/')[0]}/idsync_making")) as made:
            migrate(made)
            if LATER:
                tables = made.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
                made.execute(later(sorted(row["tablename"] for row in tables)).encode())
                made.execute("INSERT INTO idsync_migrations (name) VALUES ('9999_later')")
        made.close()
        with psycopg.connect(SERVER, autocommit=True) as other:
            other.execute(f"ALTER DATABASE idsync_making RENAME TO {name}")
    return name


def empty_database(file: Path) -> str:
    """Return the address of a database in the place of a file; nothing is in it, not even a table."""
    import psycopg

    name = f"test_{hashlib.sha256(f'{file} empty'.encode()).hexdigest()[:24]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy".encode())
    return f"{SERVER.rpartition('/')[0]}/{name}"
