"""What leavers' accounts and keys had cost when everything of before was booked, and what has come on top of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from idsync.store import people
from idsync.store.db import Db, Row
from idsync.store.facts import get
from idsync.store.ledger import Departure, departure

ToldBy = Literal["activity", "counter"]
LOOKED = "spend:look"
"""The fact of the last look: what the gateway did not tell."""
SHOWN = 30 * 86400.0
"""Seconds for which spend after a departure is shown, counted from when it last grew."""
Place = tuple[ToldBy, str, str]
"""Who tells an amount, the account ("" for a key's own counter), and the key ("" where it is not told by key)."""


@dataclass(frozen=True)
class After:
    """Spend after access had ended, by person and key. `key_id` "": not told by key. Times are epoch seconds."""

    departure_id: str
    person_id: str
    account_id: str
    key_id: str
    key_name: str | None
    spend: float
    used_at: float | None
    first_at: float
    last_at: float


def ended_since(db: Db, since: float, before: float) -> list[Departure]:
    """Return the departures and suspensions in force whose access ended between two times, first looked at first."""
    rows = db.all(
        "SELECT d.id FROM departures d LEFT JOIN spend_looks l ON l.departure_id = d.id"
        " WHERE d.closed_at IS NULL AND d.access_ended_at > :since AND d.access_ended_at <= :before"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || d.label)"
        " ORDER BY COALESCE(l.at, 0), d.access_ended_at, d.id",
        since=since,
        before=before,
    )
    found = (departure(db, row["id"]) for row in rows)
    return [one for one in found if one is not None]


def due(db: Db, now: float, *, since: float, before: float, fresh: float, every: float, later: float) -> list[str]:
    """Return which of these are to be looked at: `every` seconds while access ended after `fresh`, then every `later`."""
    rows = db.all(
        "SELECT d.id FROM departures d LEFT JOIN spend_looks l ON l.departure_id = d.id"
        " WHERE d.closed_at IS NULL AND d.access_ended_at > :since AND d.access_ended_at <= :before"
        " AND (l.at IS NULL OR l.at > :now"
        " OR :now - l.at >= CASE WHEN d.access_ended_at > :fresh THEN :every ELSE :later END)"
        " AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'drill:canary:' || d.label)"
        " ORDER BY COALESCE(l.at, 0), d.access_ended_at, d.id",
        now=now,
        since=since,
        before=before,
        fresh=fresh,
        every=every,
        later=later,
    )
    return [row["id"] for row in rows]


def accounts_of(db: Db, one: Departure) -> list[str]:
    """Return the accounts of a departure that are still nobody else's."""
    person = people.person(db, one.person_id)
    linked = person.account_id if person is not None else None
    named = [
        *(one.receipt or {}).get("accounts", []),
        one.account_id,
        linked,
        *people.further_accounts(db, one.person_id),
    ]
    return [account for account in dict.fromkeys(named) if account and _is_theirs(db, one.person_id, account)]


def _is_theirs(db: Db, person_id: str, account: str) -> bool:
    if get(db, f"unlinked:{person_id}:{account}"):
        return False
    owner = people.person_of_account(db, account)
    return owner is None or owner.id == person_id


def looked(db: Db, departure_id: str, at: float) -> None:
    db.execute(
        "INSERT INTO spend_looks (departure_id, at) VALUES (:id, :at)"
        " ON CONFLICT (departure_id) DO UPDATE SET at = excluded.at",
        id=departure_id,
        at=at,
    )


def accounted(db: Db, departure_id: str) -> dict[Place, float]:
    """Return what is accounted for."""
    rows = db.all("SELECT * FROM spend_accounted WHERE departure_id = :id", id=departure_id)
    return {(row["told_by"], row["account_id"], row["key_id"]): row["spend"] for row in rows}


def account(db: Db, departure_id: str, place: Place, spend: float, at: float) -> None:
    """Write down up to which amount nothing is to be told."""
    db.execute(
        "INSERT INTO spend_accounted (departure_id, told_by, account_id, key_id, spend, at)"
        " VALUES (:id, :told_by, :account, :key, :spend, :at)"
        " ON CONFLICT (departure_id, told_by, account_id, key_id) DO UPDATE SET spend = excluded.spend, at = excluded.at",
        id=departure_id,
        told_by=place[0],
        account=place[1],
        key=place[2],
        spend=spend,
        at=at,
    )


def put_after(db: Db, found: After) -> None:
    db.execute(
        "INSERT INTO spend_after (departure_id, account_id, key_id, person_id, key_name, spend, used_at, first_at, last_at)"
        " VALUES (:id, :account, :key, :person, :name, :spend, :used, :first, :last)"
        " ON CONFLICT (departure_id, account_id, key_id) DO UPDATE SET spend = excluded.spend,"
        " key_name = COALESCE(excluded.key_name, spend_after.key_name),"
        " used_at = COALESCE(excluded.used_at, spend_after.used_at), last_at = excluded.last_at",
        id=found.departure_id,
        account=found.account_id,
        key=found.key_id,
        person=found.person_id,
        name=found.key_name,
        spend=found.spend,
        used=found.used_at,
        first=found.first_at,
        last=found.last_at,
    )


def after_of(db: Db, departure_id: str) -> list[After]:
    rows = db.all("SELECT * FROM spend_after WHERE departure_id = :id ORDER BY account_id, key_id", id=departure_id)
    return [_after(row) for row in rows]


def after_since(db: Db, since: float) -> list[After]:
    """Return what has grown since then, whoever of them is back."""
    rows = db.all(
        "SELECT * FROM spend_after WHERE last_at > :since ORDER BY first_at, departure_id, account_id, key_id",
        since=since,
    )
    return [_after(row) for row in rows]


def forget_before(db: Db, since: float) -> None:
    """Drop what is accounted for of departures that are not watched any more; what was found stays."""
    for table in ("spend_accounted", "spend_looks"):
        db.execute(
            f"DELETE FROM {table} WHERE departure_id NOT IN"  # noqa: S608
            " (SELECT id FROM departures WHERE closed_at IS NULL AND access_ended_at > :since)",
            since=since,
        )


def spenders(found: Iterable[After]) -> int:
    """Count the people in a list of findings."""
    return len({one.person_id for one in found})


def _after(row: Row) -> After:
    return After(
        departure_id=row["departure_id"],
        person_id=row["person_id"],
        account_id=row["account_id"],
        key_id=row["key_id"],
        key_name=row["key_name"],
        spend=row["spend"],
        used_at=row["used_at"],
        first_at=row["first_at"],
        last_at=row["last_at"],
    )
