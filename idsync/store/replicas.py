"""Which processes share a store, which of them leads, and what of the trail is not linked: as the store has it."""

from __future__ import annotations

from dataclasses import dataclass

from idsync.store.db import Db

DEAD = 6.0
"""Seconds without a sign after which somebody counts as gone."""
LEAD = "leader"
"""The place of whoever polls, sweeps, and does full passes and rotations."""
UNLINKED_LATE = 60.0
"""Seconds after which an audit entry should have been linked long ago."""
COMMAND = "command"
"""The role of a command line; all others serve."""


@dataclass(frozen=True)
class Replica:
    """A process on a shared store. Times are epoch seconds by the clock of the database."""

    id: str
    role: str
    host: str
    release: str
    started_at: float
    seen_at: float

    def __str__(self) -> str:
        what = "a command" if self.role == COMMAND else f"idsync serve (role {self.role})"
        return f"{what} of release {self.release} on {self.host}"


@dataclass(frozen=True)
class Tail:
    """Audit entries that are committed and that no other one seals yet; `oldest_at` is None where there are none."""

    entries: int
    oldest_at: float | None

    def age(self, now: float) -> float:
        """Return for how many seconds the oldest of them has waited."""
        return 0.0 if self.oldest_at is None else max(0.0, now - self.oldest_at)


def time_of(db: Db, own: float) -> float:
    """Return what time it is by the clock that everybody on this store goes by; `own` is what this machine says."""
    row = db.one("SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8 AS now") if db.shared else None
    return own if row is None else float(row["now"])


def present(db: Db, now: float) -> list[Replica]:
    """Return everybody who gave a sign of life lately, those who serve first."""
    rows = db.all(
        "SELECT id, role, host, release, started_at, seen_at FROM replicas WHERE seen_at >= :since ORDER BY CASE WHEN role = :command THEN 1 ELSE 0 END, host,"
        " started_at, id",
        since=now - DEAD,
        command=COMMAND,
    )
    return [Replica(**dict(row)) for row in rows]


def leader(db: Db, now: float) -> str | None:
    """Return the id of the replica that leads, None where nobody does."""
    row = db.one("SELECT replica_id FROM leader WHERE place = :place AND until >= :now", place=LEAD, now=now)
    return None if row is None else str(row["replica_id"])


def tail(db: Db) -> Tail:
    """Return what of the trail is not linked yet."""
    row = db.one("SELECT COUNT(*) AS n, MIN(at) AS oldest FROM audit_unlinked")
    return Tail(0, None) if row is None else Tail(int(row["n"]), row["oldest"])
