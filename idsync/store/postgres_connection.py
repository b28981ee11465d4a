"""Connections to PostgreSQL: statements go as text, and nothing of a session outlives a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader

from idsync.errors import ConfigError, StoreError
from idsync.store.address import Address
from idsync.store.db import Db, Row
from idsync.store.dialect import parameters, statement

Connection = psycopg.Connection[dict[str, Any]]

CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
    "application_name": "idsync",
}
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
READS_ONLY = "this connection reads only"
IDLE = psycopg.pq.TransactionStatus.IDLE
CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
AGAIN = (*CONFLICTS, psycopg.errors.UniqueViolation)
"""Whoever comes second begins again, and finds what the first has written (40001, 40P01; 23505 says the same)."""
REFUSALS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""What says that the database, not the statement, is the reason."""


def connect(address: Address, **more: Any) -> Connection:
    """Open a connection that commits by itself.

    Raises:
        psycopg.OperationalError: there is none to be had.
    """
    made: Connection = KeptConnection.connect(address=address, **more)
    return made


class KeptConnection(psycopg.Connection[dict[str, Any]]):
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
        self.undos: list[Callable[[], None]] = []

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
        except Undone:
            raise
        except BaseException:
            self.connection.execute("ROLLBACK TO operation; RELEASE operation")
            raise
        else:
            self.connection.execute("RELEASE operation")

    def after_commit(self, call: Callable[[], None]) -> None:
        self.hooks.append(call)

    def on_undo(self, call: Callable[[], None]) -> None:
        self.undos.append(call)

    def undo(self, kept: int) -> None:
        """Call, last one first, what was to be called when work is undone; the first so many are kept."""
        while len(self.undos) > kept:
            self.undos.pop()()

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        return self.connection.execute(statement(sql).encode(), parameters(params))


class Undone(BaseException):
    """The whole transaction has ended: nobody who called may take that for an error of their own, and go on."""

    def __init__(self, error: psycopg.Error) -> None:
        self.error = error


class WriterDb(PostgresDb):
    """The writer's connection, inside a transaction."""

    undoing: tuple[type[psycopg.Error], ...] = ()
    """What ends the whole transaction, and not one piece of work."""

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return super()._run(sql, params)
        except psycopg.errors.ProgramLimitExceeded as error:  # an OperationalError by name, and one row's own fault
            msg = "a value is too long for the database"
            raise StoreError(msg) from error
        except self.undoing as error:
            raise Undone(error) from None


class ReadingDb(PostgresDb):
    """One connection that reads. A setting that says so would stay behind a pooler, for whoever writes there next."""

    def execute(self, sql: str, /, **params: Any) -> int:
        raise StoreError(READS_ONLY)

    def _run(self, sql: str, params: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
        refuse_writing(sql)
        return super()._run(sql, params)


def refuse_writing(sql: str) -> None:
    if not sql.startswith(("SELECT", "WITH")):
        raise StoreError(READS_ONLY)


def words(error: BaseException) -> str:
    """Return the first line of what the server said; what follows may quote what was written."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
