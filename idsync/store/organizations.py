"""Organization memberships that departures have ended, or are about to end, until a return gives them back."""

from __future__ import annotations

from dataclasses import dataclass

from idsync.store.db import Db, Row


@dataclass(frozen=True)
class Left:
    """A membership of an account, by the gateway's ids.

    `left_at` (epoch seconds) is None until it is read back; `hidden`: since then the gateway does not show the account.
    """

    account_id: str
    organization_id: str
    person_id: str
    role: str | None
    left_at: float | None = None
    hidden: bool = False


def _left(row: Row) -> Left:
    return Left(
        row["account_id"], row["organization_id"], row["person_id"], row["role"], row["left_at"], bool(row["hidden"])
    )


def note(db: Db, left: Left, at: float) -> None:
    """Write a membership down before it is ended."""
    db.execute(
        "INSERT INTO left_organizations (account_id, organization_id, person_id, role, noted_at, hidden)"
        " VALUES (:account, :organization, :person, :role, :at, 0)"
        " ON CONFLICT (account_id, organization_id) DO UPDATE SET person_id = excluded.person_id,"
        " role = excluded.role, noted_at = excluded.noted_at, left_at = NULL, hidden = 0",
        account=left.account_id,
        organization=left.organization_id,
        person=left.person_id,
        role=left.role,
        at=at,
    )


def mark_left(db: Db, left: Left, at: float) -> None:
    """The gateway has shown that it is ended, and whether it still shows the account (`left.hidden`)."""
    db.execute(
        "UPDATE left_organizations SET left_at = COALESCE(left_at, :at), hidden = :hidden"
        " WHERE account_id = :account AND organization_id = :organization",
        account=left.account_id,
        organization=left.organization_id,
        at=at,
        hidden=int(left.hidden),
    )


def forget(db: Db, left: Left) -> None:
    """It was given back, or could not be ended."""
    db.execute(
        "DELETE FROM left_organizations WHERE account_id = :account AND organization_id = :organization",
        account=left.account_id,
        organization=left.organization_id,
    )


def of_person(db: Db, person_id: str) -> list[Left]:
    rows = db.all(
        "SELECT * FROM left_organizations WHERE person_id = :person ORDER BY account_id, organization_id",
        person=person_id,
    )
    return [_left(row) for row in rows]
