"""What was told to whom, and what is still to be told. A row lives while something is true, and until its end is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from idsync.store.db import Db, Row

Pending = Literal["new", "again", "over"]


@dataclass(frozen=True)
class Notice:
    """Something to tell to one receiver. Times are epoch seconds; `pending` None: all of it is delivered."""

    receiver: str
    event: str
    subject: str
    summary: str
    remedy: str
    since: float
    ended_at: float | None = None
    pending: Pending | None = None
    told_at: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.event, self.subject


@dataclass(frozen=True)
class Receiver:
    """How delivering goes. `attempts` failures in a row, the first at `failing_since`; nothing is sent before `next_at`."""

    name: str
    attempts: int = 0
    error: str | None = None
    failing_since: float | None = None
    next_at: float = 0.0
    delivered_at: float | None = None


def every(db: Db) -> list[Notice]:
    return [_notice(row) for row in db.all("SELECT * FROM notices ORDER BY receiver, since, event, subject")]


def pending(db: Db, receiver: str) -> list[Notice]:
    """Return what is still to be delivered to a receiver, what has been true longest first."""
    rows = db.all(
        "SELECT * FROM notices WHERE receiver = :receiver AND pending IS NOT NULL ORDER BY since, event, subject",
        receiver=receiver,
    )
    return [_notice(row) for row in rows]


def subjects(db: Db, event: str) -> frozenset[str]:
    """Return what an event is being told of."""
    rows = db.all("SELECT DISTINCT subject FROM notices WHERE event = :event AND ended_at IS NULL", event=event)
    return frozenset(row["subject"] for row in rows)


def put(db: Db, notice: Notice) -> None:
    db.execute(
        "INSERT INTO notices (receiver, event, subject, summary, remedy, since, ended_at, pending, told_at)"
        " VALUES (:receiver, :event, :subject, :summary, :remedy, :since, :ended_at, :pending, :told_at)"
        " ON CONFLICT (receiver, event, subject) DO UPDATE SET summary = excluded.summary, remedy = excluded.remedy,"
        " since = excluded.since, ended_at = excluded.ended_at, pending = excluded.pending, told_at = excluded.told_at",
        **vars(notice),
    )


def drop(db: Db, notice: Notice) -> None:
    db.execute(
        "DELETE FROM notices WHERE receiver = :receiver AND event = :event AND subject = :subject",
        receiver=notice.receiver,
        event=notice.event,
        subject=notice.subject,
    )


def delivered(db: Db, sent: Collection[Notice], at: float) -> None:
    """Note what was delivered; what has changed while it was being sent is still to be told as it is now."""
    for notice in sent:
        row = db.one(
            "SELECT * FROM notices WHERE receiver = :receiver AND event = :event AND subject = :subject",
            receiver=notice.receiver,
            event=notice.event,
            subject=notice.subject,
        )
        now = _notice(row) if row is not None else None
        if now is None or now.pending != notice.pending or now.since != notice.since:
            continue
        if now.pending == "over":
            drop(db, now)
        else:
            put(db, Notice(**{**vars(now), "pending": None, "told_at": at}))


# -- receivers ------------------------------------------------------------------------------------------------------


def receivers(db: Db) -> dict[str, Receiver]:
    columns = "name, attempts, error, failing_since, next_at, delivered_at"
    found = [Receiver(**dict(row)) for row in db.all(f"SELECT {columns} FROM receivers ORDER BY name")]  # noqa: S608
    return {receiver.name: receiver for receiver in found}


def put_receiver(db: Db, receiver: Receiver) -> None:
    db.execute(
        "INSERT INTO receivers (name, attempts, error, failing_since, next_at, delivered_at)"
        " VALUES (:name, :attempts, :error, :failing_since, :next_at, :delivered_at)"
        " ON CONFLICT (name) DO UPDATE SET attempts = excluded.attempts, error = excluded.error,"
        " failing_since = excluded.failing_since, next_at = excluded.next_at, delivered_at = excluded.delivered_at",
        **vars(receiver),
    )


def forget(db: Db, known: Collection[str]) -> None:
    """Drop what is kept of receivers that no configuration names any more."""
    named = {row["name"] for row in db.all("SELECT receiver AS name FROM notices UNION SELECT name FROM receivers")}
    for name in named - set(known):
        db.execute("DELETE FROM notices WHERE receiver = :name", name=name)
        db.execute("DELETE FROM receivers WHERE name = :name", name=name)


@dataclass(frozen=True)
class Undelivered:
    """What a receiver has not got yet, and why. Times are epoch seconds."""

    receiver: str
    waiting: int
    error: str | None
    failing_since: float | None
    next_at: float | None


def undelivered(db: Db) -> list[Undelivered]:
    """Return the receivers that something waits for, or that fail."""
    rows = db.all("SELECT receiver, COUNT(*) AS n FROM notices WHERE pending IS NOT NULL GROUP BY receiver")
    waiting = {row["receiver"]: int(row["n"]) for row in rows}
    how = receivers(db)
    failing = {name for name, receiver in how.items() if receiver.error is not None}
    return [
        Undelivered(name, waiting.get(name, 0), known.error, known.failing_since, known.next_at or None)
        for name in sorted(waiting.keys() | failing)
        for known in [how.get(name, Receiver(name))]
    ]


def _notice(row: Row) -> Notice:
    return Notice(**{name: row[name] for name in Notice.__dataclass_fields__})
