"""Which processes share a database, and which of them leads: told and taken every second, by the database's clock.

The lead is a lease, not a session's lock: it outlives a pooler in transaction mode, and ends by itself when whoever has
it is dead, stopped or cut off. Nothing correct depends on it: it only keeps two from doing the same work.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

from idsync import __version__
from idsync.clock import Clock
from idsync.store.db import Db
from idsync.store.dialect import statement
from idsync.store.replicas import DEAD, LEAD
from idsync.store.scripts import scripts

Connection = psycopg.Connection[dict[str, Any]]
BEAT = 1.0
"""Seconds between two signs of life."""
LEASE = 5.0
"""Seconds after the last sign for which the lead is kept; whoever has it stops a second before."""
STEP = 0.05
"""Seconds by which the database's clock may stray from ours before ours follows."""
LEADING = frozenset({"all", "worker"})
"""Roles that may lead."""
CHANNEL = "idsync"
"""Where NOTIFY says that there is work."""
LISTENED = 0.5
"""Seconds between two looks whether to stop listening."""
_NOW = "EXTRACT(EPOCH FROM clock_timestamp())::float8"
_TAKE = (
    "INSERT INTO leader (place, replica_id, since, until)"  # noqa: S608 - our own text
    f" VALUES (:place, :id, {_NOW}, {_NOW} + {LEASE}) ON CONFLICT (place) DO UPDATE"
    " SET since = CASE WHEN leader.replica_id = excluded.replica_id THEN leader.since ELSE excluded.since END,"
    " replica_id = excluded.replica_id, until = excluded.until"
    f" WHERE leader.replica_id = excluded.replica_id OR leader.until < {_NOW} RETURNING replica_id"
)

log = structlog.get_logger(__name__)

_NO_LONGER = b"SET LOCAL idle_in_transaction_session_timeout = '5s'"
"""Whoever stands still in here would keep everybody else from leading."""


class Presence:
    """Runs on a thread and a connection of its own, so that nothing busy keeps it from its beat."""

    def __init__(self, connect: Callable[[], Connection], name: str, role: str) -> None:
        self._connect = connect
        self._name = name
        self.role = role
        told = {"host": socket.gethostname(), "release": __version__, "knows": scripts()[-1].name}
        self._told = {"id": name, "role": role, **told}
        self._until = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.held: set[str] = set()
        """Places that this process has beside the lead."""
        self.offset: float | None = None
        """Epoch seconds of the database's clock less this machine's monotonic clock."""
        self.on_freed: Callable[[], None] = lambda: None
        """Called when jobs of the dead have become free."""
        self.on_return: Callable[[Connection], None] = lambda connection: None
        """Called when others had forgotten this process, and it is there again."""

    @property
    def leads(self) -> bool:
        return time.monotonic() < self._until

    def start(self) -> None:
        """Say that we are there before anything else is done; then go on saying so."""
        self._stopping.clear()
        connection = self._connect()
        self._beat(connection)
        self._thread = threading.Thread(target=self._run, args=(connection,), name="idsync-presence", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give the lead back and say that we are gone."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()

    def withdraw(self) -> None:
        """Lead no more and give no more signs, from whatever thread."""
        self._stopping.set()

    def _run(self, connection: Connection | None) -> None:
        while not self._stopping.wait(BEAT):
            try:
                connection = connection if connection is not None and not connection.closed else self._connect()
                self._beat(connection)
            except psycopg.Error as error:
                log.debug("presence.failed", error=str(error).split("\n", 1)[0])
                if connection is not None:
                    connection.close()
            except Exception:  # who gives no more signs loses the lead and every job
                log.exception("presence.crashed")
        self._until = 0.0
        with contextlib.suppress(psycopg.Error):
            if connection is not None:
                self._leave(connection)
                connection.close()

    def _beat(self, connection: Connection) -> None:
        begun, led = time.monotonic(), self.leads
        with connection.transaction():
            # a sign that is lost is told again, and one that `idsync db copy` is in the way of
            connection.execute(b"SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '5s'; " + _NO_LONGER)
            seen = connection.execute(
                "INSERT INTO replicas (id, role, host, release, knows, started_at, seen_at)"  # noqa: S608 - our own text
                f" VALUES (%(id)s, %(role)s, %(host)s, %(release)s, %(knows)s, {_NOW}, {_NOW})"
                " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
                " RETURNING seen_at, xmax = 0 AS is_new".encode(),  # a row that was updated has an xmax
                self._told,
            ).fetchone()
            holds = self._take_the_lead(connection)
            freed = self._free_the_dead(connection) if holds else 0
        if seen is not None:
            self._measure(float(seen["seen_at"]), begun)
            if seen["is_new"] and self._thread is not None:
                self.on_return(connection)
        self._until = begun + LEASE - 1.0 if holds else 0.0
        if holds and not led:
            log.info("lead.taken", replica=self._name)
        elif led and not holds:
            log.warning("lead.lost", replica=self._name)
        if freed:
            log.warning("jobs.freed", count=freed, note="whoever worked on them has gone without a word")
            self.on_freed()

    def _measure(self, told: float, begun: float) -> None:
        """Note what the database's clock shows; the answer came between the beginning and now."""
        offset = told - (begun + time.monotonic()) / 2
        if self.offset is None or abs(offset - self.offset) > STEP:
            self.offset = offset

    def clock(self, own: Clock) -> Clock:
        """Return a clock that shows the database's time and goes as this machine's monotonic one."""
        return _DatabaseClock(self, own)

    # -- places of which there is one ---------------------------------------------------------------------------

    def _take_the_lead(self, connection: Connection) -> bool:
        if self.held:
            connection.execute(
                f"UPDATE leader SET until = {_NOW} + {LEASE} WHERE replica_id = %s AND place = ANY(%s)".encode(),  # noqa: S608
                (self._name, list(self.held)),
            )
        if self.role not in LEADING:
            return False
        return connection.execute(statement(_TAKE).encode(), {"id": self._name, "place": LEAD}).fetchone() is not None

    def take(self, db: Db, place: str) -> bool:
        """Take a place that nobody has, or whose holder gave no sign."""
        if db.one(_TAKE, id=self._name, place=place) is None:
            return False
        db.after_commit(lambda: self.held.add(place))
        return True

    def give_back(self, db: Db, place: str) -> None:
        db.execute("DELETE FROM leader WHERE place = :place AND replica_id = :id", place=place, id=self._name)

    def _free_the_dead(self, connection: Connection) -> int:
        """Forget whoever gave no sign for a while, and free the jobs of everybody who is not there."""
        connection.execute(f"DELETE FROM replicas WHERE seen_at < {_NOW} - {DEAD}".encode())  # noqa: S608 - our own text
        return connection.execute(
            b"UPDATE jobs SET owner = NULL, lease_until = NULL"
            b" WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM replicas)"
        ).rowcount

    def _leave(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute(_NO_LONGER)
            connection.execute(b"DELETE FROM leader WHERE replica_id = %s", (self._name,))
            connection.execute(b"UPDATE jobs SET owner = NULL, lease_until = NULL WHERE owner = %s", (self._name,))
            connection.execute(b"DELETE FROM replicas WHERE id = %s", (self._name,))


class _DatabaseClock:
    """The database's time between two signs of life: this machine's wall clock plays no part in it."""

    def __init__(self, presence: Presence, own: Clock) -> None:
        self._presence = presence
        self._own = own

    def now(self) -> float:
        offset = self._presence.offset
        return self._own.now() if offset is None else time.monotonic() + offset

    def monotonic(self) -> float:
        return self._own.monotonic()

    def jitter(self) -> float:
        return self._own.jitter()


def is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler is between: then it is not the server who told us with whom we speak.

    What is set for a session there, like LISTEN, stays with one of its connections and meets whoever has that next.
    """
    row = connection.execute(b"SELECT pg_backend_pid() AS pid").fetchone()
    return row is not None and row["pid"] != connection.info.backend_pid


class Listener:
    """Hears NOTIFY on a thread and a connection of its own. What it misses is found by looking."""

    def __init__(self, connect: Callable[[], Connection], wake: Callable[[], None]) -> None:
        self._connect = connect
        self._wake = wake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idsync-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(self._connect()) as connection:
                    if is_pooled(connection):
                        log.info("listener.pooled", note="NOTIFY does not come through a pooler; work is looked for")
                        return
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._wake()  # for what was said before
                    self._hear(connection)
            except psycopg.Error as error:
                log.debug("listener.failed", error=str(error).split("\n", 1)[0])
                self._stopping.wait(BEAT)

    def _hear(self, connection: Connection) -> None:
        while not self._stopping.is_set():
            for _ in connection.notifies(timeout=LISTENED, stop_after=1):
                self._wake()
