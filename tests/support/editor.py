"""A store changed behind idsync's back, as somebody with an editor and its rights can."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from idsync.store.address import is_shared
from idsync.store.db import Db
from idsync.store.sqlite import GUARDS, path_of

REFUSED = (sqlite3.IntegrityError, psycopg.errors.RaiseException)
"""What the store itself says to whoever would rewrite the trail."""


def tables_of(db: Db) -> list[str]:
    """Return the names of the tables, but for those that say who is there and which schema this is."""
    named = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
    named = named if db.shared else "SELECT name FROM sqlite_master WHERE type = 'table'"
    names = sorted(row["name"] for row in db.all(named))
    others = ("_", "sqlite_", "idsync_")
    return [name for name in names if name not in {"replicas", "leader"} and not name.startswith(others)]


def tables(db: Db) -> dict[str, list[str]]:
    """Return the rows of every table as texts, sorted; without the trail."""
    return {
        name: sorted(repr(list(dict(row).values())) for row in db.all(f"SELECT * FROM {name}"))  # noqa: S608
        for name in tables_of(db)
        if name not in {"audit", "audit_unlinked"}
    }


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Keep everybody else from writing."""
    if is_shared(url):
        with psycopg.connect(url) as shared:
            shared.execute("LOCK TABLE users, persons, jobs, facts IN EXCLUSIVE MODE")
            yield
        return
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


def refuse_entries(url: str) -> None:
    """Let the store refuse whatever is entered into the trail from now on."""
    full = "CREATE TRIGGER full_disk BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no'); END"
    edit(url, "ALTER TABLE audit_unlinked ADD CHECK (false) NOT VALID" if is_shared(url) else full, guarded=True)


def refuse_fact(url: str, name: str) -> None:
    """Let the store refuse one fact from now on, with an error that nobody expects."""
    full = f"CREATE TRIGGER no_fact BEFORE UPDATE ON facts WHEN new.name = '{name}' BEGIN SELECT RAISE(FAIL, 'no'); END"
    edit(url, f"ALTER TABLE facts ADD CHECK (name <> '{name}') NOT VALID" if is_shared(url) else full, guarded=True)


def edit(url: str, *statements: str, guarded: bool = False) -> None:
    """Run statements; the trail's guards are taken away first, unless they are to be tried."""
    if is_shared(url):
        with psycopg.connect(url, autocommit=True) as shared:
            for table in () if guarded else ("audit", "audit_checkpoints"):
                shared.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            for statement in statements:
                shared.execute(statement.encode())
        return
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as file:
        for name in () if guarded else GUARDS:
            file.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            file.execute(statement)
