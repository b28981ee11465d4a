"""PostgreSQL: every process writes on one connection in serializable transactions, and reads on a few more.

What two processes do at the same instant is as if one had done it after the other, or one of them is told to begin
again (postgresql.org/docs/current/transaction-iso.html). Nothing here needs a session of its own, so that a pooler in
transaction mode may stand between: no prepared statements, no session locks, no settings beyond a transaction.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from idsync.clock import Clock, new_id
from idsync.errors import StoreError
from idsync.store import journal
from idsync.store.address import Address
from idsync.store.db import Db
from idsync.store.postgres_batch import Batch
from idsync.store.postgres_connection import (
    AGAIN,
    CONFLICTS,
    Connection,
    KeptConnection,
    PostgresDb,
    WriterDb,
    connect,
    words,
)
from idsync.store.postgres_reading import Reader, exists, migrated, read_only, stands
from idsync.store.postgres_schema import (
    migrate,
    refuse_half,
    refuse_outgrown,
    refuse_unfit,
)
from idsync.store.presence import CHANNEL, Listener, Presence
from idsync.store.queued import Queue, Work
from idsync.store.writing import Writing

log = structlog.get_logger(__name__)
__all__ = ["Connection", "PostgresDb", "PostgresStore", "connect", "exists", "migrated", "read_only", "stands", "words"]

BATCH = 64
"""Most pieces of work that share one transaction."""
READERS = 8
"""Most connections of one process that read."""
CONTENDED = 20.0
"""Seconds for which a transaction is begun again and again while others are in its way."""
LINKED_EVERY = 0.5
"""Seconds after which entries are linked at the latest, however busy the writer is."""
TAKES_TURNS = 2.0
"""Seconds after a collision for which this process writes in turn with all others who do."""
LINK_LOCK = 0x1D5C
"""The advisory lock, for a transaction, of whoever links audit entries."""
TRIES = 5
"""Times a transaction is begun again before a key that is there twice counts as what it says."""


class PostgresStore(Writing):
    """The part of a shared database that this process uses.

    `write` gives each piece of work a savepoint inside a shared transaction, as the store of one file does; its future
    resolves only after the commit, so whoever waits may answer 2xx (promise 1). A transaction that met another one is
    undone and done again as a whole, from then on for a while in turn with all others.
    """

    shared = True
    path = None

    def __init__(self, url: str, *, password: Callable[[], str] | None = None, role: str = "all") -> None:
        super().__init__()
        self.name = new_id()
        self.address = Address(url, password)
        self.presence = Presence(lambda: connect(self.address), self.name, role)
        self._pool: ConnectionPool[Connection] | None = None
        self._reader: Reader | None = None
        self.linked_at = 0.0
        """When the trail was last looked at for entries to link, in seconds of the monotonic clock."""
        self._to_tell = False
        self._in_turn_until = 0.0
        self.retries = 0
        """Transactions that were begun again because they had met others."""
        self._listener: Listener | None = None
        self._outgrown: StoreError | None = None
        self.presence.on_return = self._come_back

    @property
    def leads(self) -> bool:
        return self.presence.leads

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Reach the database, bring its schema up to date, and say that this process is there.

        Raises:
            StoreError: it cannot be reached, may not be written, forgets what it has committed, or is of a newer release.
        """
        try:
            with connect(self.address) as connection:
                refuse_unfit(connection)
                refuse_half(connection)
                migrate(connection)
                self.presence.start()
                refuse_outgrown(connection)  # before the sign of life somebody might have taken away what we need
            self._pool = self._pooled()
        except (psycopg.Error, StoreError) as error:
            self.presence.stop()
            if isinstance(error, StoreError):
                raise
            msg = f"cannot open the store {self.address}: {words(error)}"
            raise StoreError(msg) from error
        self._reader = Reader(self._pool)
        self._start(self._work)

    def _pooled(self) -> ConnectionPool[Connection]:
        pool: ConnectionPool[Any] = ConnectionPool(
            "",
            connection_class=KeptConnection,
            kwargs={"address": self.address},
            min_size=1,
            max_size=READERS,
            num_workers=1,
            max_idle=300.0,
            reconnect_timeout=2.0,
            name="idsync-readers",
            open=False,
        )
        pool.open()
        return pool

    def close(self) -> None:
        """Finish the writes already accepted, give back the lead, and close every connection."""
        if self._listener is not None:
            self._listener.stop()
        self._finish()
        self.presence.stop()
        self._reader = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def tell(self) -> None:
        """Wake the workers; called after a commit, on the writer's thread."""
        self._to_tell = True

    def listen(self, wake: Callable[[], None]) -> None:
        """Be woken by NOTIFY until the store is closed. Behind a pooler none may come: then work is found by looking."""
        self._listener = Listener(lambda: connect(self.address), wake)
        self._listener.start()

    def take_turn(self, place: str) -> bool:
        """Take a place of which there is one; kept by signs of life until it is given back."""
        return self.write(lambda db: self.presence.take(db, place))

    def end_turn(self, place: str) -> None:
        """Let others have the place; where the database does not answer, the lease runs out by itself."""
        self.presence.held.discard(place)
        with contextlib.suppress(StoreError):
            self.write(lambda db: self.presence.give_back(db, place))

    def clock(self, own: Clock) -> Clock:
        """Return the database's clock, as of the last sign of life."""
        return self.presence.clock(own)

    def reader(self) -> Db:
        """Return what reads, on a connection of the pool for each statement.

        Raises:
            StoreError: the store is closed.
        """
        if self._outgrown is not None:
            raise self._outgrown
        if self._reader is None:
            raise StoreError("the store is closed")
        return self._reader

    def _come_back(self, connection: Connection) -> None:
        """Look, after a time in which nobody knew of us, whether this release may still use the database."""
        try:
            refuse_outgrown(connection)
        except StoreError as error:
            log.critical("store.outgrown", error=str(error))
            self._outgrown = error
            self.presence.withdraw()

    # -- the writer thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        db: WriterDb | None = None
        while True:
            try:
                if not self._queue.wait(LINKED_EVERY):
                    break
            except queue.Empty:
                db = self._link(db)
                continue
            db = self._connected(db)
            if db is not None:
                self._commit_batch(db, self._queue)
                if time.monotonic() - self.linked_at > LINKED_EVERY:
                    db = self._link(db)
        db = self._link(db)
        if db is not None:
            db.connection.close()

    def _connected(self, db: WriterDb | None) -> WriterDb | None:
        """Return a connection that is open; where there is none to be had, all that waits is refused together."""
        if self._outgrown is not None:
            self._refuse_all(self._outgrown)
            if db is not None:
                db.connection.close()
            return None
        if db is not None and not db.connection.closed:
            return db
        try:
            return WriterDb(connect(self.address))
        except psycopg.Error as error:
            self._refuse_all(_refused(error))
            return None

    def _refuse_all(self, failure: StoreError) -> None:
        while (work := self._queue.take()) is not None:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(failure)

    def _commit_batch(self, db: WriterDb, waiting: Queue) -> None:
        """Commit what is waiting, as much together as others on the database let us."""
        until, tries = time.monotonic() + CONTENDED, 0
        taken: deque[Work] = deque()
        while True:
            batch = Batch(
                db, BATCH, AGAIN if tries < TRIES else CONFLICTS, in_turn=time.monotonic() < self._in_turn_until
            )
            try:
                batch.run(taken, waiting)
            except AGAIN as error:
                _roll_back(db)
                if time.monotonic() > until:
                    _fail(taken, StoreError(f"the store is contended; try again ({words(error)})"))
                    return
                tries += 1
                self.retries += 1
                self._in_turn_until = time.monotonic() + TAKES_TURNS
            except psycopg.Error as error:
                _roll_back(db)
                _fail(taken, _refused(error))
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    self._refuse_all(_refused(error))  # they have waited for the same; not one after the other
                return
            except Exception as error:  # the thread outlives whatever it is: without it every push would wait for ever
                log.exception("store.writer_failed")
                _roll_back(db)
                _fail(taken, _refused(error))
                return
            else:
                if waiting.is_empty():
                    self._link(db)  # while nobody waits for the next commit, whoever reads the trail finds it linked
                batch.tell()
                if self._to_tell:
                    self._notify(db)
                for _ in batch.begun:
                    taken.popleft()
                if not taken:
                    return

    def _notify(self, db: WriterDb) -> None:
        self._to_tell = False
        try:
            db.connection.execute(f"NOTIFY {CHANNEL}".encode())
        except psycopg.Error as error:
            log.debug("store.not_told", error=words(error))

    # -- the trail -----------------------------------------------------------------------------------------------

    def _link(self, db: WriterDb | None) -> WriterDb | None:
        """Link audit entries into the chain, unless somebody else is at it; return the connection that was used."""
        self.linked_at = time.monotonic()
        try:
            db = db if db is not None and not db.connection.closed else WriterDb(connect(self.address))
            plain = PostgresDb(db.connection)
            while journal.unlinked(plain) and self._link_some(plain):
                pass
        except psycopg.Error as error:
            if db is not None:
                _roll_back(db)
            log.debug("audit.not_linked", error=words(error))
        except Exception:  # an entry that cannot be linked keeps nobody from writing; it is told as late
            log.exception("audit.link_failed")
            if db is not None:
                _roll_back(db)
        return db

    def _link_some(self, db: PostgresDb) -> bool:
        db.connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'")
        locked = db.one("SELECT pg_try_advisory_xact_lock(:lock) AS got", lock=LINK_LOCK)
        linked = journal.link(db) if locked is not None and locked["got"] else 0
        db.connection.execute("COMMIT")
        return linked > 0


def _roll_back(db: PostgresDb) -> None:
    db.hooks.clear()
    db.undo(0)
    with contextlib.suppress(psycopg.Error):
        db.connection.execute("ROLLBACK")
        return
    db.connection.close()


def _fail(taken: deque[Work], failure: Exception) -> None:
    for work in taken:
        if not work.future.done():
            work.future.set_exception(failure)


def _refused(error: BaseException) -> StoreError:
    return StoreError(f"the store refused a write: {words(error)}")
