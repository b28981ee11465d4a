"""What a shared database shows of itself to whoever only looks: `idsync db check` and `idsync doctor`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg

from idsync.errors import StoreError
from idsync.store import replicas
from idsync.store.address import Address
from idsync.store.copying import names
from idsync.store.db import Inspection
from idsync.store.postgres import Connection, PostgresDb, connect, words
from idsync.store.postgres_schema import CUT_OFF, migrations_left, unfit
from idsync.store.replicas import UNLINKED_LATE, Replica, Tail

TOLD = ("synchronous_commit", "fsync", "full_page_writes", "default_transaction_isolation", "server_encoding")
"""Settings that are shown."""

NOTHING = Tail(0, None)


@dataclass(frozen=True)
class Look:
    """`problems` is why it cannot keep a store. `ahead` is by how many seconds its clock is before this machine's.

    `pooled`: another server process answers than the one that greeted us. `counts` is None before there is a store.
    """

    version: str
    problems: Sequence[str]
    settings: Mapping[str, str]
    ahead: float
    pooled: bool
    encrypted: bool
    local: bool
    missing: Sequence[str] = ()
    newer: Sequence[str] = ()
    counts: Mapping[str, int] | None = None
    tail: Tail = NOTHING
    replicas: Sequence[Replica] = ()
    leader: str | None = None
    now: float = 0.0

    @property
    def unlinked_for(self) -> float:
        """Return for how many seconds the oldest entry of the trail has waited to be linked."""
        return self.tail.age(self.now)


def look(url: str, password: Callable[[], str] | None, *, counting: bool = False) -> Look:
    """Ask a database about itself; `counting` reads every table.

    Raises:
        StoreError: it cannot be reached, or does not answer what it is asked.
    """
    address = Address(url, password)
    try:
        with closing(connect(address)) as connection:
            return _looked(connection, counting)
    except psycopg.Error as error:
        msg = f"cannot read the store {address}: {words(error)}"
        raise StoreError(msg) from error


def _looked(connection: Connection, counting: bool) -> Look:
    db = PostgresDb(connection)
    begun = time.time()
    now = replicas.time_of(db, begun)
    row = db.one("SELECT pg_backend_pid() AS pid, current_setting('server_version') AS version") or {}
    found = Look(
        version=str(row["version"]),
        problems=[*unfit(connection), *([CUT_OFF] if _has(db, "idsync_copying") else [])],
        settings={name: _setting(db, name) for name in TOLD},
        ahead=now - (begun + time.time()) / 2,
        pooled=row["pid"] != connection.info.backend_pid,
        encrypted=bool(connection.pgconn.ssl_in_use),
        local=connection.info.host.startswith("/") or connection.info.host in {"localhost", "127.0.0.1", "::1"},
        now=now,
    )
    if not _has(db, "idsync_migrations"):
        return found
    missing, newer = migrations_left(db)
    found = replace(found, missing=missing, newer=newer)
    if not _has(db, "replicas"):
        return found
    return replace(
        found,
        counts={name: _count(db, name) for name in names() if _has(db, name)} if counting else {},
        tail=replicas.tail(db),
        replicas=replicas.present(db, now),
        leader=replicas.leader(db, now),
    )


def _has(db: PostgresDb, name: str) -> bool:
    return db.one("SELECT 1 AS one WHERE to_regclass(:name) IS NOT NULL", name=name) is not None


def _setting(db: PostgresDb, name: str) -> str:
    row = db.one("SELECT current_setting(:name) AS value", name=name)
    return str(row["value"]) if row else ""


def _count(db: PostgresDb, table: str) -> int:
    row = db.one(f'SELECT COUNT(*) AS n FROM "{table}"')  # noqa: S608 - our own tables
    return int(row["n"]) if row else 0


def inspect(url: str, password: Callable[[], str] | None) -> Inspection:
    """Check a shared store, and count its rows.

    Raises:
        StoreError: it cannot be reached, or there is none yet.
    """
    seen = look(url, password, counting=True)
    if seen.counts is None:
        msg = f"there is no store in {Address(url)} yet; start `idsync serve` once, or check store.url"
        raise StoreError(msg)
    schema = "schema: this release's"
    if seen.newer:
        schema = f"schema: of a newer release ({', '.join(seen.newer)})"
    elif seen.missing:
        schema = f"schema: of an older release; the next start upgrades it ({', '.join(seen.missing)})"
    late = " (nobody links them)" if seen.unlinked_for > UNLINKED_LATE else ""
    lines = (
        f"PostgreSQL {seen.version}",
        "settings: " + ", ".join(f"{name} = {value}" for name, value in seen.settings.items()),
        *(f"PROBLEM {problem}" for problem in seen.problems),
        schema,
        f"audit entries that are committed and not linked yet: {seen.tail.entries}{late}",
        *(f"{name}: {rows} row(s)" for name, rows in seen.counts.items()),
    )
    return Inspection(not seen.problems and not late, lines)
