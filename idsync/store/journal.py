"""The audit trail's rows. Append only: no function here changes or removes one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from idsync.audit import GENESIS, AuditEvent, detail_text, digest
from idsync.store.db import Db, Row


def append(db: Db, *, at: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Add one entry to the chain, in the caller's transaction."""
    seq, prev = head(db)
    text = detail_text(detail)
    seal = digest(prev, seq + 1, at, actor, action, subject, text)
    db.execute(
        "INSERT INTO audit (seq, at, actor, action, subject, detail, prev, hash)"
        " VALUES (:seq, :at, :actor, :action, :subject, :detail, :prev, :hash)",
        seq=seq + 1,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        detail=text,
        prev=prev,
        hash=seal,
    )


def head(db: Db) -> tuple[int, str]:
    """Return (number, hash) of the newest entry."""
    row = db.one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    return (row["seq"], row["hash"]) if row else (0, GENESIS)


BROKEN = "audit:broken"
"""The fact that the chain did not fit together when it was last checked: at which entry, and since when."""


def told_since(db: Db, since: float) -> list[AuditEvent]:
    """Return what came back of departed people, and what was spent in their name, oldest first."""
    rows = db.all(
        "SELECT * FROM audit WHERE action IN ('departure.reasserted', 'spend.after_departure') AND at > :since"
        " ORDER BY at, seq",
        since=since,
    )
    return [_event(row) for row in rows]


def between(db: Db, since: float, before: float) -> tuple[int, int] | None:
    """Return the numbers of the first and the last entry of a time, None when nothing was written then.

    What lies between them belongs to it as well: a clock may have been set.
    """
    row = db.one(
        "SELECT MIN(seq) AS first, MAX(seq) AS last FROM audit WHERE at >= :since AND at < :before",
        since=since,
        before=before,
    )
    return None if row is None or row["first"] is None else (row["first"], row["last"])


LOWEST = -(2**62)
"""Below every number an entry could be given."""


def _detail(value: Any) -> Any:
    """Read a detail; one that is no JSON any more was altered, and is shown as it is for the chain to break at."""
    try:
        return json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return {"unreadable": _text(value)}


def _text(value: Any) -> str:
    """Read a text; what is none any more was altered, and is shown as it is for the chain to break at."""
    return value if isinstance(value, str) else f"unreadable: {value!r}"


def _event(row: Row) -> AuditEvent:
    return AuditEvent(
        row["seq"],
        row["at"],
        _text(row["actor"]),
        _text(row["action"]),
        _text(row["subject"]),
        _detail(row["detail"]),
        _text(row["prev"]),
        _text(row["hash"]),
    )


def events(db: Db, *, after: int | None = None, page: int = 1000) -> Iterator[AuditEvent]:
    """Yield entries in order, a page at a time; all of them, whatever number they claim, unless `after` is given."""
    after = LOWEST if after is None else after
    while True:
        rows = db.all("SELECT * FROM audit WHERE seq > :after ORDER BY seq LIMIT :page", after=after, page=page)
        if not rows:
            return
        for row in rows:
            yield _event(row)
        after = rows[-1]["seq"]


def last(db: Db, count: int) -> list[AuditEvent]:
    """Return the newest entries, oldest of them first."""
    rows = db.all("SELECT * FROM audit ORDER BY seq DESC LIMIT :count", count=count)
    return [_event(row) for row in reversed(rows)]
