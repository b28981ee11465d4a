"""The schema in PostgreSQL: the same migrations in the same numbering, and what has to be true of the database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog

from idsync.errors import StoreBusy, StoreError
from idsync.store.db import Db
from idsync.store.dialect import schema
from idsync.store.scripts import left, scripts
from idsync.store.upgrade import AFTER

log = structlog.get_logger(__name__)
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
IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
"""What replicas that go on serving may do to a migration (55P03, 40P01, 40001): it begins again."""
TRIES = 6
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


STATEMENT_POOLING = (
    "store.url leads to a pooler that takes no transactions ({}); idsync needs one that pools by transaction or by session:"
    " set pool_mode = transaction"
)


def refuse_statement_pooling(connection: Connection) -> None:
    """Refuse a PgBouncer that hands out connections for a statement: it ends whoever begins a transaction (08P01).

    Raises:
        StoreError: it is one.
    """
    try:
        with connection.transaction():
            pass
    except psycopg.errors.ProtocolViolation as error:
        raise StoreError(STATEMENT_POOLING.format(str(error).strip())) from error


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
    refuse_statement_pooling(connection)
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


def done(connection: Connection) -> set[str]:
    """Return the names of the migrations that a database has; none where there is no store in it."""
    there = connection.execute(b"SELECT to_regclass('idsync_migrations') IS NOT NULL AS there").fetchone()
    if there is None or not there["there"]:
        return set()
    return {row["name"] for row in connection.execute(b"SELECT name FROM idsync_migrations")}


def migrate(connection: Connection, *, post: bool = False) -> list[str]:
    """Apply the migrations that are missing, all or none of them; who comes at the same time waits. Return their names.

    What takes away is left out, except in a new database; with `post` it is applied too.

    Raises:
        StoreBusy: a replica of an older release still needs what is to be taken away.
        StoreError: a newer release has taken away what this one needs.
        psycopg.Error: the database refused.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(*IN_THE_WAY):
            return _migrate(connection, post=post)
    return _migrate(connection, post=post)


def _migrate(connection: Connection, *, post: bool) -> list[str]:
    from idsync.store.postgres import PostgresDb

    with connection.transaction():
        connection.execute(b"SELECT pg_advisory_xact_lock(%d)" % MIGRATING)
        connection.execute(b"SET LOCAL lock_timeout = '5s'")  # replicas that serve wait behind us meanwhile
        connection.execute(RECORD.encode())
        there = done(connection)
        stands = left(there)
        if stands.outgrown:
            raise StoreError(stands.outgrown)
        if stands.newer:
            log.warning("store.newer", migrations=list(stands.newer), note="a newer release uses it as well")
        if post and there and stands.post:
            _refuse_to_take_from_older(connection, stands.post[-1])
        wanted = {*stands.missing, *(stands.post if post or not there else ())}
        applied = [script for script in scripts() if script.name in wanted]
        for script in applied:
            connection.execute(schema(script.text).encode())
            if script.name in AFTER:
                AFTER[script.name](PostgresDb(connection))
            connection.execute(b"INSERT INTO idsync_migrations (name) VALUES (%s)", (script.name,))
        if connection.execute(b"SELECT 1 AS one FROM pg_trigger WHERE tgname = 'audit_only_grows'").fetchone() is None:
            connection.execute(GUARD.encode())
    return [script.name for script in applied]


def _refuse_to_take_from_older(connection: Connection, newest: str) -> None:
    rows = connection.execute(b"SELECT * FROM replicas ORDER BY host, id").fetchall()
    older = [row for row in rows if row.get("knows") is None or row["knows"] < newest]
    if older:
        named = ", ".join(f"{row['host']} (idsync {row['release']}, {row['role']})" for row in older)
        msg = f"replicas of an older release still need what would be taken away: {named}; replace them first"
        raise StoreBusy(msg)


def refuse_outgrown(connection: Connection) -> None:
    """Refuse a database from which a newer release has taken what this one needs; one that is at it is waited for.

    Raises:
        StoreError: it has.
    """
    with connection.transaction():
        connection.execute(b"SELECT pg_advisory_xact_lock_shared(%d)" % MIGRATING)
        stands = left(done(connection))
    if stands.outgrown:
        raise StoreError(stands.outgrown)


def refuse_unreadable(connection: Connection, address: object) -> None:
    """Refuse to read what has no store in it, or one of another schema.

    Raises:
        StoreError: there is none, or it is too old or too new.
    """
    there = done(connection)
    if not there:
        msg = f"there is no store in {address} yet; start `idsync serve` once, or check store.url"
        raise StoreError(msg)
    stands = left(there)
    if stands.outgrown:
        raise StoreError(stands.outgrown)
    if stands.missing:
        missing = ", ".join(stands.missing)
        msg = f"the store {address} is of an older release ({missing} missing); run `idsync db migrate`"
        raise StoreError(msg)


def migrations_left(db: Db) -> tuple[list[str], list[str]]:
    """Return the migrations a store lacks, and those it has of a newer release; what takes away is in neither."""
    stands = left({row["name"] for row in db.all("SELECT name FROM idsync_migrations")})
    return list(stands.missing), [*stands.newer, *stands.taken]
