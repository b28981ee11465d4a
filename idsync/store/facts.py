"""What was learnt and must survive a restart: verbs of the gateway, team ids, the fence, times of passes."""

from __future__ import annotations

import json
from typing import Any

from idsync.store.db import Db

SERVED = "configuration:served"
"""The fact that names by which configuration the replicas of a shared store go, but for what is of each machine."""

FROZEN = "frozen"
"""The fact that polled departures and grants wait: who asked for it, why and when."""


def get(db: Db, name: str) -> Any:
    """Return a fact, or None."""
    row = db.one("SELECT value FROM facts WHERE name = :name", name=name)
    return json.loads(row["value"]) if row else None


def put(db: Db, name: str, value: Any, at: float) -> None:
    db.execute(
        "INSERT INTO facts (name, value, at) VALUES (:name, :value, :at)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
        name=name,
        value=json.dumps(value),
        at=at,
    )


def drop(db: Db, name: str) -> None:
    db.execute("DELETE FROM facts WHERE name = :name", name=name)


def under(db: Db, prefix: str) -> dict[str, tuple[Any, float]]:
    """Return every fact whose name begins with `prefix`, without it, with the time it was noted."""
    rows = db.all(
        "SELECT name, value, at FROM facts WHERE substr(name, 1, :length) = :prefix", prefix=prefix, length=len(prefix)
    )
    return {row["name"][len(prefix) :]: (json.loads(row["value"]), row["at"]) for row in rows}
