"""What retention takes from the store: each function takes a few hundred rows at most, and says how many it took.

Nothing of somebody whose departure is not settled, who is banned, whom an open hold names, whom a job waits for, or of
a drill's canary is ever taken. What later checks go on with stays, without names: the ids of accounts, keys and teams.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from idsync.clock import rfc3339
from idsync.store.db import Db

ROWS = 300
"""Rows of one transaction: a push that comes meanwhile waits for no more than these."""

_AT_REST = (
    "NOT EXISTS (SELECT 1 FROM departures o WHERE o.person_id = {person} AND o.closed_at IS NULL"
    " AND (o.settled_at IS NULL OR o.state <> 'settled'))"
    " AND NOT EXISTS (SELECT 1 FROM bans b WHERE b.person_id = {person} AND b.lifted_at IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM hold_items i JOIN holds h ON h.id = i.hold_id"
    " WHERE i.person_id = {person} AND h.state = 'open')"
    " AND NOT EXISTS (SELECT 1 FROM held_losses l WHERE l.person_id = {person})"
    " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.person_id = {person})"
    " AND NOT EXISTS (SELECT 1 FROM persons p JOIN facts f ON f.name = 'drill:canary:' || p.label"
    " WHERE p.id = {person})"
)
"""Nothing is open that has to do with a person."""

GONE_ON = ("accounts", "teams", "organizations", "deleted_accounts", "ended_by", "features", "evidence", "source")
"""What stays of a receipt: `verify`, the sweep and the watch of spend ask the gateway about these again."""
PRUNED = "details pruned"


def receipts(db: Db, before: float, now: float, rows: int = ROWS) -> int:
    """Take calls and receipts of departures that settled or closed before then, and had no call since."""
    found = db.all(
        "SELECT d.id, d.receipt, (SELECT COUNT(*) FROM departure_calls c WHERE c.departure_id = d.id) AS calls"  # noqa: S608
        " FROM departures d WHERE d.receipt_pruned_at IS NULL AND COALESCE(d.closed_at, d.settled_at) < :before"
        " AND COALESCE(d.settled_at, 0) < :before AND COALESCE(d.verified_at, 0) < :before"
        " AND (d.closed_at IS NULL OR d.destroying_at IS NULL OR d.verified_at IS NOT NULL)"
        " AND NOT EXISTS (SELECT 1 FROM departure_calls c WHERE c.departure_id = d.id AND c.at >= :before)"
        f" AND {_AT_REST.format(person='d.person_id')} ORDER BY COALESCE(d.closed_at, d.settled_at), d.id LIMIT :rows",
        before=before,
        rows=rows,
    )
    taken = 0
    for row in found:
        if taken and taken + row["calls"] + 1 > rows:
            break
        db.execute("DELETE FROM departure_calls WHERE departure_id = :id", id=row["id"])
        _cut(db, row["id"], json.loads(row["receipt"]), now)
        taken += row["calls"] + 1
    return taken


def _cut(db: Db, departure_id: str, receipt: Mapping[str, Any], now: float) -> None:
    kept = {name: receipt[name] for name in GONE_ON if name in receipt}
    if "keys" in receipt:
        nameless = {"name": None, "alias": None}
        kept["keys"] = [{"id": key["id"], **nameless, "team_id": key.get("team_id")} for key in receipt["keys"]]
    db.execute(
        "UPDATE departures SET receipt = :receipt, receipt_pruned_at = :now WHERE id = :id",
        id=departure_id,
        receipt=json.dumps({**kept, "pruned_at": rfc3339(now)}, ensure_ascii=False),
        now=now,
    )


def details(db: Db, before: float, now: float, rows: int = ROWS) -> int:
    """Take who and why of departures that ended before then, because the person came back or it was cancelled.

    The row stays with its id, its times and its evidence: the id is the tag of a fence, the times are the statistics.
    """
    found = db.all(
        "SELECT d.id, d.person_id, d.receipt FROM departures d"  # noqa: S608
        " WHERE d.details_pruned_at IS NULL AND d.closed_at < :before AND COALESCE(d.verified_at, 0) < :before"
        " AND (d.destroying_at IS NULL OR d.verified_at IS NOT NULL OR d.state = 'cancelled')"
        f" AND {_AT_REST.format(person='d.person_id')} ORDER BY d.closed_at, d.id LIMIT :rows",
        before=before,
        rows=rows,
    )
    for row in found:
        _cut(db, row["id"], {}, now)
        db.execute("DELETE FROM departure_calls WHERE departure_id = :id", id=row["id"])
        db.execute(
            "UPDATE departures SET label = :person, account_id = NULL, cause = :pruned, problem = NULL,"
            " details_pruned_at = :now WHERE id = :id",
            id=row["id"],
            person=row["person_id"],
            pruned=PRUNED,
            now=now,
        )
    return len(found)


def spend(db: Db, before: float, watched: float, rows: int = ROWS) -> int:
    """Take what was found of spend after departures, and what was accounted for, once nobody watches it any more.

    `watched`: departures whose access ended after this are watched still. All times are epoch seconds.
    """
    taken = 0
    for table, at in (("spend_after", "last_at"), ("spend_accounted", "at"), ("spend_looks", "at")):
        taken += db.execute(
            f"DELETE FROM {table} WHERE {at} < :before AND departure_id IN (SELECT s.departure_id FROM {table} s"  # noqa: S608
            f" LEFT JOIN departures d ON d.id = s.departure_id WHERE s.{at} < :before AND (d.id IS NULL OR"
            f" ((d.closed_at IS NOT NULL OR d.access_ended_at <= :watched) AND {_AT_REST.format(person='d.person_id')}))"
            " ORDER BY s.departure_id LIMIT :rows)",
            before=before,
            watched=watched,
            rows=max(1, rows - taken),
        )
        if taken >= rows:
            break
    return taken


def tombstones(db: Db, before: float, now: float, rows: int = ROWS) -> int:
    """Take what directory records say that were deleted before then; somebody without any other record is forgotten.

    Only of people whose departure is settled and in force: whoever is here, or protected, is known by these names.
    The ids stay, the IdP's immutable one included: whoever comes back is the same person, and whoever takes over an
    address is not.
    """
    found = db.all(
        "SELECT u.id, u.person_id FROM users u WHERE u.deleted_at < :before AND u.pruned_at IS NULL"  # noqa: S608
        " AND EXISTS (SELECT 1 FROM departures d"
        " WHERE d.person_id = u.person_id AND d.closed_at IS NULL AND d.state = 'settled')"
        f" AND {_AT_REST.format(person='u.person_id')} ORDER BY u.deleted_at, u.id LIMIT :rows",
        before=before,
        rows=max(1, rows // 5),
    )
    for row in found:
        db.execute(
            "UPDATE users SET user_name = id, user_name_key = id, email = NULL, email_key = NULL, display_name = NULL,"
            " display_key = NULL, doc = '{}', pruned_at = :now WHERE id = :id",
            id=row["id"],
            now=now,
        )
        db.execute("DELETE FROM user_emails WHERE user_id = :id", id=row["id"])
    for person_id in dict.fromkeys(row["person_id"] for row in found):
        if db.one("SELECT 1 FROM users WHERE person_id = :id AND pruned_at IS NULL LIMIT 1", id=person_id) is None:
            _forget(db, person_id, now)
    return len(found)


_NAMELESS = (
    "DELETE FROM names WHERE person_id = :person AND kind <> 'external_id'",
    "UPDATE persons SET label = :person WHERE id = :person",
    "UPDATE departures SET label = :person, cause = :pruned, problem = NULL WHERE person_id = :person",
    "UPDATE bans SET label = :person, reason = :pruned, lifted_why = :pruned WHERE person_id = :person",
    "DELETE FROM conflicts WHERE subject = :person AND resolved_at IS NOT NULL",
)


def _forget(db: Db, person_id: str, now: float) -> None:
    """Take every name of somebody; what is known of their accounts and keys stays, by id."""
    for row in db.all("SELECT id, receipt FROM departures WHERE person_id = :person", person=person_id):
        _cut(db, row["id"], json.loads(row["receipt"]), now)
    for sql in _NAMELESS:
        db.execute(sql, **{"person": person_id, **({"pruned": PRUNED} if ":pruned" in sql else {})})


def groups(db: Db, before: float, rows: int = ROWS) -> int:
    """Drop groups that were deleted before then, that nothing is bound to and that nobody is noted in."""
    return db.execute(
        "DELETE FROM groups WHERE id IN (SELECT g.id FROM groups g WHERE g.deleted_at < :before"
        " AND NOT EXISTS (SELECT 1 FROM bindings b WHERE b.group_id = g.id)"
        " AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.group_id = g.id OR m.member_id = g.id)"
        " AND NOT EXISTS (SELECT 1 FROM pending_members p WHERE p.group_id = g.id)"
        " AND NOT EXISTS (SELECT 1 FROM ended_memberships e WHERE e.group_id = g.id)"
        " ORDER BY g.deleted_at, g.id LIMIT :rows)",
        before=before,
        rows=rows,
    )
