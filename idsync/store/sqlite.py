"""SQLite: one writing connection on one thread, readers that cannot write, a lock file against a second process.

Why so: two connections that write or checkpoint at the same instant can lose committed data before SQLite 3.51.3
(sqlite.org/wal.html#walresetbug), and a deferred BEGIN fails at once under contention where IMMEDIATE waits.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from idsync.clock import Clock, new_id
from idsync.errors import StoreBusy, StoreError
from idsync.store.db import Db, Inspection, Row
from idsync.store.queued import Queue, Work
from idsync.store.scripts import scripts
from idsync.store.upgrade import AFTER
from idsync.store.writing import Writing
from idsync.words import count

log = structlog.get_logger(__name__)
BATCH = 64
"""Most transactions that share one fsync."""
WAL_LIMIT = 64 * 1024 * 1024
"""Bytes to which SQLite's log is cut once no reader needs what is in it."""
IDLE = 5.0
"""Seconds without a write after which the log is brought into the file: never while somebody waits for a commit."""
PATIENCE = 5.0
"""Seconds a statement waits for a lock of another connection."""
REFUSALS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOMEM,
    }
)
"""What SQLite says when the disk, not the statement, is the reason."""


AS_WHOM = "run this as the user the daemon runs as"


def path_of(url: str) -> Path:
    """Return the file of a `sqlite:///` URL.

    Raises:
        StoreError: the URL is of another kind.
    """
    prefix = "sqlite:///"
    if not url.startswith(prefix):
        msg = f"store.url {url.split(':', 1)[0]!r} is not supported by this release; use sqlite:////path/idsync.db"
        raise StoreError(msg)
    return Path(url.removeprefix(prefix))


def fresh_of(path: Path) -> Path:
    """Return the file in which `idsync db copy` prepares a store, beside the place where it is to be."""
    return path.with_name(f"{path.name}.copying")


class SqliteDb:
    """One connection behind the `Db` protocol."""

    shared = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        self.connection = connection
        self.hooks: list[Callable[[], None]] = []
        self.undos: list[Callable[[], None]] = []

    def execute(self, sql: str, /, **params: Any) -> int:
        return self.connection.execute(sql, params).rowcount

    def one(self, sql: str, /, **params: Any) -> Row | None:
        row: Row | None = self.connection.execute(sql, params).fetchone()
        return row

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        rows: Sequence[Row] = self.connection.execute(sql, params).fetchall()
        return rows

    @contextmanager
    def snapshot(self) -> Iterator[Db]:
        if self.connection.in_transaction:
            yield self
            return
        self.execute("BEGIN")
        try:
            yield self
        finally:
            self.execute("COMMIT")

    @contextmanager
    def operation(self) -> Iterator[Db]:
        self.execute("SAVEPOINT operation")
        try:
            yield self
        except BaseException:
            self.execute("ROLLBACK TO operation")
            raise
        finally:
            self.execute("RELEASE operation")

    def after_commit(self, call: Callable[[], None]) -> None:
        self.hooks.append(call)

    def on_undo(self, call: Callable[[], None]) -> None:
        self.undos.append(call)

    def undo(self, kept: int) -> None:
        """Call, last one first, what was to be called when work is undone; the first so many are kept."""
        while len(self.undos) > kept:
            self.undos.pop()()


class _Told:
    """Turns what SQLite refuses into a StoreError; no generator, as it runs around every statement."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
            msg = f"the store cannot be read: {error}"
            raise StoreError(msg) from error


_TOLD = _Told()


class _Reader(SqliteDb):
    """A read-only connection; what the disk or a lock refuses is a StoreError, as it is for writes.

    It may be closed by another thread: never in the middle of a statement, which would end the process.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._turn = threading.Lock()
        self._open = True

    def execute(self, sql: str, /, **params: Any) -> int:
        with self._turn, _TOLD:
            self._refuse_when_closed()
            return super().execute(sql, **params)

    def one(self, sql: str, /, **params: Any) -> Row | None:
        with self._turn, _TOLD:
            self._refuse_when_closed()
            return super().one(sql, **params)

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        with self._turn, _TOLD:
            self._refuse_when_closed()
            return super().all(sql, **params)

    def close(self) -> None:
        """End what is being read, and refuse what comes later."""
        self._open = False
        self.connection.interrupt()
        with self._turn:
            self.connection.close()

    def _refuse_when_closed(self) -> None:
        if not self._open:
            raise StoreError("the store is closed")


def _uri(path: Path, mode: str) -> str:
    """Return the URI of a file, whatever characters its path has (sqlite.org/uri.html)."""
    return f"file:{quote(path.resolve().as_posix())}?mode={mode}"


def _connect(path: Path, *, writing: bool) -> sqlite3.Connection:
    uri = _uri(path, "rwc" if writing else "ro")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    pragmas = ["synchronous = FULL", "foreign_keys = ON"]
    pragmas += (
        ["journal_mode = WAL", f"journal_size_limit = {WAL_LIMIT}"]
        if writing
        else ["query_only = ON", "wal_autocheckpoint = 0"]
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class FileLock:
    """An advisory lock on `<store>.lock`; the kernel drops it when the process dies."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(store.name + ".lock")
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StoreBusy: another process has it.
            StoreError: the lock file belongs to somebody else.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            msg = f"cannot open the lock of the store {self.path}: {error.strerror}; who owns it?"
            raise StoreError(msg) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            msg = f"another idsync process holds the store ({self.path}); stop it first (other commands work beside it)"
            raise StoreBusy(msg) from error
        os.truncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class SqliteStore(Writing):
    """The store of one process: a writer thread and read-only connections.

    `write` gives each piece of work a savepoint inside a shared `BEGIN IMMEDIATE`; its future resolves only after
    the commit has been synced to disk, so whoever waits may answer 2xx (promise 1).
    """

    shared = False
    leads = True
    retries = 0

    def __init__(self, url: str, *, idle: float = IDLE) -> None:
        super().__init__()
        self.name = new_id()
        self.path: Path = path_of(url)
        self._idle = idle
        self._lock = FileLock(self.path)
        self._readers = threading.local()
        self._opened: list[_Reader] = []

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the lock, check the file, bring the schema up to date and start the writer.

        Raises:
            StoreBusy: another process holds the store.
            StoreError: the file is damaged, read-only, or of a newer release.
        """
        self._prepare_folder()
        self._lock.acquire()
        connection: sqlite3.Connection | None = None
        try:
            self._refuse_half()
            connection = _connect(self.path, writing=True)
            self.path.chmod(0o600)
            _check(connection)
            migrate(connection)
        except (sqlite3.Error, OSError, StoreError) as error:
            if connection is not None:
                connection.close()
            self._lock.release()
            if isinstance(error, StoreError):
                raise
            msg = f"cannot open the store {self.path}: {error}"
            raise StoreError(msg) from error
        self._start(partial(self._work, connection))

    def _prepare_folder(self) -> None:
        folder = self.path.resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            msg = f"cannot create the folder of the store {folder}: {error.strerror}"
            raise StoreError(msg) from error
        if not os.access(folder, os.W_OK):
            msg = f"the folder of the store {folder} is not writable by this user; {AS_WHOM}"
            raise StoreError(msg)
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            msg = f"the store {self.path} is not writable by this user; {AS_WHOM}"
            raise StoreError(msg)

    def _refuse_half(self) -> None:
        fresh = fresh_of(self.path)
        if fresh.exists() and not self.path.exists():
            msg = (
                f"`idsync db copy` to {self.path} was cut off, and there is no store yet; run it again, or to begin with"
                f" an empty store remove {fresh}"
            )
            raise StoreError(msg)

    def close(self) -> None:
        """Finish the writes already accepted, close every connection and give the lock back."""
        self._finish()
        with self._guard:
            for reader in self._opened:
                reader.close()
            self._opened.clear()
        self._readers = threading.local()
        self._lock.release()

    def tell(self) -> None:
        """There is nobody to tell."""

    def listen(self, wake: Callable[[], None]) -> None:
        """There is nobody to listen to."""

    def take_turn(self, place: str) -> bool:
        """Nobody else is there to take it."""
        return True

    def end_turn(self, place: str) -> None:
        """There is nobody to give it to."""

    def clock(self, own: Clock) -> Clock:
        return own

    # -- use ----------------------------------------------------------------------------------------------------

    def reader(self) -> Db:
        """Return this thread's read-only connection, opening it on first use.

        Raises:
            StoreError: the store is closed, or cannot be read.
        """
        db: _Reader | None = getattr(self._readers, "db", None)
        if db is None:
            try:
                connection = _connect(self.path, writing=False)
            except sqlite3.Error as error:
                msg = f"cannot open the store {self.path} for reading: {error}"
                raise StoreError(msg) from error
            with self._guard:
                if self._thread is None:
                    connection.close()
                    raise StoreError("the store is closed")
                db = self._readers.db = _Reader(connection)
                self._opened.append(db)
        return db

    # -- the writer thread ---------------------------------------------------------------------------------------

    def _work(self, connection: sqlite3.Connection) -> None:
        db = SqliteDb(connection)
        tidy = True
        while True:
            try:
                if not self._queue.wait(None if tidy else self._idle):
                    break
            except queue.Empty:
                tidy = self._checkpoint(connection)
                continue
            self._commit_batch(db, self._queue)
            tidy = False
        self._truncate(connection)
        connection.close()

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        """Bring the log into the file without waiting for anybody, and cut one that grew; False: a reader needs it still.

        SQLite does both at commits alone: a log that grew under a long reader would stay until somebody writes again.
        """
        try:
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            grown = self.path.with_name(f"{self.path.name}-wal").stat().st_size > WAL_LIMIT
        except (sqlite3.Error, OSError) as error:
            log.warning("store.not_checkpointed", error=str(error))
            return False
        return bool(frames == moved) and (not grown or self._truncate(connection))

    def _truncate(self, connection: sqlite3.Connection) -> bool:
        """Empty the log; False when a reader or the disk is in the way."""
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
        except sqlite3.Error as error:
            log.warning("store.not_checkpointed", error=str(error))
            return False
        return not busy

    def _commit_batch(self, db: SqliteDb, waiting: Queue) -> None:
        """Run what is waiting inside one transaction."""
        taken: list[Work] = []
        done: list[tuple[Work, Any]] = []
        try:
            db.connection.execute("BEGIN IMMEDIATE")
            somebody_waits = False  # for this commit: then only others who do may still join it
            while len(taken) < BATCH and (work := waiting.take(only_urgent=somebody_waits)) is not None:
                taken.append(work)
                self._run_one(db, work, done)
                somebody_waits = somebody_waits or work.urgent
            db.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not db.connection.in_transaction:
                while (following := waiting.take()) is not None:  # not even BEGIN: all that waits is refused together
                    taken.append(following)
            self._undo(db, error, taken)
            return
        hooks, db.hooks = db.hooks, []
        db.undos.clear()
        for work, result in done:
            work.future.set_result(result)
        for hook in hooks:
            try:
                hook()
            except Exception:
                log.exception("store.hook_failed")  # what is on disk stays; whoever was to be woken looks by itself

    def _run_one(self, db: SqliteDb, work: Work, done: list[tuple[Work, Any]]) -> None:
        if not work.future.set_running_or_notify_cancel():
            return  # whoever asked has gone away before it began
        hooks, undos = len(db.hooks), len(db.undos)
        db.connection.execute("SAVEPOINT work")
        try:
            result = work.run(db)
        except BaseException as error:
            del db.hooks[hooks:]
            db.undo(undos)
            if not db.connection.in_transaction:  # a full disk: SQLite has already rolled everything back
                raise sqlite3.OperationalError(str(error)) from error
            db.connection.execute("ROLLBACK TO work")
            db.connection.execute("RELEASE work")
            work.future.set_exception(_told(error))
        else:
            db.connection.execute("RELEASE work")
            done.append((work, result))

    def _undo(self, db: SqliteDb, error: sqlite3.Error, taken: list[Work]) -> None:
        db.hooks.clear()
        db.undo(0)
        if db.connection.in_transaction:
            db.connection.execute("ROLLBACK")
        failure = _refused(error)
        for work in taken:
            if not work.future.done():
                work.future.set_exception(failure)


def _told(error: BaseException) -> BaseException:
    """Return what whoever asked is told: a disk that refuses is a StoreError also when only one statement was undone."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return _refused(error) if isinstance(error, sqlite3.DatabaseError) and code in REFUSALS else error


def _refused(error: BaseException) -> StoreError:
    return StoreError(f"the store refused a write: {error}")


@contextmanager
def read_only(url: str) -> Iterator[Db]:
    """Open the file of a daemon that may be running, for reading.

    Raises:
        StoreError: there is no store yet.
    """
    with _reader(url) as connection:
        yield SqliteDb(connection)


@contextmanager
def _reader(url: str) -> Iterator[sqlite3.Connection]:
    path = path_of(url)
    _refuse_unreadable(path)
    try:
        connection = _connect(path, writing=False)
    except sqlite3.Error as error:
        beside = "" if os.access(path.resolve().parent, os.W_OK) else f"; SQLite keeps a file beside it: {AS_WHOM}"
        msg = f"cannot read the store {path}: {error}{beside}"
        raise StoreError(msg) from error
    try:
        yield connection
    except sqlite3.DatabaseError as error:
        msg = f"the store {path} cannot be read ({error}); check the disk, restore a backup"
        raise StoreError(msg) from error
    finally:
        connection.close()


def _refuse_unreadable(path: Path) -> None:
    """Say what SQLite would not: that there is nothing yet, or that it is somebody else's."""
    try:
        there = path.exists()
    except OSError as error:
        msg = f"cannot read the store {path}: {error.strerror}; {AS_WHOM}"
        raise StoreError(msg) from error
    if not there:
        msg = f"there is no store at {path} yet; start `idsync serve` once, or check store.url"
        raise StoreError(msg)
    if not os.access(path, os.R_OK):
        msg = f"the store {path} is not readable by this user; {AS_WHOM}"
        raise StoreError(msg)


# -- schema -----------------------------------------------------------------------------------------------------


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        msg = f"the store is damaged ({verdict}); restore a backup before starting"
        raise StoreError(msg)


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit behind the migration's back."""
    pending = ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _migrations() -> Migrations:
    """Register every migration of this release, in order; sqlite-utils keeps the record of what was applied."""
    known = Migrations("idsync")
    for script in scripts():

        def run(db: Database, text: str = script.text, name: str = script.name) -> None:
            for statement in _statements(text):
                db.conn.execute(statement)
            if name in AFTER:
                AFTER[name](SqliteDb(db.conn))

        known(name=script.name)(run)
    return known


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the migrations that are missing, each in a transaction of its own.

    Raises:
        StoreError: the file was written by a newer release.
    """
    db, known = Database(connection), _migrations()
    newer = {done.name for done in known.applied(db)} - {entry.name for entry in known._migrations}
    if newer:
        msg = f"the store was written by a newer release ({', '.join(sorted(newer))}); upgrade idsync"
        raise StoreError(msg)
    known.apply(db)
    guard_the_trail(connection)


GUARDS = {
    "audit_not_updated": "BEFORE UPDATE ON audit",
    "audit_not_deleted": "BEFORE DELETE ON audit WHEN OLD.seq > (SELECT COALESCE(MAX(seq), 0) FROM audit_checkpoints)",
    "audit_not_inserted": "BEFORE INSERT ON audit WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit)",
    "checkpoint_not_updated": "BEFORE UPDATE ON audit_checkpoints",
    "checkpoint_not_deleted": "BEFORE DELETE ON audit_checkpoints",
    "checkpoint_not_inserted": "BEFORE INSERT ON audit_checkpoints WHEN NOT EXISTS"
    " (SELECT 1 FROM audit WHERE seq = NEW.seq AND hash = NEW.hash)"
    " OR NEW.seq <= (SELECT COALESCE(MAX(seq), 0) FROM audit_checkpoints)",
}
"""Triggers that keep a mistake, ours or somebody's with an editor, from rewriting the trail.

Whoever means to can drop them; that is what the hash chain is for. Those of inserting are also for INSERT OR REPLACE,
which deletes without asking those of deleting. What a checkpoint covers was exported, and may go.
"""


def guard_the_trail(connection: sqlite3.Connection) -> None:
    """Put the triggers of this release in force."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit%'")
    there = {row[0]: row[1] for row in rows}
    for name, when in GUARDS.items():
        wanted = f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END"
        if there.get(name) != wanted:
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            connection.execute(wanted)


# -- maintenance ----------------------------------------------------------------------------------------------------


def backup(url: str, target: Path) -> None:
    """Copy a store that may be in use to a new file (SQLite's backup API; never copy the file itself).

    Raises:
        StoreError: there is no store, or the target exists or cannot be written.
    """
    if target.exists():
        msg = f"{target} exists; a backup never overwrites"
        raise StoreError(msg)
    source = path_of(url)
    with read_only(url):
        pass
    try:
        target.touch(mode=0o600)
        with closing(sqlite3.connect(_uri(source, "ro"), uri=True)) as have, closing(sqlite3.connect(target)) as copy:
            have.backup(copy)
    except (sqlite3.Error, OSError) as error:
        target.unlink(missing_ok=True)
        msg = f"cannot back up to {target}: {error}"
        raise StoreError(msg) from error


def migrations_done(url: str) -> set[str]:
    """Return the names of the migrations that a store has.

    Raises:
        StoreError: there is no store yet.
    """
    with _reader(url) as connection:
        rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'idsync'").fetchall()
    return {row[0] for row in rows}


def migrations_left(url: str) -> tuple[list[str], list[str]]:
    """Return the migrations a store lacks, and those it has of a newer release.

    Raises:
        StoreError: there is no store yet.
    """
    done, known = migrations_done(url), {entry.name for entry in _migrations()._migrations}
    return sorted(known - done), sorted(done - known)


def inspect(url: str) -> Inspection:
    """Check every page of a store and count its rows.

    Raises:
        StoreError: there is no store yet.
    """
    with _reader(url) as connection:
        verdict = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        tables = Database(connection).tables
        counts = [f"{table.name}: {count(table.count, 'row')}" for table in tables if not table.name.startswith("_")]
        fixed = sqlite3.sqlite_version_info >= (3, 51, 3)
        version = f"SQLite {sqlite3.sqlite_version}" + (
            "" if fixed else " (has the WAL-reset bug; one writer avoids it)"
        )
    return Inspection(verdict == ["ok"], (version, f"integrity: {'; '.join(verdict)}", *counts))
