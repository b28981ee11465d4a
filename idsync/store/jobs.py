"""Jobs: "make the gateway agree about this person". One row a person, a lease while somebody works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idsync.model import Lane
from idsync.store import facts, journal
from idsync.store.db import Db, Row
from idsync.store.replicas import time_of
from idsync.store.shift import shift

LEAST_STEP = 2.0
"""Seconds by which the clock may be behind the newest entry of the audit trail before it counts as set back."""

_SEEN = "clock:set_back_after"
"""The fact that names the audit entry after which the clock was found set back: what waits is moved once."""


@dataclass(frozen=True)
class Job:
    person_id: str
    lane: Lane
    wanted: int
    run_at: float
    attempts: int
    created_at: float
    waiting: bool
    last_error: str | None
    leased: bool
    alive: bool


def _job(row: Row) -> Job:
    return Job(
        row["person_id"],
        Lane(row["lane"]),
        row["wanted"],
        row["run_at"],
        row["attempts"],
        row["created_at"],
        bool(row["waiting"]),
        row["last_error"],
        row["owner"] is not None,
        bool(row["alive"]),
    )


def open_job(db: Db, person_id: str, lane: Lane, generation: int, now: float) -> None:
    """Open a job, or raise the one that is open: due now, a revoke never turned into a grant.

    On a shared store never later than by the clock of the database: that of whoever writes may be ahead.
    """
    db.execute(
        "INSERT INTO jobs (person_id, lane, wanted, run_at, attempts, created_at)"
        " VALUES (:person, :lane, :generation, :due, 0, :now)"
        " ON CONFLICT (person_id) DO UPDATE SET wanted = excluded.wanted, run_at = excluded.run_at, attempts = 0,"
        " created_at = CASE WHEN jobs.waiting = 1 THEN excluded.created_at ELSE jobs.created_at END, waiting = 0,"
        " lane = CASE WHEN jobs.lane = 'revoke' AND jobs.waiting = 0 THEN 'revoke' ELSE excluded.lane END",
        person=person_id,
        lane=lane.value,
        generation=generation,
        due=min(now, time_of(db, now)),
        now=now,
    )


def claim(db: Db, lane: Lane, owner: str, now: float, lease: float, limit: int) -> list[Job]:
    """Lease up to `limit` due jobs of a lane, the oldest first; what another process is just leasing is passed over."""
    skipping = " FOR UPDATE SKIP LOCKED" if db.shared else ""
    rows = db.all(
        "UPDATE jobs SET owner = :owner, lease_until = :until WHERE person_id IN ("  # noqa: S608 - our own text
        " SELECT person_id FROM jobs WHERE lane = :lane AND run_at <= :now"
        " AND (lease_until IS NULL OR lease_until <= :now) ORDER BY run_at, person_id LIMIT :limit"
        + skipping
        + ") RETURNING *",
        owner=owner,
        until=now + lease,
        lane=lane.value,
        now=now,
        limit=limit,
    )
    return [_job(row) for row in sorted(rows, key=lambda row: (row["run_at"], row["person_id"]))]


def close(db: Db, person_id: str, owner: str, generation: int) -> bool:
    """Close the generation that was seen, as the owner that saw it; False when a newer one was asked for."""
    return (
        db.execute(
            "DELETE FROM jobs WHERE person_id = :person AND owner = :owner AND wanted = :generation",
            person=person_id,
            owner=owner,
            generation=generation,
        )
        > 0
    )


def wait(db: Db, person_id: str, owner: str, generation: int, run_at: float) -> bool:
    """Let a job rest until `run_at`: a deletion waits, or everything is looked at once more."""
    return (
        db.execute(
            "UPDATE jobs SET owner = NULL, lease_until = NULL, run_at = :run_at, attempts = 0, waiting = 1,"
            " lane = 'revoke', last_error = NULL"
            " WHERE person_id = :person AND owner = :owner AND wanted = :generation",
            person=person_id,
            owner=owner,
            generation=generation,
            run_at=run_at,
        )
        > 0
    )


def retry(
    db: Db, person_id: str, owner: str, generation: int, run_at: float, error: str, *, alive: bool = False
) -> None:
    """Give a failed job back, to be tried again at `run_at`; one that was raised meanwhile stays due as it is."""
    db.execute(
        "UPDATE jobs SET owner = NULL, lease_until = NULL, last_error = :error, waiting = 0, alive = :alive,"
        " attempts = CASE WHEN wanted = :generation THEN attempts + 1 ELSE attempts END,"
        " run_at = CASE WHEN wanted = :generation THEN :run_at ELSE run_at END"
        " WHERE person_id = :person AND owner = :owner",
        person=person_id,
        owner=owner,
        generation=generation,
        run_at=run_at,
        error=error,
        alive=int(alive),
    )


def release_others(db: Db, owner: str, but: Sequence[str]) -> int:
    """Give back every job of an owner but those of these people: leases whose claim was never told to it."""
    mine = {row["person_id"] for row in db.all("SELECT person_id FROM jobs WHERE owner = :owner", owner=owner)}
    for person_id in sorted(mine.difference(but)):
        db.execute(
            "UPDATE jobs SET owner = NULL, lease_until = NULL WHERE person_id = :person AND owner = :owner",
            person=person_id,
            owner=owner,
        )
    return len(mine.difference(but))


def release(db: Db, person_id: str, owner: str, now: float) -> None:
    """Give a job back untouched, due at once: somebody asked for a newer generation meanwhile."""
    db.execute(
        "UPDATE jobs SET owner = NULL, lease_until = NULL, run_at = :now WHERE person_id = :person AND owner = :owner",
        person=person_id,
        owner=owner,
        now=now,
    )


def release_all(db: Db) -> int:
    """Drop every lease. Only for the one process that holds the store, at start: whoever had them is dead."""
    return db.execute("UPDATE jobs SET owner = NULL, lease_until = NULL WHERE owner IS NOT NULL")


def renew(db: Db, people: Sequence[str], owner: str, until: float) -> None:
    """Keep the leases of jobs that are still being worked on."""
    for person_id in people:
        db.execute(
            "UPDATE jobs SET lease_until = :until WHERE person_id = :person AND owner = :owner",
            person=person_id,
            owner=owner,
            until=until,
        )


def pull_in(db: Db, now: float, longest: float) -> int:
    """Make due what lies further ahead than any wait idsync knows: the wall clock was set back while nobody looked."""
    return db.execute(
        "UPDATE jobs SET run_at = :now WHERE waiting = 0 AND run_at > CASE WHEN attempts = 0 THEN :now ELSE :far END",
        now=now,
        far=now + longest,
    )


def mind_a_step_back(db: Db, now: float, longest: float) -> float:
    """At start: move what waits along where the wall clock was set back while nobody looked, and pull in what failed.

    That it was is seen by the audit trail, whose newest entry would be yet to come. What was due by then is due, and
    the rest waits no longer than it did then. What failed waits at most `longest` seconds, what was never tried not at
    all. Returns by how many seconds the clock was set back, 0.0 if it was not.
    """
    seen = facts.get(db, _SEEN)
    newest = [entry for entry in journal.last(db, 1) if entry.seq != seen and isinstance(entry.at, float)]
    before = max((entry.at for entry in newest), default=now)  # one that is no number was altered
    back = before - now if before - now > LEAST_STEP else 0.0
    if back:
        shift(db, -back, before)
        facts.put(db, _SEEN, newest[0].seq, now)
    pull_in(db, now, longest)
    return back


def hurry(db: Db, now: float) -> int:
    """Make every job that failed and waits for another try due now (a pass by hand)."""
    return db.execute("UPDATE jobs SET run_at = :now WHERE waiting = 0 AND run_at > :now AND owner IS NULL", now=now)


def next_due(db: Db) -> float | None:
    """Return when the earliest job can be claimed: due and free, or its lease run out."""
    row = db.one(
        "SELECT MIN(CASE WHEN lease_until IS NOT NULL AND lease_until > run_at THEN lease_until ELSE run_at END) AS at"
        " FROM jobs"
    )
    return row["at"] if row else None


def is_owned(db: Db, person_id: str, owner: str) -> bool:
    """Tell whether the open job of a person is leased by this owner."""
    row = db.one("SELECT owner FROM jobs WHERE person_id = :person", person=person_id)
    return row is not None and row["owner"] == owner


def get(db: Db, person_id: str) -> Job | None:
    row = db.one("SELECT * FROM jobs WHERE person_id = :person", person=person_id)
    return _job(row) if row else None


def all_jobs(db: Db) -> list[Job]:
    return [_job(row) for row in db.all("SELECT * FROM jobs ORDER BY lane DESC, run_at, person_id")]


def busy(db: Db) -> int:
    """Return how many jobs still have something to do now (not merely waiting for a later look)."""
    row = db.one("SELECT COUNT(*) AS n FROM jobs WHERE waiting = 0")
    return int(row["n"]) if row else 0
