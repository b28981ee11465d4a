"""The canary of a drill: written down before anything of it is made, counted nowhere, and removed without a trace.

One fact a canary, named after its userName, holds everything that has to be removed. A userName holds 128 random bits,
so nobody else can be called so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from idsync.store import facts
from idsync.store.db import Db

PREFIX = "drill:canary:"
AFTER = "drill:canary;"
"""Sorts after every fact of that prefix."""


@dataclass(frozen=True)
class Canary:
    """`name` is the userName, `token_id` that of the drill's own token.

    `accounts` are gateway user_ids beside the person's own, which is the person's id.
    """

    name: str
    source: str
    accounts: tuple[str, ...] = ()
    token_id: str | None = None


def put(db: Db, canary: Canary, at: float) -> None:
    facts.put(db, PREFIX + canary.name, asdict(canary), at)


def forget(db: Db, canary: Canary) -> None:
    facts.drop(db, PREFIX + canary.name)


def every(db: Db) -> list[Canary]:
    """Return the canaries that are not removed yet: that of the drill under way, or of one that was cut off."""
    rows = db.all("SELECT name FROM facts WHERE name > :first AND name < :after", first=PREFIX, after=AFTER)
    kept = [facts.get(db, row["name"]) for row in rows]
    return [Canary(**{**one, "accounts": tuple(one["accounts"])}) for one in kept]


def is_one(db: Db, person_id: str) -> bool:
    """Tell whether a person is the canary of a drill."""
    row = db.one(
        "SELECT 1 AS yes FROM persons p JOIN facts f ON f.name = 'drill:canary:' || p.label WHERE p.id = :person",
        person=person_id,
    )
    return row is not None


def persons(db: Db) -> frozenset[str]:
    """Return the persons who are canaries."""
    return frozenset(person for canary in every(db) for person in _persons(db, canary))


def pushed_since(db: Db, source: str, since: float) -> int:
    """Count what `ledger.pushed_since` counts of canaries."""
    return sum(_pushed(db, canary, source, since) for canary in every(db))


def _pushed(db: Db, canary: Canary, source: str, since: float) -> int:
    row = db.one(
        "SELECT COUNT(DISTINCT person_id) AS n FROM departures"
        " WHERE source = :source AND counts = 1 AND pushed_at > :since AND label = :name",
        source=source,
        since=since,
        name=canary.name,
    )
    return int(row["n"]) if row else 0


def purge(db: Db, canary: Canary, at: float) -> Canary | None:
    """Remove every row of a canary but the audit trail's and the fact, and return it with all its accounts.

    None: somebody works on it, and may still call the gateway about it; nothing is removed then.
    """
    found = _persons(db, canary)
    if any(_is_worked_on(db, person) for person in found):
        return None
    for person in found:
        _drop_person(db, person)
    if canary.token_id is not None:
        db.execute("DELETE FROM tokens WHERE id = :id", id=canary.token_id)
    left = replace(canary, accounts=tuple(sorted({*canary.accounts, *found})), token_id=None)
    put(db, left, at)
    return left


def _persons(db: Db, canary: Canary) -> list[str]:
    return [row["id"] for row in db.all("SELECT id FROM persons WHERE label = :name", name=canary.name)]


def _is_worked_on(db: Db, person_id: str) -> bool:
    row = db.one("SELECT 1 AS yes FROM jobs WHERE person_id = :person AND owner IS NOT NULL", person=person_id)
    return row is not None


_ROWS = (
    "DELETE FROM user_emails WHERE user_id IN (SELECT id FROM users WHERE person_id = :person)",
    "DELETE FROM memberships WHERE member_id IN (SELECT id FROM users WHERE person_id = :person)",
    "DELETE FROM users WHERE person_id = :person",
    "DELETE FROM names WHERE person_id = :person",
    "DELETE FROM jobs WHERE person_id = :person",
    "DELETE FROM grants WHERE person_id = :person",
    "DELETE FROM blocked_keys WHERE person_id = :person",
    "DELETE FROM bans WHERE person_id = :person",
    "DELETE FROM conflicts WHERE subject = :person",
    "DELETE FROM hold_items WHERE person_id = :person",
    "DELETE FROM departure_calls WHERE departure_id IN (SELECT id FROM departures WHERE person_id = :person)",
    "DELETE FROM left_behind WHERE person_id = :person",
    "DELETE FROM exposed_keys WHERE person_id = :person",
    "DELETE FROM left_organizations WHERE person_id = :person",
    "DELETE FROM departures WHERE person_id = :person",
    "DELETE FROM person_accounts WHERE person_id = :person",
    "DELETE FROM persons WHERE id = :person",
)
"""Everything that is kept of a person, in an order in which no row refers to one that is gone."""


def _drop_person(db: Db, person_id: str) -> None:
    for sql in _ROWS:
        db.execute(sql, person=person_id)
