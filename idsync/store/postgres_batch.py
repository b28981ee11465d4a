"""One transaction of the writer: many pieces of work, of which each may fail alone, or all are done again."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import psycopg
import structlog

from idsync.store.postgres_connection import (
    REFUSALS,
    Undone,
    WriterDb,
)
from idsync.store.queued import Queue, Work

log = structlog.get_logger(__name__)
BEGIN = (
    "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '60s';"
    " SET LOCAL idle_in_transaction_session_timeout = '10s'"
)
"""A process that stands still in a transaction, or is lost with its machine, keeps its locks from others no longer."""
IN_TURN = f"{BEGIN}; LOCK TABLE turnstile IN EXCLUSIVE MODE"
"""Locks a table, which unlike an advisory lock is done before the transaction sees the others' work."""
TURN = 0.03
"""Seconds after which a transaction in turn takes no more work, so that the others have theirs."""


class Batch:
    """One try of one transaction. Nobody is told anything before it is committed."""

    def __init__(self, db: WriterDb, size: int, again: tuple[type[psycopg.Error], ...], *, in_turn: bool) -> None:
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
        hooks, undos = len(self._db.hooks), len(self._db.undos)
        self._db.connection.execute("SAVEPOINT work")
        try:
            result = work.run(self._db)
        except Undone as undone:
            raise undone.error from None
        except BaseException as error:
            del self._db.hooks[hooks:]
            self._db.undo(undos)
            self._db.connection.execute("ROLLBACK TO work; RELEASE work")
            self._ended.append((work, None, error))
        else:
            self._db.connection.execute("RELEASE work")
            self._ended.append((work, result, None))

    def tell(self) -> None:
        """Tell everybody how theirs ended."""
        hooks, self._db.hooks = self._db.hooks, []
        self._db.undos.clear()
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
