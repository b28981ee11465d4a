"""Departures and holds: what was taken from whom, when, on which evidence, and what waits for a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idsync.clock import new_id
from idsync.model import Call, DepartureState, Evidence
from idsync.store.db import Db, Row


@dataclass(frozen=True)
class Departure:
    """The ledger entry of one person losing all access. Times are epoch seconds, None: not reached."""

    id: str
    person_id: str
    label: str
    account_id: str | None
    kind: str
    evidence: Evidence
    cause: str
    source: str
    state: DepartureState
    received_at: float
    accepted_at: float
    pushed_at: float
    delete_at: float
    fenced_at: float | None = None
    blocked_at: float | None = None
    access_ended_at: float | None = None
    destroying_at: float | None = None
    deleted_at: float | None = None
    verified_at: float | None = None
    settled_at: float | None = None
    closed_at: float | None = None
    settle_at: float | None = None
    hold_id: str | None = None
    fence: str | None = None
    problem: str | None = None
    receipt: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Hold:
    id: str
    kind: str
    reason: str
    state: str
    created_at: float
    decided_at: float | None
    decided_by: str | None


@dataclass(frozen=True)
class HoldItem:
    """One thing a hold keeps back. `team` is "" for a whole departure; `version` is that of the evidence."""

    hold_id: str
    person_id: str
    team: str
    cause: str
    version: str


# -- departures -------------------------------------------------------------------------------------------------


def _departure(row: Row) -> Departure:
    return Departure(
        id=row["id"],
        person_id=row["person_id"],
        label=row["label"],
        account_id=row["account_id"],
        kind=row["kind"],
        evidence=Evidence(row["evidence"]),
        cause=row["cause"],
        source=row["source"],
        state=DepartureState(row["state"]),
        received_at=row["received_at"],
        accepted_at=row["accepted_at"],
        pushed_at=row["pushed_at"],
        delete_at=row["delete_at"],
        fenced_at=row["fenced_at"],
        blocked_at=row["blocked_at"],
        access_ended_at=row["access_ended_at"],
        destroying_at=row["destroying_at"],
        deleted_at=row["deleted_at"],
        verified_at=row["verified_at"],
        settled_at=row["settled_at"],
        closed_at=row["closed_at"],
        settle_at=row["settle_at"],
        hold_id=row["hold_id"],
        fence=row["fence"],
        problem=row["problem"],
        receipt=json.loads(row["receipt"]),
    )


def put_departure(db: Db, departure: Departure) -> None:
    """Insert or replace a departure; the unique index refuses a second open one of the same person."""
    db.execute(
        "INSERT INTO departures (id, person_id, label, account_id, kind, evidence, cause, source, state, received_at,"
        " accepted_at, pushed_at, fenced_at, blocked_at, access_ended_at, destroying_at, deleted_at, verified_at, settled_at, closed_at, delete_at,"
        " settle_at, hold_id, fence, problem, receipt, counts)"
        " VALUES (:id, :person, :label, :account, :kind, :evidence, :cause,"
        " :source, :state, :received_at, :accepted_at, :pushed_at, :fenced_at, :blocked_at, :access_ended_at, :destroying_at, :deleted_at,"
        " :verified_at, :settled_at, :closed_at, :delete_at, :settle_at, :hold, :fence, :problem, :receipt,"
        " CASE WHEN EXISTS (SELECT 1 FROM persons WHERE id = :person AND (ever_had_access = 1 OR account_id IS NOT NULL))"
        " THEN 1 ELSE 0 END)"
        " ON CONFLICT (id) DO UPDATE SET account_id = excluded.account_id, kind = excluded.kind,"
        " evidence = excluded.evidence, cause = excluded.cause, source = excluded.source,"
        " pushed_at = excluded.pushed_at, state = excluded.state, fenced_at = excluded.fenced_at,"
        " blocked_at = excluded.blocked_at, access_ended_at = excluded.access_ended_at, destroying_at = excluded.destroying_at, deleted_at = excluded.deleted_at,"
        " verified_at = excluded.verified_at, settled_at = excluded.settled_at, closed_at = excluded.closed_at,"
        " delete_at = excluded.delete_at, settle_at = excluded.settle_at, hold_id = excluded.hold_id,"
        " fence = excluded.fence, problem = excluded.problem, receipt = excluded.receipt, counts = excluded.counts,"
        " receipt_pruned_at = CASE WHEN excluded.receipt = departures.receipt THEN departures.receipt_pruned_at END,"
        " details_pruned_at = CASE WHEN excluded.receipt = departures.receipt THEN departures.details_pruned_at END",
        id=departure.id,
        person=departure.person_id,
        label=departure.label,
        account=departure.account_id,
        kind=departure.kind,
        evidence=departure.evidence.value,
        cause=departure.cause,
        source=departure.source,
        state=departure.state.value,
        received_at=departure.received_at,
        accepted_at=departure.accepted_at,
        pushed_at=departure.pushed_at,
        fenced_at=departure.fenced_at,
        blocked_at=departure.blocked_at,
        access_ended_at=departure.access_ended_at,
        destroying_at=departure.destroying_at,
        deleted_at=departure.deleted_at,
        verified_at=departure.verified_at,
        settled_at=departure.settled_at,
        closed_at=departure.closed_at,
        delete_at=departure.delete_at,
        settle_at=departure.settle_at,
        hold=departure.hold_id,
        fence=departure.fence,
        problem=departure.problem,
        receipt=json.dumps(departure.receipt or {}, ensure_ascii=False),
    )


def departure(db: Db, departure_id: str) -> Departure | None:
    row = db.one("SELECT * FROM departures WHERE id = :id", id=departure_id)
    return _departure(row) if row else None


def open_departure(db: Db, person_id: str) -> Departure | None:
    row = db.one("SELECT * FROM departures WHERE person_id = :person AND closed_at IS NULL", person=person_id)
    return _departure(row) if row else None


def departures_of(db: Db, person_id: str) -> list[Departure]:
    rows = db.all("SELECT * FROM departures WHERE person_id = :person ORDER BY accepted_at, id", person=person_id)
    return [_departure(row) for row in rows]


def departure_ids(db: Db, person_id: str) -> frozenset[str]:
    """Return the ids of a person's departures, which are the tags of their fences."""
    rows = db.all("SELECT id FROM departures WHERE person_id = :person", person=person_id)
    return frozenset(row["id"] for row in rows)


def departures(db: Db, *, limit: int = 1000) -> list[Departure]:
    """Return the newest departures, oldest of them first."""
    rows = db.all("SELECT * FROM departures ORDER BY accepted_at DESC, id LIMIT :limit", limit=limit)
    return [_departure(row) for row in reversed(rows)]


def departures_between(db: Db, since: float, before: float) -> list[Departure]:
    """Return the departures that were told of in a time, first told first; the canary of a drill is nobody."""
    rows = db.all(
        "SELECT * FROM departures WHERE received_at >= :since AND received_at < :before"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || label) ORDER BY received_at, id",
        since=since,
        before=before,
    )
    return [_departure(row) for row in rows]


def open_departures(db: Db) -> list[Departure]:
    """Return the departures that are not closed; the canary of a drill is nobody to ask about."""
    rows = db.all(
        "SELECT * FROM departures WHERE closed_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || label) ORDER BY accepted_at, id"
    )
    return [_departure(row) for row in rows]


def oldest_open(db: Db) -> tuple[float, str] | None:
    """Return since when the oldest thing is open, and what it is: a departure that is not settled, or a hold."""
    row = db.one(
        "SELECT at, what FROM (SELECT received_at AS at, 'a departure' AS what FROM departures d"
        " WHERE closed_at IS NULL AND (settled_at IS NULL OR state <> 'settled')"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || d.label)"
        " UNION ALL SELECT created_at, 'a hold' FROM holds WHERE state = 'open') AS every_one ORDER BY at LIMIT 1"
    )
    return (row["at"], row["what"]) if row else None


def pushed_since(db: Db, source: str, since: float) -> int:
    """Count the departures a source has pushed since then, of people who ever had something to lose."""
    row = db.one(
        "SELECT COUNT(DISTINCT person_id) AS n FROM departures WHERE source = :source AND counts = 1 AND pushed_at > :since",
        source=source,
        since=since,
    )
    return int(row["n"]) if row else 0


def unverified(db: Db, now: float) -> int:
    """Count whom the gateway may still let in: access not read back as ended, or a deletion that is due and not proven.

    Suspensions count until their access has ended. A deletion that waits on purpose does not count, nor does the
    gateway's last admin, who keeps access until somebody decides, nor a drill's canary.
    """
    row = db.one(f"SELECT COUNT(*) AS n {_UNPROVEN}", now=now)
    return int(row["n"]) if row else 0


def unproven(db: Db, now: float) -> list[Departure]:
    """Return those whom `unverified` counts."""
    rows = db.all(f"SELECT d.* {_UNPROVEN} ORDER BY d.received_at, d.id", now=now)
    return [_departure(row) for row in rows]


_UNPROVEN = (
    "FROM departures d LEFT JOIN holds h ON h.id = d.hold_id AND h.state = 'open'"
    " WHERE d.closed_at IS NULL AND d.verified_at IS NULL AND (h.kind IS NULL OR h.kind NOT LIKE 'last_admin:%')"
    " AND (d.access_ended_at IS NULL OR (d.kind = 'departure' AND d.delete_at <= :now AND h.id IS NULL))"
    " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || d.label)"
)


TIMED = (
    "departures WHERE verified_at IS NOT NULL AND hold_id IS NULL AND delete_at <= accepted_at AND accepted_at > :since"
    " AND COALESCE(fence, '') <> 'none'"
    " AND label NOT IN (SELECT substr(name, 14) FROM facts WHERE name > 'drill:canary:' AND name < 'drill:canary;')"
)
"""Departures whose time to revoke counts; the index departures_took holds all that is read of them."""


def times_to_revoke(db: Db, since: float) -> list[float]:
    """Return the seconds from request to `verified` of departures that never waited on purpose, sorted.

    Those of people without an account at the gateway are left out: they lost nothing there.
    """
    rows = db.all(f"SELECT verified_at - received_at AS took FROM {TIMED} ORDER BY took", since=since)  # noqa: S608
    return [row["took"] for row in rows]


# -- the calls of a departure ------------------------------------------------------------------------------------

FIRST_CALLS, LAST_CALLS = 200, 300
"""Calls that are kept of a departure; one that was tried for days has more, and its middle is left out."""


def add_calls(db: Db, departure_id: str, calls: Sequence[Call]) -> None:
    """Append the calls made for a departure, in their order."""
    row = db.one("SELECT COALESCE(MAX(seq), 0) AS n FROM departure_calls WHERE departure_id = :id", id=departure_id)
    last = row["n"] if row else 0
    for seq, call in enumerate(calls, last + 1):
        db.execute(
            "INSERT INTO departure_calls (departure_id, seq, at, method, path, target, status, ms)"
            " VALUES (:id, :seq, :at, :method, :path, :target, :status, :ms)",
            id=departure_id,
            seq=seq,
            at=call.at,
            method=call.method,
            path=call.path,
            target=call.target,
            status=call.status,
            ms=call.ms,
        )
    if last + len(calls) > FIRST_CALLS + LAST_CALLS:
        db.execute(
            "DELETE FROM departure_calls WHERE departure_id = :id AND seq > :first AND seq <= :last",
            id=departure_id,
            first=FIRST_CALLS,
            last=last + len(calls) - LAST_CALLS,
        )


def calls_of(db: Db, departure_id: str) -> tuple[list[Call], int]:
    """Return the calls made for a departure that are kept, and how many there were."""
    rows = db.all("SELECT * FROM departure_calls WHERE departure_id = :id ORDER BY seq", id=departure_id)
    calls = [Call(row["at"], row["method"], row["path"], row["target"], row["status"], row["ms"]) for row in rows]
    return calls, rows[-1]["seq"] if rows else 0


# -- holds ------------------------------------------------------------------------------------------------------


def _hold(row: Row) -> Hold:
    return Hold(
        row["id"],
        row["kind"],
        row["reason"],
        row["state"],
        row["created_at"],
        row["decided_at"],
        row["decided_by"],
    )


def join_hold(db: Db, kind: str, reason: str, now: float) -> tuple[Hold, bool]:
    """Return the open hold of this kind, making one when there is none, and whether it is new."""
    row = db.one("SELECT * FROM holds WHERE kind = :kind AND state = 'open'", kind=kind)
    if row:
        return _hold(row), False
    made = Hold(new_id(), kind, reason, "open", now, None, None)
    db.execute(
        "INSERT INTO holds (id, kind, reason, state, created_at) VALUES (:id, :kind, :reason, 'open', :now)",
        id=made.id,
        kind=kind,
        reason=reason,
        now=now,
    )
    return made, True


def hold(db: Db, hold_id: str) -> Hold | None:
    row = db.one("SELECT * FROM holds WHERE id = :id", id=hold_id)
    return _hold(row) if row else None


def was_approved(db: Db, kind: str, version: str) -> bool:
    """Tell whether a hold of this kind was approved with this version of the evidence in it."""
    row = db.one(
        "SELECT 1 AS yes FROM holds h JOIN hold_items i ON i.hold_id = h.id"
        " WHERE h.kind = :kind AND h.state = 'approved' AND i.version = :version",
        kind=kind,
        version=version,
    )
    return row is not None


def decisions(db: Db, kind: str) -> dict[str, tuple[str, float]]:
    """Return how holds of this kind were decided, by person: approved or rejected, and when; the newest word counts."""
    rows = db.all(
        "SELECT i.person_id, h.state, h.decided_at FROM holds h JOIN hold_items i ON i.hold_id = h.id"
        " WHERE h.kind = :kind AND h.state IN ('approved', 'rejected') ORDER BY h.decided_at",
        kind=kind,
    )
    return {row["person_id"]: (row["state"], row["decided_at"]) for row in rows}


def holds(db: Db, *, only_open: bool = True) -> list[Hold]:
    where = "WHERE state = 'open'" if only_open else ""
    return [_hold(row) for row in db.all(f"SELECT * FROM holds {where} ORDER BY created_at, id")]  # noqa: S608


def add_item(db: Db, item: HoldItem) -> None:
    db.execute(
        "INSERT INTO hold_items (hold_id, person_id, team, cause, version)"
        " VALUES (:hold, :person, :team, :cause, :version)"
        " ON CONFLICT (hold_id, person_id, team) DO UPDATE SET cause = excluded.cause, version = excluded.version",
        hold=item.hold_id,
        person=item.person_id,
        team=item.team,
        cause=item.cause,
        version=item.version,
    )


def items(db: Db, hold_id: str) -> list[HoldItem]:
    rows = db.all("SELECT * FROM hold_items WHERE hold_id = :hold ORDER BY person_id, team", hold=hold_id)
    return [HoldItem(row["hold_id"], row["person_id"], row["team"], row["cause"], row["version"]) for row in rows]


def configuration_item(db: Db, person_id: str) -> HoldItem | None:
    """Return what keeps a whole person who would leave by the configuration alone: open, or rejected for good."""
    row = db.one(
        "SELECT i.* FROM hold_items i JOIN holds h ON h.id = i.hold_id WHERE i.person_id = :person AND i.team = ''"
        " AND h.kind = 'configuration' AND h.state <> 'approved' ORDER BY h.created_at DESC LIMIT 1",
        person=person_id,
    )
    return HoldItem(row["hold_id"], row["person_id"], row["team"], row["cause"], row["version"]) if row else None


def drop_items(db: Db, person_id: str, team: str) -> None:
    """Take what came back out of the open holds; the checksum changes with it, and a hold of nothing ends."""
    dropped = db.execute(
        "DELETE FROM hold_items WHERE person_id = :person AND team = :team AND hold_id IN"
        " (SELECT id FROM holds WHERE state = 'open')",
        person=person_id,
        team=team,
    )
    if not dropped:
        return
    db.execute(
        "UPDATE holds SET state = 'emptied', decided_by = 'idsync'"
        " WHERE state = 'open' AND id NOT IN (SELECT hold_id FROM hold_items)"
    )


def decide_hold(db: Db, hold_id: str, state: str, by: str, at: float) -> None:
    db.execute(
        "UPDATE holds SET state = :state, decided_at = :at, decided_by = :by WHERE id = :id AND state = 'open'",
        id=hold_id,
        state=state,
        at=at,
        by=by,
    )


def checksum(held: Sequence[HoldItem]) -> str:
    """Return the short fingerprint of what a hold contains: person, team, cause and version of the evidence."""
    lines = sorted(f"{item.person_id}|{item.team}|{item.cause}|{item.version}" for item in held)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def hold_is_open(db: Db, hold_id: str | None) -> bool:
    """Tell whether deletion waits for this hold; a rejected one keeps waiting for good."""
    if hold_id is None:
        return False
    row = db.one("SELECT state FROM holds WHERE id = :id", id=hold_id)
    return row is not None and row["state"] != "approved"


def put_problem(db: Db, departure_id: str, state: DepartureState, problem: str) -> None:
    """Say in words why a departure is not further."""
    db.execute(
        "UPDATE departures SET state = :state, problem = :problem WHERE id = :id",
        id=departure_id,
        state=state.value,
        problem=problem,
    )
