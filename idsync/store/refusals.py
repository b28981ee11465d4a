"""What this gateway has refused to do, so that it is told once and not tried at every turn."""

from __future__ import annotations

from idsync.store import facts
from idsync.store.db import Db

TEAM_ADMIN, ORG_ADMIN = "team_admin", "org_admin"
WORDS = {TEAM_ADMIN: "admins of teams", ORG_ADMIN: "admins of the organization"}
"""What is refused, in words."""
LASTS = 86400.0
"""Seconds after which it is tried again: a licence may have been bought."""


def note(db: Db, what: str, why: str, at: float) -> None:
    facts.put(db, f"refused:{what}", why, at)


def drop(db: Db, what: str) -> None:
    facts.drop(db, f"refused:{what}")


def everything(db: Db) -> dict[str, tuple[str, float]]:
    """Return why and when (epoch seconds) each was last refused."""
    return {what: (str(why), at) for what, (why, at) in facts.under(db, "refused:").items()}


def standing(db: Db, now: float) -> dict[str, tuple[str, float]]:
    """Return those that are not to be tried now."""
    return {what: (why, at) for what, (why, at) in everything(db).items() if at + LASTS > now}
