"""What the status page looks at: few columns, a page at a time. Receipts are read one at a time only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from idsync.store import ledger
from idsync.store.db import Db, Row

PAGE = 50
"""Entries on one page."""


@dataclass(frozen=True)
class Line:
    """A departure without its receipt. Times are epoch seconds, None: not reached."""

    id: str
    label: str
    kind: str
    evidence: str
    source: str
    state: str
    received_at: float
    fenced_at: float | None
    blocked_at: float | None
    access_ended_at: float | None
    deleted_at: float | None
    verified_at: float | None
    settled_at: float | None
    accepted_at: float
    delete_at: float
    hold_id: str | None
    fence: str | None
    problem: str | None


COLUMNS = ", ".join(Line.__dataclass_fields__)


def _line(row: Row) -> Line:
    return Line(**{name: row[name] for name in Line.__dataclass_fields__})


def departures(db: Db, *, limit: int = PAGE, offset: int = 0) -> list[Line]:
    """Return the newest departures first."""
    rows = db.all(
        f"SELECT {COLUMNS} FROM departures WHERE id IN"  # noqa: S608
        " (SELECT id FROM departures ORDER BY accepted_at DESC, id LIMIT :limit OFFSET :offset)"
        " ORDER BY accepted_at DESC, id",
        limit=limit,
        offset=offset,
    )
    return [_line(row) for row in rows]


def departures_of(db: Db, person_ids: Sequence[str], *, limit: int = PAGE) -> list[Line]:
    """Return the newest departures of some people, the newest first."""
    found: list[Line] = []
    for person_id in person_ids:
        rows = db.all(f"SELECT {COLUMNS} FROM departures WHERE person_id = :person", person=person_id)  # noqa: S608
        found += [_line(row) for row in rows]
    return sorted(found, key=lambda line: line.accepted_at, reverse=True)[:limit]


def counted_departures(db: Db) -> int:
    return _count(db, "departures")


def unverified(db: Db, now: float, *, limit: int = PAGE) -> list[Line]:
    """Return whom the gateway may still let in, who waits longest first; as `ledger.unverified` counts them."""
    rows = db.all(
        f"SELECT {', '.join('d.' + name for name in Line.__dataclass_fields__)} FROM departures d"  # noqa: S608
        " LEFT JOIN holds h ON h.id = d.hold_id AND h.state = 'open'"
        " WHERE d.closed_at IS NULL AND d.verified_at IS NULL AND (h.kind IS NULL OR h.kind NOT LIKE 'last_admin:%')"
        " AND (d.access_ended_at IS NULL OR (d.kind = 'departure' AND d.delete_at <= :now AND h.id IS NULL))"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || d.label)"
        " ORDER BY d.received_at, d.id LIMIT :limit",
        now=now,
        limit=limit,
    )
    return [_line(row) for row in rows]


@dataclass(frozen=True)
class Took:
    """Times to revoke in seconds: how many, how many up to each of the ends that were asked for, and two quantiles."""

    count: int
    upto: tuple[int, ...]
    p50: float
    p99: float


def took(db: Db, since: float, ends: Sequence[float]) -> Took | None:
    """Return how long departures have taken, counted where they are; None when there were none."""
    columns = "".join(
        f", COUNT(CASE WHEN verified_at - received_at <= {float(end)!r} THEN 1 END) AS upto{n}"
        for n, end in enumerate(ends)
    )
    row = db.one(f"SELECT COUNT(*) AS n{columns} FROM {ledger.TIMED}", since=since)  # noqa: S608
    if row is None or not row["n"]:
        return None
    counted = int(row["n"])
    upto = tuple(int(row[f"upto{n}"]) for n in range(len(ends)))
    return Took(counted, upto, _quantile(db, since, counted, 0.5), _quantile(db, since, counted, 0.99))


def _quantile(db: Db, since: float, counted: int, part: float) -> float:
    """Return the nearest-rank quantile, counted from the nearer end."""
    rank = max(0, math.ceil(part * counted) - 1)
    order, skip = ("DESC", counted - 1 - rank) if part > 0.5 else ("ASC", rank)
    row = db.one(
        f"SELECT verified_at - received_at AS took FROM {ledger.TIMED} ORDER BY took {order} LIMIT 1 OFFSET :skip",  # noqa: S608
        since=since,
        skip=skip,
    )
    return float(row["took"]) if row else 0.0


# -- what waits for a person --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """One thing a hold keeps back, as its checksum covers it, and how its departure stands."""

    person_id: str
    label: str
    team: str
    cause: str
    version: str
    departure_id: str | None
    access_ended_at: float | None


def held(db: Db, hold_id: str, *, limit: int, offset: int = 0) -> list[Held]:
    rows = db.all(
        "SELECT i.person_id, COALESCE(p.label, i.person_id) AS label, i.team, i.cause, i.version,"
        " d.id AS departure_id, d.access_ended_at FROM hold_items i LEFT JOIN persons p ON p.id = i.person_id"
        " LEFT JOIN departures d ON d.person_id = i.person_id AND d.closed_at IS NULL WHERE i.hold_id = :hold"
        " ORDER BY label, i.person_id, i.team LIMIT :limit OFFSET :offset",
        hold=hold_id,
        limit=limit,
        offset=offset,
    )
    return [Held(**{name: row[name] for name in Held.__dataclass_fields__}) for row in rows]


@dataclass(frozen=True)
class Kept:
    """A hold, and how many people it concerns. `decided_by` and `decided_at` are None while it is open."""

    id: str
    reason: str
    state: str
    created_at: float
    decided_at: float | None
    decided_by: str | None
    people: int


def holds(db: Db, *, only_open: bool, limit: int = PAGE, offset: int = 0) -> list[Kept]:
    """Return the open holds, the oldest first, or those that were decided, the newest first."""
    which, order = ("= 'open'", "h.created_at, h.id") if only_open else ("<> 'open'", "h.created_at DESC, h.id")
    rows = db.all(
        "SELECT h.id, h.reason, h.state, h.created_at, h.decided_at, h.decided_by,"  # noqa: S608
        " (SELECT COUNT(DISTINCT person_id) FROM hold_items i WHERE i.hold_id = h.id) AS people FROM holds h"
        f" WHERE h.state {which} ORDER BY {order} LIMIT :limit OFFSET :offset",
        limit=limit,
        offset=offset,
    )
    return [Kept(**{name: row[name] for name in Kept.__dataclass_fields__}) for row in rows]


def still_inside(db: Db) -> int:
    """Count the people in open holds whose access has not ended."""
    row = db.one(
        "SELECT COUNT(DISTINCT i.person_id) AS n FROM hold_items i JOIN holds h ON h.id = i.hold_id AND h.state = 'open'"
        " LEFT JOIN departures d ON d.person_id = i.person_id AND d.closed_at IS NULL WHERE d.access_ended_at IS NULL"
    )
    return int(row["n"]) if row else 0


def counted_holds(db: Db, *, only_open: bool) -> int:
    return _count(db, "holds", "state = 'open'" if only_open else "state <> 'open'")


# -- work, conflicts, keys ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """An open job. `waiting`: nothing is to be done before `run_at`."""

    label: str
    lane: str
    attempts: int
    created_at: float
    run_at: float
    waiting: bool
    running: bool
    alive: bool
    last_error: str | None


_NOBODY = "NOT EXISTS (SELECT 1 FROM facts f WHERE f.name = 'drill:canary:' || p.label)"


def jobs(db: Db, *, limit: int = PAGE, offset: int = 0) -> list[Work]:
    """Return the open jobs: what has failed first, then what is due, then what waits on purpose."""
    rows = db.all(
        "SELECT COALESCE(p.label, j.person_id) AS label, j.lane, j.attempts, j.created_at, j.run_at, j.waiting,"  # noqa: S608
        " j.owner IS NOT NULL AS running, j.alive, j.last_error FROM jobs j LEFT JOIN persons p ON p.id = j.person_id"
        f" WHERE {_NOBODY} ORDER BY j.waiting, j.last_error IS NULL, j.created_at, j.person_id"
        " LIMIT :limit OFFSET :offset",
        limit=limit,
        offset=offset,
    )
    return [
        Work(
            row["label"],
            row["lane"],
            row["attempts"],
            row["created_at"],
            row["run_at"],
            bool(row["waiting"]),
            bool(row["running"]),
            bool(row["alive"]),
            row["last_error"],
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Jobs:
    """How many jobs are open. `oldest_at` is when the oldest that does not wait was made."""

    due: int
    failing: int
    alive: int
    waiting: int
    oldest_at: float | None


def counted_jobs(db: Db) -> Jobs:
    row = db.one(
        "SELECT COUNT(CASE WHEN j.waiting = 0 THEN 1 END) AS due,"  # noqa: S608
        " COUNT(CASE WHEN j.waiting = 0 AND j.last_error IS NOT NULL THEN 1 END) AS failing,"
        " COUNT(CASE WHEN j.alive <> 0 THEN 1 END) AS alive, COUNT(CASE WHEN j.waiting <> 0 THEN 1 END) AS waiting,"
        " MIN(CASE WHEN j.waiting = 0 THEN j.created_at END) AS oldest FROM jobs j"
        f" LEFT JOIN persons p ON p.id = j.person_id WHERE {_NOBODY}"
    )
    return (
        Jobs(row["due"], row["failing"], row["alive"], row["waiting"], row["oldest"]) if row else Jobs(0, 0, 0, 0, None)
    )


@dataclass(frozen=True)
class Open:
    """A conflict that nobody has settled."""

    detail: str
    remedy: str
    created_at: float


def conflicts(db: Db, *, limit: int = PAGE, offset: int = 0) -> list[Open]:
    rows = db.all(
        "SELECT detail, remedy, created_at FROM conflicts WHERE resolved_at IS NULL ORDER BY created_at, id"
        " LIMIT :limit OFFSET :offset",
        limit=limit,
        offset=offset,
    )
    return [Open(row["detail"], row["remedy"], row["created_at"]) for row in rows]


def counted_conflicts(db: Db) -> int:
    return _count(db, "conflicts", "resolved_at IS NULL")


@dataclass(frozen=True)
class Known:
    """A key that somebody who left may know. Times are epoch seconds; None: not told."""

    key_id: str
    alias: str | None
    name: str | None
    team: str | None
    why: str
    wants: str
    people: int
    one: str
    left_at: float
    last_used_at: float | None
    spend: float | None


def exposed(db: Db, *, limit: int = PAGE, offset: int = 0) -> list[Known]:
    """Return each key once: what is to be rotated first, then what was used last."""
    rows = db.all(
        "SELECT e.key_id, MAX(e.alias) AS alias, MAX(e.name) AS name, MAX(COALESCE(e.team, e.team_id)) AS team,"
        " MIN(e.why) AS why, MAX(e.wants) AS wants,"
        " COUNT(DISTINCT e.person_id) AS people, MIN(COALESCE(p.label, e.person_id)) AS one, MIN(e.left_at) AS left_at,"
        " MAX(e.last_used_at) AS last_used_at, MAX(e.spend) AS spend FROM exposed_keys e LEFT JOIN persons p ON p.id = e.person_id GROUP BY e.key_id"
        " ORDER BY MAX(e.wants) DESC, COALESCE(MAX(e.last_used_at), 0) DESC, e.key_id LIMIT :limit OFFSET :offset",
        limit=limit,
        offset=offset,
    )
    return [Known(**{name: row[name] for name in Known.__dataclass_fields__}) for row in rows]


def _count(db: Db, table: str, where: str = "1 = 1") -> int:
    row = db.one(f"SELECT COUNT(*) AS n FROM {table} WHERE {where}")  # noqa: S608
    return int(row["n"]) if row else 0
