"""What a migration has to compute, beside its SQL: run once, in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from idsync.model import fold
from idsync.store import called, directory, exposure
from idsync.store.db import Db


def names(db: Db) -> None:
    """Fill the keys of 0003: addresses, displayName, and names folded as this release compares them.

    A name that would collide with another one in the new form keeps its old key; both stay as they are.
    """
    for row in db.all("SELECT id, source, user_name, user_name_key, email, display_name, doc FROM users"):
        key = fold(row["user_name"])
        taken = key != row["user_name_key"] and directory.user_by_name(db, row["source"], row["user_name"]) is not None
        db.execute(
            "UPDATE users SET user_name_key = :key, email_key = :email, display_key = :display WHERE id = :id",
            id=row["id"],
            key=row["user_name_key"] if taken else key,
            email=fold(row["email"]) if row["email"] else None,
            display=None if row["display_name"] is None else fold(row["display_name"]),
        )
        directory.put_emails(db, row["id"], json.loads(row["doc"]))
    for row in db.all("SELECT id, source, display_name, display_key FROM groups"):
        key = fold(row["display_name"])
        if key != row["display_key"] and directory.group_by_name(db, row["source"], row["display_name"]) is None:
            db.execute("UPDATE groups SET display_key = :key WHERE id = :id", id=row["id"], key=key)


def leaving(db: Db) -> None:
    """Fill what 0005 keeps of the teams that people are just leaving; those of departures are in their receipts."""
    for row in db.all("SELECT person_id, team, lost_at FROM grants WHERE state = 'leaving' AND lost_at IS NOT NULL"):
        exposure.left_team(db, row["person_id"], row["team"], row["lost_at"])


def former_names(db: Db) -> None:
    """Fill 0008 with the names of every record, and with what people were first called: some were renamed since."""
    for row in db.all("SELECT * FROM users ORDER BY created_at, id"):
        user = directory.user_from(row)
        called.note_user(db, user, user.created_at)
    for row in db.all("SELECT id, label, created_at FROM persons"):
        called.note(db, row["id"], "", called.by_hand(row["label"]), row["created_at"])


AFTER: Mapping[str, Callable[[Db], None]] = {"0003_names": names, "0005_exposed": leaving, "0008_names": former_names}
"""By the name of the migration they complete."""
