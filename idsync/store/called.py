"""What people were ever called: a record is renamed or taken over, and the account at the gateway keeps the old name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idsync.model import User, fold
from idsync.store.db import Db

Said = tuple[str, str]
"""A kind of name and the name: "address", "user_name" or "external_id"."""


@dataclass(frozen=True)
class Name:
    """One name of a person. `source` is "" where no source said so; `since` is when it was first heard."""

    kind: str
    source: str
    name: str
    since: float


def note_user(db: Db, user: User, at: float) -> None:
    """Keep what a record is called now."""
    said = [("user_name", user.user_name), ("address", user.address), ("external_id", user.external_id)]
    note(db, user.person_id, user.source, [(kind, name) for kind, name in said if name], at)


def is_new(user: User, before: User) -> bool:
    """Tell whether a record, or its person, is called otherwise than before."""
    return (user.person_id, user.user_name, user.address, user.external_id) != (
        before.person_id,
        before.user_name,
        before.address,
        before.external_id,
    )


def by_hand(name: str) -> list[Said]:
    """Return what a name is that no source has sent."""
    return [("user_name", name), *([("address", name)] if "@" in name else [])]


def note(db: Db, person_id: str, source: str, said: Sequence[Said], at: float) -> None:
    """Keep names for good; one that is known stays as old as it is."""
    if not said:
        return
    values = {
        f"{part}{number}": value
        for number, (kind, name) in enumerate(said)
        for part, value in (("kind", kind), ("key", _key(kind, name)), ("name", name))
    }
    rows = ", ".join(f"(:person, :kind{n}, :source, :key{n}, :name{n}, :at)" for n in range(len(said)))
    db.execute(
        f"INSERT INTO names (person_id, kind, source, name_key, name, since) VALUES {rows}"  # noqa: S608
        " ON CONFLICT (person_id, kind, source, name_key) DO NOTHING",
        **values,
        person=person_id,
        source=source,
        at=at,
    )


def names(db: Db, person_id: str) -> list[Name]:
    """Return every name somebody ever had, the newest first."""
    rows = db.all("SELECT * FROM names WHERE person_id = :person ORDER BY since DESC, name_key", person=person_id)
    return [Name(row["kind"], row["source"], row["name"], row["since"]) for row in rows]


def persons(db: Db, name: str, *kinds: str) -> list[str]:
    """Return everybody who was ever called so, by any of these kinds of names."""
    found = {
        row["person_id"]
        for kind in kinds
        for row in db.all(
            "SELECT person_id FROM names WHERE name_key = :key AND kind = :kind", key=_key(kind, name), kind=kind
        )
    }
    return sorted(found)


def since(db: Db, person_id: str, kind: str, name: str) -> float | None:
    """Return since when somebody has been called so; None: never."""
    row = db.one(
        "SELECT MIN(since) AS at FROM names WHERE person_id = :person AND name_key = :key AND kind = :kind",
        person=person_id,
        key=_key(kind, name),
        kind=kind,
    )
    return row["at"] if row else None


def _key(kind: str, name: str) -> str:
    return name if kind == "external_id" else fold(name)
