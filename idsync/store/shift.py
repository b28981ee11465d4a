"""What waits keeps waiting as long as it was meant to when the wall clock is set, and what is due stays due.

What was said by a clock that was ahead stays older than what is said afterwards.
"""

from __future__ import annotations

from itertools import groupby

from idsync.store.db import Db

_DEPARTURES = "closed_at IS NULL AND verified_at IS NULL"
_LOOKS = "settled_at IS NULL AND settle_at IS NOT NULL"
_GRANTS = "destroyed = 0 AND delete_at IS NOT NULL"
INSTANT = 1e-6
"""Seconds by which one word is older than the next where a clock that was ahead has told their times."""
_SAID = (
    "SELECT 'user' AS what, id AS subject, '' AS member, observed_at AS at FROM users"
    " WHERE person_id = :person AND observed_at >= :now"
    " UNION SELECT 'since', m.group_id, m.member_id, m.since FROM users u JOIN memberships m ON m.member_id = u.id"
    " WHERE u.person_id = :person AND m.since >= :now"
    " UNION SELECT 'listed', g.id, '', g.listed_at FROM users u JOIN memberships m ON m.member_id = u.id"
    " JOIN groups g ON g.id = m.group_id WHERE u.person_id = :person AND g.listed_at >= :now"
    " UNION SELECT 'ended', e.group_id, e.member_id, e.ended_at FROM users u"
    " JOIN ended_memberships e ON e.member_id = u.id WHERE u.person_id = :person AND e.ended_at >= :now"
    " ORDER BY at DESC"
)
_MOVED = {
    "user": "UPDATE users SET observed_at = :at WHERE id = :subject AND :member = ''",
    "since": "UPDATE memberships SET since = :at WHERE group_id = :subject AND member_id = :member",
    "listed": "UPDATE groups SET listed_at = :at WHERE id = :subject AND :member = ''",
    "ended": "UPDATE ended_memberships SET ended_at = :at WHERE group_id = :subject AND member_id = :member",
}


def shift(db: Db, step: float, before: float) -> None:
    """Move what was to happen by a step of the wall clock (seconds, negative when it was set back).

    `before` is what the clock showed just before; nothing may have been written in the new time yet. Set forward, what
    is due needs no moving. Set back, it does: it would be due no longer, and a leaver never waits because of a clock.
    """
    when = {"step": step, "before": before}
    db.execute("UPDATE jobs SET run_at = run_at + :step, lease_until = lease_until + :step", step=step)
    for table, column, rows in (
        ("departures", "delete_at", _DEPARTURES),
        ("departures", "settle_at", _LOOKS),
        ("grants", "delete_at", _GRANTS),
    ):
        db.execute(
            f"UPDATE {table} SET {column} = {column} + :step"  # noqa: S608 - our own names
            f" WHERE {rows} AND ({column} > :before OR :step < 0)",
            **when,
        )
    db.execute("UPDATE team_keys SET next_try_at = next_try_at + :step", step=step)
    db.execute("UPDATE ending_keys SET end_at = end_at + :step", step=step)
    if step < 0:  # who leaves now must not seem to have left before a key was made that they knew
        db.execute("UPDATE team_keys SET made_at = made_at + :step WHERE made_at > 0", step=step)
        db.execute("UPDATE undelivered_keys SET made_at = made_at + :step", step=step)


def shift_look(db: Db, person_id: str, at: float, step: float) -> None:
    """Move the second look that was put at a time of the clock before its step."""
    db.execute(
        f"UPDATE departures SET settle_at = settle_at + :step WHERE person_id = :person AND settle_at = :at AND {_LOOKS}",  # noqa: S608
        step=step,
        person=person_id,
        at=at,
    )


def outdate(db: Db, person_id: str, now: float) -> None:
    """Let everything that was said of a person be older than what is written down now, in the order it had.

    Nothing can have been said later than now, unless a clock that was ahead has told the time. Between sources of one
    directory the newest word counts, and must not be an older one with a later time.
    """
    said = db.all(_SAID, person=person_id, now=now)
    for age, (_, rows) in enumerate(groupby(said, key=lambda row: row["at"]), 1):
        for row in rows:
            moved = {"subject": row["subject"], "member": row["member"], "at": now - age * INSTANT}
            db.execute(_MOVED[row["what"]], **moved)
