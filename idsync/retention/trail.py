"""Taking the beginning of the audit trail out of the store, once a file is proven to hold exactly that."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from idsync.audit import AuditEvent, Checkpoint, event_of, first_break
from idsync.clock import Clock, rfc3339
from idsync.errors import IdsyncError, UsageError
from idsync.store import journal, ledger, pruning
from idsync.store.db import Db, Store

T = TypeVar("T")


class NotExported(IdsyncError):
    """The exported file is not what would be taken out; nothing was changed."""


@dataclass(frozen=True)
class Cut:
    """What may go: the entries `first` to `last`, as a file holds them. `hash` is that of the last one."""

    first: int
    last: int
    hash: str
    entries: int
    sha256: str


class ExportedFile:
    """A file that `idsync audit export` wrote, read a line at a time; `sha256` is known once it was read to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def events(self) -> Iterator[AuditEvent]:
        """Yield its entries.

        Raises:
            UsageError: the file cannot be read.
            NotExported: a line of it is no entry.
        """
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    self._digest.update(line)
                    yield self._event(number, line)
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror}"
            raise UsageError(msg) from None

    def _event(self, number: int, line: bytes) -> AuditEvent:
        try:
            return event_of(line.decode("utf-8"))
        except ValueError:
            msg = f"{self.path}: line {number} is no entry of an audit trail: it was altered, or cut off"
            raise NotExported(msg) from None


def cut(db: Db, before: float, file: ExportedFile) -> Cut | None:
    """Compare a file with all entries before a time; None: there is nothing to take out any more.

    Raises:
        UsageError: the file cannot be read.
        NotExported: it holds other entries, or the chain of the store is broken.
    """
    done, last = journal.checkpoint(db), journal.last_before(db, before)
    first = (done.seq if done is not None else 0) + 1
    if last is None or last.seq < first:
        for _ in file.events():
            pass
        if done is None or file.sha256 != done.sha256:
            return None
        return Cut(done.seq - done.entries + 1, done.seq, done.hash, done.entries, done.sha256)
    number = first - 1
    ours = takewhile(lambda event: event.seq <= last.seq, journal.kept(db))
    theirs = file.events()
    for event in ours:
        number += 1
        if next(theirs, None) != event:
            raise NotExported(_differs(file, event.seq, first, last.seq))
    if next(theirs, None) is not None:
        msg = (
            f"{file.path} goes on after entry {last.seq}, the last one before that day; export up to the day before it"
        )
        raise NotExported(msg)
    _refuse_broken(db, last.seq)
    return Cut(first, last.seq, last.hash, number - first + 1, file.sha256)


def _differs(file: ExportedFile, seq: int, first: int, last: int) -> str:
    return (
        f"{file.path} does not hold exactly the entries {first} to {last}: it differs at entry {seq};"
        " write it with `idsync audit export --to DATE`, DATE being the day before"
    )


def _refuse_broken(db: Db, last: int) -> None:
    events = takewhile(lambda event: event.seq <= last, journal.kept(db))
    broken = first_break(events, *journal.start(db))
    if broken is not None:
        msg = f"the chain breaks at entry {broken}; nothing is taken out of a trail that is not whole"
        raise NotExported(msg)


def refuse_what_is_open(db: Db, before: float) -> None:
    """Keep the trail since the oldest thing that is not decided or not done.

    Raises:
        UsageError: a departure that is not settled, or an open hold, is older than `before`.
    """
    found = ledger.oldest_open(db)
    if found is not None and found[0] < before:
        since, what = found
        msg = (
            f"{what} since {rfc3339(since)} is still open, and its trail stays: --before {rfc3339(since)[:10]} at most"
        )
        raise UsageError(msg)


@dataclass(frozen=True)
class Trimming:
    """Takes out what a file was proven to hold, in small writes; a run that is cut off is finished by the next one."""

    store: Store
    clock: Clock

    async def run(self, *, before: float, last: int, hash: str, entries: int, sha256: str, by: str) -> dict[str, Any]:
        """Set the checkpoint, unless it is there, and take out all that it covers.

        The hash of an entry seals all before it: a file whose chain ends with this hash holds what the store holds.

        Raises:
            NotExported: the store has another entry there, or its chain is broken.
            UsageError: something older than that day is still open.
        """
        made = Checkpoint(last, hash, entries, sha256, self.clock.now())
        await asyncio.to_thread(self._check, made, before)
        await self._write(lambda db: _set(db, made, before, by))
        taken = 0
        while count := await self._write(lambda db: journal.take_exported(db, pruning.ROWS)):
            taken += count
        return {"checkpoint": {"seq": last, "hash": hash, "entries": entries, "sha256": sha256}, "taken": taken}

    def _check(self, made: Checkpoint, before: float) -> None:
        db = self.store.reader()
        if not _is_set(db, made):
            refuse_what_is_open(db, before)
            _refuse_broken(db, made.seq)

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self.store.submit(work))


def _is_set(db: Db, made: Checkpoint) -> bool:
    done = journal.checkpoint(db)
    return done is not None and (done.seq, done.hash, done.sha256) == (made.seq, made.hash, made.sha256)


def _set(db: Db, made: Checkpoint, before: float, by: str) -> None:
    """Set the checkpoint in one commit with the entry that seals it; nothing is taken out before that is on disk."""
    if _is_set(db, made):
        return
    refuse_what_is_open(db, before)
    start, last = journal.start(db)[0], journal.last_before(db, before)
    if last is None or (last.seq, last.hash, last.seq - start) != (made.seq, made.hash, made.entries):
        msg = f"entry {made.seq} of the store is not the one of the file; nothing was taken out"
        raise NotExported(msg)
    journal.put_checkpoint(db, made, by)
