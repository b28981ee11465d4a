"""What polled sources leave behind: who was missing, what the guard counts and holds, where a listing under way is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idsync.model import Observation
from idsync.store.db import Db


@dataclass(frozen=True)
class Known:
    """A user record of a polled source, as far as a listing is compared with it."""

    id: str
    external_id: str
    user_name: str
    email: str | None
    display_name: str | None
    observation: Observation
    observed_at: float
    person_id: str


@dataclass(frozen=True)
class HeldLoss:
    """A confirmed loss that waits for a person. `loss` is what `idsync.intake` applies when the hold is approved."""

    source: str
    external_id: str
    hold_id: str
    person_id: str
    loss: Mapping[str, Any]


# -- the directory, as a listing is compared with it --------------------------------------------------------------


def known_users(db: Db, source: str, external_ids: Sequence[str] | None = None) -> dict[str, Known]:
    """Return the live records of a source by external id: all, or those of these ids."""
    columns = "id, external_id, user_name, email, display_name, observation, observed_at, person_id"
    live = f"SELECT {columns} FROM users WHERE source = :source AND deleted_at IS NULL"  # noqa: S608
    if external_ids is None:
        rows = db.all(f"{live} AND external_id IS NOT NULL", source=source)
    else:
        rows = [
            row
            for external_id in external_ids
            for row in db.all(f"{live} AND external_id = :id", source=source, id=external_id)
        ]
    return {
        row["external_id"]: Known(
            row["id"],
            row["external_id"],
            row["user_name"],
            row["email"],
            row["display_name"],
            Observation(row["observation"]),
            row["observed_at"],
            row["person_id"],
        )
        for row in rows
    }


def members_by_external(db: Db, group_id: str) -> dict[str, str]:
    """Return the ids of a group's members by their external ids."""
    rows = db.all(
        "SELECT u.external_id, u.id FROM memberships m JOIN users u ON u.id = m.member_id"
        " WHERE m.group_id = :group AND u.external_id IS NOT NULL AND u.deleted_at IS NULL",
        group=group_id,
    )
    return {row["external_id"]: row["id"] for row in rows}


def memberships_told(db: Db, group_id: str, before: float) -> list[tuple[str, float]]:
    """Return who was put into a pushed group before a time, and when: external ids, nested groups resolved."""
    rows = db.all(
        "WITH RECURSIVE down (id, since) AS (SELECT member_id, since FROM memberships WHERE group_id = :group"
        " UNION SELECT m.member_id, m.since FROM memberships m JOIN down ON m.group_id = down.id)"
        " SELECT u.external_id, MAX(down.since) AS since FROM down JOIN users u ON u.id = down.id"
        " WHERE down.since < :before AND u.external_id IS NOT NULL AND u.deleted_at IS NULL GROUP BY u.external_id",
        group=group_id,
        before=before,
    )
    return [(row["external_id"], row["since"]) for row in rows]


def with_access(db: Db, source: str) -> int:
    """Count the people with access of whom a source shows a live record."""
    row = db.one(
        "SELECT COUNT(DISTINCT u.person_id) AS n FROM users u JOIN persons p ON p.id = u.person_id"
        " WHERE u.source = :source AND u.deleted_at IS NULL AND (p.role IS NOT NULL OR EXISTS"
        " (SELECT 1 FROM grants g WHERE g.person_id = p.id AND g.state = 'granted'))",
        source=source,
    )
    return int(row["n"]) if row else 0


def team_sizes(db: Db) -> dict[str, int]:
    """Return how many people each team is given to."""
    rows = db.all("SELECT team, COUNT(*) AS n FROM grants WHERE state = 'granted' GROUP BY team")
    return {row["team"]: int(row["n"]) for row in rows}


# -- memberships that ended ---------------------------------------------------------------------------------------


def note_ended(db: Db, group_id: str, member_id: str, at: float) -> None:
    """Note that a source said, at that time, that somebody is not (any more) in a group."""
    db.execute(
        "INSERT INTO ended_memberships (group_id, member_id, ended_at) VALUES (:group, :member, :at)"
        " ON CONFLICT (group_id, member_id) DO UPDATE SET ended_at = excluded.ended_at",
        group=group_id,
        member=member_id,
        at=at,
    )


def forget_ended(db: Db, group_id: str, member_id: str) -> None:
    db.execute(
        "DELETE FROM ended_memberships WHERE group_id = :group AND member_id = :member",
        group=group_id,
        member=member_id,
    )


def ended(db: Db, member_id: str) -> dict[str, float]:
    """Return when which memberships of a record ended."""
    rows = db.all("SELECT group_id, ended_at FROM ended_memberships WHERE member_id = :member", member=member_id)
    return {row["group_id"]: row["ended_at"] for row in rows}


def told_at(db: Db, member_id: str) -> dict[str, float]:
    """Return as of when each direct membership of a record was last said to be true."""
    rows = db.all(
        "SELECT m.group_id, m.since, g.listed_at FROM memberships m JOIN groups g ON g.id = m.group_id"
        " WHERE m.member_id = :member",
        member=member_id,
    )
    return {row["group_id"]: max(row["since"], row["listed_at"] or 0.0) for row in rows}


def listed(db: Db, group_id: str, at: float) -> None:
    """Note as of when a group's members were listed in full."""
    db.execute("UPDATE groups SET listed_at = :at WHERE id = :group", at=at, group=group_id)


def said_otherwise(db: Db, group_id: str, before: float) -> list[str]:
    """Return the persons in a group of whom some source had said, before a time, that they were out of a group."""
    rows = db.all(
        "SELECT DISTINCT u.person_id FROM memberships m JOIN users u ON u.id = m.member_id"
        " JOIN users v ON v.person_id = u.person_id JOIN ended_memberships e ON e.member_id = v.id"
        " WHERE m.group_id = :group AND e.ended_at <= :before ORDER BY u.person_id",
        group=group_id,
        before=before,
    )
    return [row["person_id"] for row in rows]


# -- absences -----------------------------------------------------------------------------------------------------


def note_absent(db: Db, source: str, external_id: str, at: float) -> int:
    """Note that a source said there is no such user; return how often it has said so, at different times."""
    db.execute(
        "INSERT INTO absences (source, external_id, first_at, last_at, times) VALUES (:source, :id, :at, :at, 1)"
        " ON CONFLICT (source, external_id) DO UPDATE SET last_at = excluded.last_at, times = absences.times + 1"
        " WHERE excluded.last_at > absences.last_at",
        source=source,
        id=external_id,
        at=at,
    )
    return times_absent(db, source, external_id)


def times_absent(db: Db, source: str, external_id: str) -> int:
    """Return how often a source has said that there is no such user."""
    row = db.one(
        "SELECT times FROM absences WHERE source = :source AND external_id = :id", source=source, id=external_id
    )
    return int(row["times"]) if row else 0


def absent(db: Db, source: str) -> list[str]:
    rows = db.all("SELECT external_id FROM absences WHERE source = :source ORDER BY external_id", source=source)
    return [row["external_id"] for row in rows]


def forget_absent(db: Db, source: str, external_id: str) -> None:
    db.execute("DELETE FROM absences WHERE source = :source AND external_id = :id", source=source, id=external_id)


# -- what the guard counts and holds ------------------------------------------------------------------------------


def note_lost(db: Db, source: str, person_id: str, team: str, at: float) -> None:
    """Count a loss; `team` is "" for a departure."""
    db.execute(
        "INSERT INTO polled_losses (source, person_id, team, at) VALUES (:source, :person, :team, :at)"
        " ON CONFLICT (source, person_id, team) DO UPDATE SET at = excluded.at",
        source=source,
        person=person_id,
        team=team,
        at=at,
    )


def lost_since(db: Db, source: str, since: float) -> dict[str, set[str]]:
    """Return who lost what by polling since then: persons by team, "" for departures."""
    db_rows = db.all(
        "SELECT team, person_id FROM polled_losses WHERE source = :source AND at > :since", source=source, since=since
    )
    found: dict[str, set[str]] = {}
    for row in db_rows:
        found.setdefault(row["team"], set()).add(row["person_id"])
    return found


def forget_lost(db: Db, before: float) -> None:
    db.execute("DELETE FROM polled_losses WHERE at <= :before", before=before)


def hold_loss(db: Db, held: HeldLoss, at: float) -> None:
    db.execute(
        "INSERT INTO held_losses (source, external_id, hold_id, person_id, loss, noted_at)"
        " VALUES (:source, :id, :hold, :person, :loss, :at)"
        " ON CONFLICT (source, external_id) DO UPDATE SET hold_id = excluded.hold_id, loss = excluded.loss,"
        " person_id = excluded.person_id, noted_at = excluded.noted_at",
        source=held.source,
        id=held.external_id,
        hold=held.hold_id,
        person=held.person_id,
        loss=json.dumps(held.loss),
        at=at,
    )


def held_loss(db: Db, source: str, external_id: str) -> HeldLoss | None:
    row = db.one(
        "SELECT * FROM held_losses WHERE source = :source AND external_id = :id", source=source, id=external_id
    )
    return _held(row) if row else None


def held_losses(db: Db, *, hold_id: str | None = None, source: str | None = None) -> list[HeldLoss]:
    rows = db.all(
        "SELECT * FROM held_losses WHERE (:hold IS NULL OR hold_id = :hold) AND (:source IS NULL OR source = :source)"
        " ORDER BY source, external_id",
        hold=hold_id,
        source=source,
    )
    return [_held(row) for row in rows]


def drop_held(db: Db, source: str, external_id: str) -> None:
    db.execute("DELETE FROM held_losses WHERE source = :source AND external_id = :id", source=source, id=external_id)


def _held(row: Any) -> HeldLoss:
    return HeldLoss(row["source"], row["external_id"], row["hold_id"], row["person_id"], json.loads(row["loss"]))


# -- a listing under way ------------------------------------------------------------------------------------------


def part(db: Db, source: str, name: str, since: float) -> str | None:
    """Return what a listing under way has kept, unless it is older than `since`."""
    row = db.one(
        "SELECT text FROM poll_parts WHERE source = :source AND name = :name AND at >= :since",
        source=source,
        name=name,
        since=since,
    )
    return str(row["text"]) if row else None


def put_part(db: Db, source: str, name: str, text: str, at: float) -> None:
    db.execute(
        "INSERT INTO poll_parts (source, name, text, at) VALUES (:source, :name, :text, :at)"
        " ON CONFLICT (source, name) DO UPDATE SET text = excluded.text, at = excluded.at",
        source=source,
        name=name,
        text=text,
        at=at,
    )


def drop_parts(db: Db, source: str) -> None:
    db.execute("DELETE FROM poll_parts WHERE source = :source", source=source)
