"""The schema in PostgreSQL: the same migrations in the same numbering, and what has to be true of the database."""

from __future__ import annotations

from typing import Any

import psycopg

from idsync.errors import StoreError
from idsync.store.db import Db
from idsync.store.dialect import schema
from idsync.store.scripts import scripts
from idsync.store.upgrade import AFTER

Connection = psycopg.Connection[dict[str, Any]]
OLDEST = 140000
"""server_version_num of the oldest PostgreSQL that is tried."""
MIGRATING = 0x1D5D
"""The advisory lock, for a transaction, of whoever brings the schema up to date."""
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


def refuse_unfit(connection: Connection) -> None:
    """Refuse a server that is too old, cannot be written, or may forget what it has said was committed.

    Raises:
        StoreError: it is.
    """
    if connection.info.server_version < OLDEST:
        msg = (
            f"PostgreSQL {connection.info.server_version // 10000} is too old; idsync needs {OLDEST // 10000} or newer"
        )
        raise StoreError(msg)
    for setting, bad, why in (
        ("transaction_read_only", {"on"}, "it is a standby, or set read-only; point store.url at the primary"),
        (
            "synchronous_commit",
            {"off"},
            "a crash would forget departures that were accepted; set synchronous_commit = on",
        ),
        ("fsync", {"off"}, "a crash would forget departures that were accepted; set fsync = on"),
        ("server_encoding", None, "names have every script; create the database with ENCODING 'UTF8'"),
    ):
        found = connection.execute(f"SHOW {setting}".encode()).fetchone()
        value = next(iter(found.values())) if found else ""
        if value in bad if bad is not None else value != "UTF8":
            msg = f"the database has {setting} = {value}: {why}"
            raise StoreError(msg)


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
