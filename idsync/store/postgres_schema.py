"""The schema in PostgreSQL: the same migrations in the same numbering, and what has to be true of the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from idsync.errors import StoreBusy, StoreError
from idsync.store.db import Db
from idsync.store.dialect import schema
from idsync.store.scripts import scripts
from idsync.store.upgrade import AFTER

Connection = psycopg.Connection[dict[str, Any]]
OLDEST = 140000
"""server_version_num of the oldest PostgreSQL that is tried."""
MIGRATING = 0x1D5D
"""The advisory lock, for a transaction, of whoever brings the schema up to date."""
COPYING = 0x1D5E
"""The advisory lock, for a transaction, of `idsync db copy` on the database it reads, and on the one it writes."""
CUT_OFF = (
    "`idsync db copy` into this database was cut off, and it has no store yet; run it again, or to begin with an empty"
    " store: DROP TABLE idsync_copying"
)
RECORD = "CREATE TABLE IF NOT EXISTS idsync_migrations (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
GUARD = """
CREATE OR REPLACE FUNCTION idsync_trail_grows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE newest BIGINT;
BEGIN
  IF TG_TABLE_NAME = 'audit' AND TG_OP = 'DELETE' THEN
    SELECT COALESCE(MAX(seq), 0) INTO newest FROM audit_checkpoints;
    IF OLD.seq <= newest THEN RETURN OLD; END IF;
  ELSIF TG_TABLE_NAME = 'audit' AND TG_OP = 'INSERT' THEN
    SELECT COALESCE(MAX(seq), 0) INTO newest FROM audit;
    IF NEW.seq = newest + 1 THEN RETURN NEW; END IF;
  ELSIF TG_TABLE_NAME = 'audit_checkpoints' AND TG_OP = 'INSERT' THEN
    SELECT COALESCE(MAX(seq), 0) INTO newest FROM audit_checkpoints;
    IF NEW.seq > newest AND EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq AND hash = NEW.hash) THEN RETURN NEW; END IF;
  END IF;
  RAISE EXCEPTION 'the audit trail only grows';
END $$;
CREATE OR REPLACE TRIGGER audit_only_grows BEFORE INSERT OR UPDATE OR DELETE ON audit
  FOR EACH ROW EXECUTE FUNCTION idsync_trail_grows();
CREATE OR REPLACE TRIGGER checkpoints_only_grow BEFORE INSERT OR UPDATE OR DELETE ON audit_checkpoints
  FOR EACH ROW EXECUTE FUNCTION idsync_trail_grows();
"""
"""Keeps a mistake from rewriting the trail, as SQLite's triggers do (store/sqlite.py)."""


WANTED = (
    ("transaction_read_only", {"off"}, "it is a standby, or set read-only; point store.url at the primary"),
    (
        "synchronous_commit",
        {"on", "local", "remote_write", "remote_apply"},
        "a crash would forget departures that were accepted; set synchronous_commit = on",
    ),
    ("fsync", {"on"}, "a crash would forget departures that were accepted; set fsync = on"),
    ("server_encoding", {"UTF8"}, "names have every script; create the database with ENCODING 'UTF8'"),
)
"""Settings of a server, what each has to be, and why."""


def unfit(connection: Connection) -> Iterator[str]:
    """Yield why a server cannot keep a store: too old, cannot be written, may forget what it said was committed."""
    if connection.info.server_version < OLDEST:
        yield f"PostgreSQL {connection.info.server_version // 10000} is too old; idsync needs {OLDEST // 10000} or newer"
    for setting, good, why in WANTED:
        found = connection.execute(f"SHOW {setting}".encode()).fetchone()
        value = next(iter(found.values())) if found else ""
        if value not in good:
            yield f"the database has {setting} = {value}: {why}"


def refuse_unfit(connection: Connection) -> None:
    """Refuse a server that cannot keep a store.

    Raises:
        StoreError: it is one.
    """
    for problem in unfit(connection):
        raise StoreError(problem)


def refuse_half(connection: Connection) -> None:
    """Refuse a database that `idsync db copy` writes a store into, or reads one out of, and what it left when it was cut off.

    Raises:
        StoreBusy: a copy is under way.
        StoreError: a copy was cut off; the database has nothing yet.
    """
    with connection.transaction():
        alone = connection.execute(b"SELECT pg_try_advisory_xact_lock_shared(%d) AS got" % COPYING).fetchone()
    if alone is not None and not alone["got"]:
        raise StoreBusy("`idsync db copy` is at work on this database; start again when it is done")
    if connection.execute(b"SELECT to_regclass('idsync_copying') AS there").fetchone() != {"there": None}:
        raise StoreError(CUT_OFF)


def migrate(connection: Connection) -> None:
    """Apply the migrations that are missing, all or none of them; who comes at the same time waits.

    Raises:
        psycopg.Error: the database refused.
    """
    from idsync.store.postgres import PostgresDb

    with connection.transaction():
        connection.execute(b"SELECT pg_advisory_xact_lock(%d)" % MIGRATING)
        connection.execute(RECORD.encode())
        done = {row["name"] for row in connection.execute(b"SELECT name FROM idsync_migrations")}
        for script in scripts():
            if script.name not in done:
                connection.execute(schema(script.text).encode())
                if script.name in AFTER:
                    AFTER[script.name](PostgresDb(connection))
                connection.execute(b"INSERT INTO idsync_migrations (name) VALUES (%s)", (script.name,))
        if connection.execute(b"SELECT 1 AS one FROM pg_trigger WHERE tgname = 'audit_only_grows'").fetchone() is None:
            connection.execute(GUARD.encode())


def migrations_left(db: Db) -> tuple[list[str], list[str]]:
    """Return the migrations a store lacks, and those it has of a newer release."""
    done = {row["name"] for row in db.all("SELECT name FROM idsync_migrations")}
    known = {script.name for script in scripts()}
    return sorted(known - done), sorted(done - known)
