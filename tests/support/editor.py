"""A store changed behind idsync's back, as somebody with an editor and its rights can."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg

from idsync.store.address import is_shared
from idsync.store.sqlite import GUARDS, path_of

REFUSED = (sqlite3.IntegrityError, psycopg.errors.RaiseException)
"""What the store itself says to whoever would rewrite the trail."""


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
