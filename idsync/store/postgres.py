"""PostgreSQL: every process writes on one connection in serializable transactions, and reads on a few more.

What two processes do at the same instant is as if one had done it after the other, or one of them is told to begin
again (postgresql.org/docs/current/transaction-iso.html). Nothing here needs a session of its own, so that a pooler in
transaction mode may stand between: no prepared statements, no session locks, no settings beyond a transaction.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import structlog
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from idsync.clock import Clock, new_id
from idsync.errors import ConfigError, StoreError
from idsync.store import journal
from idsync.store.address import Address
from idsync.store.db import Db, Row
from idsync.store.dialect import parameters, statement
from idsync.store.postgres_schema import (
    done,
    migrate,
    refuse_half,
    refuse_outgrown,
    refuse_statement_pooling,
    refuse_unfit,
    refuse_unreadable,
)
from idsync.store.presence import CHANNEL, Listener, Presence
from idsync.store.queued import Queue, Work
from idsync.store.scripts import Left, left
from idsync.store.writing import Writing

log = structlog.get_logger(__name__)
Connection = psycopg.Connection[dict[str, Any]]

BATCH = 64
"""Most pieces of work that share one transaction."""
READERS = 8
"""Most connections of one process that read."""
PATIENCE = 2.0
"""Seconds a read waits for a connection."""
DOWN = 0.5
"""Seconds for which nothing asks again after the database did not answer."""
CONTENDED = 20.0
"""Seconds for which a transaction is begun again and again while others are in its way."""
LINKED_EVERY = 0.5
"""Seconds after which entries are linked at the latest, however busy the writer is."""
CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
    "application_name": "idsync",
}
BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '60s'"
IN_TURN = f"{BEGIN}; LOCK TABLE turnstile IN EXCLUSIVE MODE"
"""Locks a table, which unlike an advisory lock is done before the transaction sees the others' work."""
TAKES_TURNS = 2.0
"""Seconds after a collision for which this process writes in turn with all others who do."""
TURN = 0.03
"""Seconds after which a transaction in turn takes no more work, so that the others have theirs."""
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
READS_ONLY = "this connection reads only"
IDLE = psycopg.pq.TransactionStatus.IDLE
LINK_LOCK = 0x1D5C
"""The advisory lock, for a transaction, of whoever links audit entries."""
CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
AGAIN = (*CONFLICTS, psycopg.errors.UniqueViolation)
"""Whoever comes second begins again, and finds what the first has written (40001, 40P01; 23505 says the same)."""
TRIES = 5
"""Times a transaction is begun again before a key that is there twice counts as what it says."""
REFUSALS = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
"""What says that the database, not the statement, is the reason."""


def connect(address: Address, **more: Any) -> Connection:
    """Open a connection that commits by itself.

    Raises:
        psycopg.OperationalError: there is none to be had.
    """
    made: Connection = _Connection.connect(address=address, **more)
    return made


class _Connection(psycopg.Connection[dict[str, Any]]):
    """A connection as everything here needs it: statements go as text, and nothing of it outlives a transaction."""

    @classmethod
    def connect(cls, conninfo: str = "", *, address: Address, **more: Any) -> Any:  # type: ignore[override]
        try:
            secrets = address.secrets()
        except ConfigError as error:
            raise psycopg.OperationalError(str(error)) from error
        made = super().connect(
            address.url,
            **{**CONNECT, **secrets, **more},
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor,
            prepare_threshold=None,
        )
        made.adapters.register_loader("numeric", FloatLoader)
        return made


class PostgresDb:
    """One connection behind the `Db` protocol."""

    shared = True

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.hooks: list[Callable[[], None]] = []

    def execute(self, sql: str, /, **params: Any) -> int:
        return self._run(sql, params).rowcount

    def one(self, sql: str, /, **params: Any) -> Row | None:
        return self._run(sql, params).fetchone()

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        return self._run(sql, params).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[Db]:
        if self.connection.info.transaction_status != IDLE:
            yield self
            return
        self.connection.execute(SNAPSHOT)
        try:
            yield self
        finally:
            self.connection.execute("ROLLBACK")

    @contextmanager
    def operation(self) -> Iterator[Db]:
        if self.connection.info.transaction_status == IDLE:
            with self.snapshot():  # what only reads has nothing to undo
                yield self
            return
        self.connection.execute("SAVEPOINT operation")
        try:
            yield self
        except _Undone:
            raise
        except BaseException:
            self.connection.execute("ROLLBACK TO operation; RELEASE operation")
            raise
        else:
            self.connection.execute("RELEASE operation")

    def after_commit(self, call: Callable[[], None]) -> None:
        self.hooks.append(call)

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        return self.connection.execute(statement(sql).encode(), parameters(params))


class _Undone(BaseException):
    """The whole transaction has ended: nobody who called may take that for an error of their own, and go on."""

    def __init__(self, error: psycopg.Error) -> None:
        self.error = error


class _WriterDb(PostgresDb):
    """The writer's connection, inside a transaction."""

    undoing: tuple[type[psycopg.Error], ...] = ()
    """What ends the whole transaction, and not one piece of work."""

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return super()._run(sql, params)
        except self.undoing as error:
            raise _Undone(error) from None


class _ReadingDb(PostgresDb):
    """One connection that reads. A setting that says so would stay behind a pooler, for whoever writes there next."""

    def execute(self, sql: str, /, **params: Any) -> int:
        raise StoreError(READS_ONLY)

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        _refuse_writing(sql)
        return super()._run(sql, params)


def _refuse_writing(sql: str) -> None:
    if not sql.startswith(("SELECT", "WITH")):
        raise StoreError(READS_ONLY)


class _Reader:
    """Reads on any free connection of the pool; what the network or the server refuses is a StoreError."""

    shared = True

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self._asked_again_at = 0.0

    def execute(self, sql: str, /, **params: Any) -> int:
        raise StoreError(READS_ONLY)

    def one(self, sql: str, /, **params: Any) -> Row | None:
        rows = self._read(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        return self._read(sql, params)

    @contextmanager
    def snapshot(self) -> Iterator[Db]:
        with self._told(), self._connection() as connection:
            connection.execute(SNAPSHOT)
            try:
                yield PostgresDb(connection)
            finally:
                connection.execute("ROLLBACK")

    def operation(self) -> AbstractContextManager[Db]:
        return self.snapshot()

    def after_commit(self, call: Callable[[], None]) -> None:
        raise StoreError(READS_ONLY)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the network or the server refuses into a StoreError, and do not ask again for a moment."""
        if time.monotonic() < self._asked_again_at:
            raise StoreError("the database does not answer")
        try:
            yield
        except PoolClosed as error:
            raise StoreError("the store is closed") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as error:
            self._asked_again_at = time.monotonic() + DOWN
            msg = f"the store cannot be read: {words(error)}"
            raise StoreError(msg) from error

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Take a connection of the pool that answers: all of them have ended when the server was started again."""
        with self._pool.connection(PATIENCE) as connection:
            yield connection

    def _read(self, sql: str, params: dict[str, Any]) -> Sequence[Row]:
        _refuse_writing(sql)
        with self._told():
            text, given = statement(sql).encode(), parameters(params)
            try:
                with self._connection() as connection:
                    return connection.execute(text, given).fetchall()
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._pool.check()
                with self._connection() as connection:
                    return connection.execute(text, given).fetchall()


class PostgresStore(Writing):
    """The part of a shared database that this process uses.

    `write` gives each piece of work a savepoint inside a shared transaction, as the store of one file does; its future
    resolves only after the commit, so whoever waits may answer 2xx (promise 1). A transaction that met another one is
    undone and done again as a whole, in smaller pieces where that goes on.
    """

    shared = True
    path = None

    def __init__(self, url: str, *, password: Callable[[], str] | None = None, role: str = "all") -> None:
        super().__init__()
        self.name = new_id()
        self.address = Address(url, password)
        self.presence = Presence(lambda: connect(self.address), self.name, role)
        self._pool: ConnectionPool[Connection] | None = None
        self._reader: _Reader | None = None
        self._waiting: deque[Work] = deque()
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
        self._reader = _Reader(self._pool)
        self._start(self._work)

    def _pooled(self) -> ConnectionPool[Connection]:
        pool: ConnectionPool[Any] = ConnectionPool(
            "",
            connection_class=_Connection,
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
        db: _WriterDb | None = None
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

    def _connected(self, db: _WriterDb | None) -> _WriterDb | None:
        """Return a connection that is open; where there is none to be had, all that waits is refused together."""
        if self._outgrown is not None:
            self._refuse_all(self._outgrown)
            if db is not None:
                db.connection.close()
            return None
        if db is not None and not db.connection.closed:
            return db
        try:
            return _WriterDb(connect(self.address))
        except psycopg.Error as error:
            self._refuse_all(_refused(error))
            return None

    def _refuse_all(self, failure: StoreError) -> None:
        while (work := self._queue.take()) is not None:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(failure)

    def _commit_batch(self, db: _WriterDb, waiting: Queue) -> None:
        """Commit what is waiting, as much together as others on the database let us."""
        until, tries = time.monotonic() + CONTENDED, 0
        taken: deque[Work] = deque()
        while True:
            batch = _Batch(
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

    def _notify(self, db: _WriterDb) -> None:
        self._to_tell = False
        try:
            db.connection.execute(f"NOTIFY {CHANNEL}".encode())
        except psycopg.Error as error:
            log.debug("store.not_told", error=words(error))

    # -- the trail -----------------------------------------------------------------------------------------------

    def _link(self, db: _WriterDb | None) -> _WriterDb | None:
        """Link audit entries into the chain, unless somebody else is at it; return the connection that was used."""
        self.linked_at = time.monotonic()
        try:
            db = db if db is not None and not db.connection.closed else _WriterDb(connect(self.address))
            plain = PostgresDb(db.connection)
            while journal.unlinked(plain) and self._link_some(plain):
                pass
        except psycopg.Error as error:
            if db is not None:
                _roll_back(db)
            log.debug("audit.not_linked", error=words(error))
        return db

    def _link_some(self, db: PostgresDb) -> bool:
        db.connection.execute("BEGIN")
        locked = db.one("SELECT pg_try_advisory_xact_lock(:lock) AS got", lock=LINK_LOCK)
        linked = journal.link(db) if locked is not None and locked["got"] else 0
        db.connection.execute("COMMIT")
        return linked > 0


class _Batch:
    """One try of one transaction. Nobody is told anything before it is committed."""

    def __init__(self, db: _WriterDb, size: int, again: tuple[type[psycopg.Error], ...], *, in_turn: bool) -> None:
        self._in_turn = in_turn
        self._db = db
        self._size = size
        self._undoing: tuple[type[psycopg.Error], ...] = (*again, *REFUSALS)
        self.begun: list[Work] = []
        self._ended: list[tuple[Work, Any, BaseException | None]] = []

    def run(self, taken: deque[Work], waiting: Queue) -> None:
        """Run what was taken before, then what waits, and commit.

        Raises:
            psycopg.Error: it was undone, or has to be.
        """
        self._db.hooks.clear()
        self._db.undoing = self._undoing
        self._db.connection.execute(IN_TURN if self._in_turn else BEGIN)
        until = time.monotonic() + TURN if self._in_turn else math.inf
        somebody_waits = False  # for this commit: then only others who do may still join it
        while len(self.begun) < self._size and (time.monotonic() < until or not self.begun):
            if len(self.begun) < len(taken):
                work = taken[len(self.begun)]
            elif (more := waiting.take(only_urgent=somebody_waits)) is not None:
                if not more.future.set_running_or_notify_cancel():
                    continue  # whoever asked has gone away before it began
                taken.append(work := more)
            else:
                break
            self.begun.append(work)
            self._run_one(work)
            somebody_waits = somebody_waits or work.urgent
        said = self._db.connection.execute("COMMIT").statusmessage
        if said != "COMMIT":  # the transaction had failed, and was undone
            raise psycopg.errors.SerializationFailure(f"a commit was answered {said}")

    def _run_one(self, work: Work) -> None:
        hooks = len(self._db.hooks)
        self._db.connection.execute("SAVEPOINT work")
        try:
            result = work.run(self._db)
        except _Undone as undone:
            raise undone.error from None
        except BaseException as error:
            del self._db.hooks[hooks:]
            self._db.connection.execute("ROLLBACK TO work; RELEASE work")
            self._ended.append((work, None, error))
        else:
            self._db.connection.execute("RELEASE work")
            self._ended.append((work, result, None))

    def tell(self) -> None:
        """Tell everybody how theirs ended."""
        hooks, self._db.hooks = self._db.hooks, []
        for work, result, error in self._ended:
            if error is not None:
                work.future.set_exception(error)
            else:
                work.future.set_result(result)
        for hook in hooks:
            try:
                hook()
            except Exception:
                log.exception("store.hook_failed")  # what is on disk stays; whoever was to be woken looks by itself


def _roll_back(db: PostgresDb) -> None:
    db.hooks.clear()
    with contextlib.suppress(psycopg.Error):
        db.connection.execute("ROLLBACK")
        return
    db.connection.close()


def _fail(taken: deque[Work], failure: Exception) -> None:
    for work in taken:
        work.future.set_exception(failure)


def _refused(error: BaseException) -> StoreError:
    return StoreError(f"the store refused a write: {words(error)}")


def words(error: BaseException) -> str:
    """Return the first line of what the server said; what follows may quote what was written."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def stands(address: Address) -> Left:
    """Return how the schema of a database stands to this release's.

    Raises:
        StoreError: it cannot be reached.
    """
    with _reached(address) as connection:
        return left(done(connection))


def migrated(address: Address, *, post: bool) -> list[str]:
    """Apply the migrations that are missing, with `post` what takes away as well; return their names.

    Raises:
        StoreBusy: a replica of an older release still needs what is to be taken away.
        StoreError: the database cannot be reached, or serves this release no more.
    """
    with _reached(address) as connection:
        refuse_unfit(connection)
        return migrate(connection, post=post)


@contextmanager
def _reached(address: Address) -> Iterator[Connection]:
    try:
        with connect(address) as connection:
            yield connection
    except psycopg.Error as error:
        msg = f"cannot open the store {address}: {words(error)}"
        raise StoreError(msg) from error


@contextmanager
def read_only(url: str, password: Callable[[], str] | None) -> Iterator[Db]:
    """Read a database that daemons may be using.

    Raises:
        StoreError: it cannot be reached, or there is no store in it yet.
    """
    address = Address(url, password)
    try:
        connection = connect(address)
    except psycopg.Error as error:
        msg = f"cannot read the store {address}: {words(error)}"
        raise StoreError(msg) from error
    with contextlib.closing(connection):
        try:
            refuse_statement_pooling(connection)
            refuse_unreadable(connection, address)
            yield _ReadingDb(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            msg = f"the store {address} cannot be read ({words(error)})"
            raise StoreError(msg) from error
