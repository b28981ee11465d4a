"""The audit trail's rows. Append only: none is changed, and none removed that is not below a checkpoint."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from idsync.audit import GENESIS, AuditEvent, Checkpoint, detail_text, digest
from idsync.clock import new_id
from idsync.store.db import Db, Row

PRUNED = "audit.pruned"
"""The action of the entry that a checkpoint is sealed with."""


def append(db: Db, *, at: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Add one entry in the caller's transaction: to the chain, or where others write as well, to be linked into it."""
    told = {"at": at, "actor": actor, "action": action, "subject": subject, "detail": detail_text(detail)}
    if db.shared:
        db.execute(
            "INSERT INTO audit_unlinked (id, at, actor, action, subject, detail)"
            " VALUES (:id, :at, :actor, :action, :subject, :detail)",
            id=_stamp(),
            **told,
        )
        return
    _seal(db, [told])


def _stamp() -> str:
    """Return an id that sorts after those made before, in this process; between processes their clocks decide."""
    return f"{time.time_ns():020d}-{next(_NUMBERS):010d}-{new_id()[:8]}"


_NUMBERS = itertools.count()


def _seal(db: Db, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put entries at the end of the chain."""
    seq, prev = head(db)
    for told in entries:
        seq += 1
        entry = {name: told[name] for name in ("at", "actor", "action", "subject", "detail")}
        seal = digest(prev, seq, *entry.values())
        db.execute(
            "INSERT INTO audit (seq, at, actor, action, subject, detail, prev, hash)"
            " VALUES (:seq, :at, :actor, :action, :subject, :detail, :prev, :hash)",
            seq=seq,
            prev=prev,
            hash=seal,
            **entry,
        )
        prev = seal


LINKED_AT_ONCE = 500
"""Entries that one transaction links."""


def unlinked(db: Db) -> int:
    """Count the entries that are written and not part of the chain yet: the tail that nothing seals."""
    row = db.one("SELECT COUNT(*) AS n FROM audit_unlinked")
    return int(row["n"]) if row else 0


def link(db: Db) -> int:
    """Link the oldest entries that wait for it into the chain; return how many. One at a time does this."""
    rows = db.all("SELECT * FROM audit_unlinked ORDER BY id LIMIT :rows", rows=LINKED_AT_ONCE)
    _seal(db, rows)
    for row in rows:
        db.execute("DELETE FROM audit_unlinked WHERE id = :id", id=row["id"])
    return len(rows)


def head(db: Db) -> tuple[int, str]:
    """Return (number, hash) of the newest entry."""
    row = db.one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    return (row["seq"], row["hash"]) if row else start(db)


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
        "SELECT MIN(seq) AS first, MAX(seq) AS last FROM audit WHERE at >= :since AND at < :before AND seq > :start",
        start=start(db)[0],
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


# -- what was exported and taken out ------------------------------------------------------------------------------


def checkpoint(db: Db) -> Checkpoint | None:
    """Return up to where the trail was exported, and may be taken out."""
    row = db.one("SELECT * FROM audit_checkpoints ORDER BY seq DESC LIMIT 1")
    return Checkpoint(row["seq"], row["hash"], row["entries"], row["sha256"], row["at"]) if row else None


def start(db: Db) -> tuple[int, str]:
    """Return (number, hash) of the entry that the trail in the store goes on from."""
    last = checkpoint(db)
    return (last.seq, last.hash) if last is not None else (0, GENESIS)


def kept(db: Db) -> Iterator[AuditEvent]:
    """Yield the entries since the checkpoint; without one all of them, whatever number they claim."""
    return events(db, after=start(db)[0] or None)


def first_kept(db: Db) -> AuditEvent | None:
    """Return the oldest entry that is still in the store for good."""
    row = db.one("SELECT * FROM audit WHERE seq > :start ORDER BY seq LIMIT 1", start=start(db)[0])
    return _event(row) if row else None


def last_before(db: Db, before: float) -> AuditEvent | None:
    """Return the last entry that was written before then."""
    row = db.one("SELECT * FROM audit WHERE at < :before ORDER BY seq DESC LIMIT 1", before=before)
    return _event(row) if row else None


def put_checkpoint(db: Db, made: Checkpoint, by: str) -> None:
    """Allow what was exported to be taken out, and say so in the trail itself."""
    db.execute(
        "INSERT INTO audit_checkpoints (seq, hash, entries, sha256, at) VALUES (:seq, :hash, :entries, :sha256, :at)",
        **vars(made),
    )
    detail = {"seq": made.seq, "hash": made.hash, "entries": made.entries, "sha256": made.sha256}
    append(db, at=made.at, actor=by, action=PRUNED, subject="audit", detail=detail)


def take_exported(db: Db, rows: int) -> int:
    """Take out entries that a checkpoint covers, the oldest first; return how many."""
    seq = start(db)[0]
    return db.execute(
        "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq <= :seq ORDER BY seq LIMIT :rows)",
        seq=seq,
        rows=rows,
    )


def left_to_take(db: Db) -> int:
    """Count the entries below the checkpoint that are still there: its pruning is not finished."""
    row = db.one("SELECT COUNT(*) AS n FROM audit WHERE seq <= :seq", seq=start(db)[0])
    return int(row["n"]) if row else 0


def count(db: Db, action: str, *, since: float) -> int:
    """Count the entries of one action from a time on."""
    row = db.one("SELECT COUNT(*) AS n FROM audit WHERE action = :action AND at >= :since", action=action, since=since)
    return int(row["n"]) if row else 0
