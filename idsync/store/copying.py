"""Moving an installation into another store: every row of every table, read back and compared before it counts.

The copy is one transaction, or a file beside its place: whatever ends it in the middle, there is no half store. Nobody
else may write either store meanwhile. The old store is frozen at the end, so that a daemon that is started on it by
mistake gives nobody anything back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from idsync.audit import first_break
from idsync.errors import StoreError
from idsync.store import facts, journal
from idsync.store.db import Db
from idsync.store.dialect import parameters
from idsync.store.scripts import scripts

PAGE = 2000
"""Rows read at a time."""
LOCAL = frozenset({"replicas", "leader"})
"""Tables about processes, which do not move."""
COPIED = "store.copied"
MOVED = "store.moved"
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """`key` are the columns of its primary key, in their order."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """How far it is: `doing` is copying or checking; `done` of `of` rows."""

    doing: str
    table: str
    done: int
    of: int


@dataclass(frozen=True)
class Sum:
    """What is compared of a table; the digest is over its rows in the order of their keys."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Copied:
    """`broken` is the entry at which the trail did not fit together before; the copy has it as it was."""

    tables: Mapping[str, Sum]
    audit_entries: int
    audit_head: str
    broken: int | None

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.tables.values())


class Source(Protocol):
    """A store that nobody else writes; `db` reads it as of one instant."""

    @property
    def db(self) -> Db: ...

    def tables(self) -> Mapping[str, Table]:
        """Return the tables it has."""

    def write(self, work: Callable[[Db], None]) -> None:
        """Write into it, and let go of it."""


class Target(Protocol):
    """A store without content, of which nobody sees anything before `finish`."""

    @property
    def db(self) -> Db: ...

    def tables(self) -> Mapping[str, Table]:
        """Return the tables it has."""

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        """Write rows as they are, also those that the triggers of the trail would refuse."""

    def guard(self) -> None:
        """Put the triggers of the trail in force."""

    def finish(self) -> None:
        """Make it a store."""


def names() -> tuple[str, ...]:
    """Return what moves, in the order in which the migrations make it: what others refer to comes first."""
    made = re.findall(r"^CREATE TABLE (\w+)", "\n".join(script.text for script in scripts()), re.MULTILINE)
    return tuple(name for name in dict.fromkeys(made) if name not in LOCAL)


@dataclass(frozen=True)
class Copy:
    """A copy from one store into another; `names` are the addresses as they may be shown."""

    source: Source
    target: Target
    names: tuple[str, str]
    tell: Callable[[Step], None] = field(default=lambda step: None)

    def run(self, *, at: float, by: str) -> Copied:
        """Copy, compare, and end the old store's time. `at` is epoch seconds, `by` the user who asked for it.

        Raises:
            StoreError: the stores differ in what they can keep, or the copy is not equal; there is no copy then.
        """
        tables = self._tables()
        sums = {}
        for table in tables:
            summing = _Summing()
            self.target.fill(table, summing.over(self._read(self.source.db, table, "copying")))
            sums[table.name] = summing.sum
        self.target.guard()
        for table in tables:
            summing = _Summing()
            for _ in summing.over(self._read(self.target.db, table, "checking")):
                pass
            if summing.sum != sums[table.name]:
                msg = f"the copy of {table.name} is not equal to what was read; nothing was moved"
                raise StoreError(msg)
        copied = Copied(sums, *self._trail())
        detail = {"rows": copied.rows, "audit_entries": copied.audit_entries, "audit_head": copied.audit_head}
        self._begin_anew(detail, at, by)
        self.source.write(lambda db: self._leave(db, detail, at, by))
        self.target.finish()
        return copied

    def _tables(self) -> list[Table]:
        here, there = self.source.tables(), self.target.tables()
        for name in names():
            if here.get(name) != there.get(name):
                msg = (
                    f"table {name} is not the same in both stores: one of them is of another release; nothing was moved"
                )
                raise StoreError(msg)
        return [here[name] for name in names() if name in here]

    def _read(self, db: Db, table: Table, doing: str) -> Iterator[Row]:
        """Yield the rows of a table by their key, a page at a time, as both stores keep them."""
        counted = db.one(f'SELECT COUNT(*) AS n FROM "{table.name}"')  # noqa: S608 - our own tables
        of, done = int(counted["n"]) if counted else 0, 0
        columns = ", ".join(f'"{name}"' for name in table.columns)
        key = ", ".join(f'"{name}"' for name in table.key)
        after = ", ".join(f":{name}" for name in table.key)
        every = f'SELECT {columns} FROM "{table.name}"'  # noqa: S608 - our own tables
        rest = f"ORDER BY {key} LIMIT {PAGE}"
        rows = db.all(f"{every} {rest}")
        while rows:
            for row in rows:
                yield tuple(parameters({name: row[name] for name in table.columns}).values())
            done += len(rows)
            self.tell(Step(doing, table.name, done, of))
            last = {name: rows[-1][name] for name in table.key}
            rows = db.all(f"{every} WHERE ({key}) > ({after}) {rest}", **last) if len(rows) == PAGE else ()
        if not done:
            self.tell(Step(doing, table.name, 0, 0))

    def _trail(self) -> tuple[int, str, int | None]:
        """Compare the ends of both trails, and check the chain of the copy.

        Raises:
            StoreError: the copy's does not fit together where the old one's does.
        """
        before, after = (_chain(db) for db in (self.source.db, self.target.db))
        if before != after:
            msg = f"the audit trail is not the same in the copy: it ends at {after[0]}, not at {before[0]}; nothing was moved"
            raise StoreError(msg)
        return before

    def _begin_anew(self, detail: Mapping[str, Any], at: float, by: str) -> None:
        """Say in the copy where it came from; what kept the old store frozen after an earlier try is not its own."""
        db = self.target.db
        frozen = facts.get(db, facts.FROZEN)
        if frozen is not None and frozen.get("moved_to") == self.names[1]:
            facts.drop(db, facts.FROZEN)
        told = {"from": self.names[0], **detail}
        journal.append(db, at=at, actor=f"cli/{by}", action=COPIED, subject="store", detail=told)

    def _leave(self, db: Db, detail: Mapping[str, Any], at: float, by: str) -> None:
        """Say in the old store where everything went, and freeze it."""
        to = self.names[1]
        if facts.get(db, facts.FROZEN) is None:
            reason = f"everything has moved to {to}"
            facts.put(db, facts.FROZEN, {"reason": reason, "by": by, "at": at, "moved_to": to}, at)
        told = {"to": to, **detail}
        journal.append(db, at=at, actor=f"cli/{by}", action=MOVED, subject="store", detail=told)


def _chain(db: Db) -> tuple[int, str, int | None]:
    return *journal.head(db), first_break(journal.kept(db), *journal.start(db))


class _Summing:
    """Adds up rows as they pass."""

    def __init__(self) -> None:
        self._rows = 0
        self._digest = hashlib.sha256()

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._rows += 1
            self._digest.update(_line(row).encode())
            yield row

    @property
    def sum(self) -> Sum:
        return Sum(self._rows, self._digest.hexdigest())


_line = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
