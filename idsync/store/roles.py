"""Roles that idsync gave at the gateway: written down before the call, forgotten when they are taken again."""

from __future__ import annotations

from idsync.model import GivenRole
from idsync.store.db import Db, Row


def _given(row: Row) -> GivenRole:
    return GivenRole(
        row["account_id"],
        row["place"],
        row["person_id"],
        row["role"],
        row["before"],
        row["noted_at"],
        row["given_at"],
    )


def put(db: Db, given: GivenRole) -> None:
    """Write a role down, in place of an earlier one in the same place."""
    db.execute(
        "INSERT INTO given_roles (account_id, place, person_id, role, before, noted_at, given_at)"
        " VALUES (:account, :place, :person, :role, :before, :noted_at, :given_at)"
        " ON CONFLICT (account_id, place) DO UPDATE SET person_id = excluded.person_id, role = excluded.role,"
        " before = excluded.before, noted_at = excluded.noted_at, given_at = excluded.given_at",
        account=given.account_id,
        place=given.place,
        person=given.person_id,
        role=given.role,
        before=given.before,
        noted_at=given.noted_at,
        given_at=given.given_at,
    )


def get(db: Db, account_id: str, place: str) -> GivenRole | None:
    row = db.one(
        "SELECT * FROM given_roles WHERE account_id = :account AND place = :place", account=account_id, place=place
    )
    return _given(row) if row else None


def of_account(db: Db, account_id: str) -> dict[str, GivenRole]:
    """Return what idsync gave an account, by place."""
    rows = db.all("SELECT * FROM given_roles WHERE account_id = :account ORDER BY place", account=account_id)
    return {row["place"]: _given(row) for row in rows}


def everything(db: Db) -> dict[tuple[str, str], GivenRole]:
    """Return every role that idsync gave, by account and place."""
    rows = db.all("SELECT * FROM given_roles ORDER BY account_id, place")
    return {(row["account_id"], row["place"]): _given(row) for row in rows}


def forget(db: Db, account_id: str, place: str) -> None:
    db.execute(
        "DELETE FROM given_roles WHERE account_id = :account AND place = :place", account=account_id, place=place
    )
