"""What waits keeps waiting as long as it was meant to when the wall clock is set, and what is due stays due."""

from __future__ import annotations

from idsync.store.db import Db

_DEPARTURES = "closed_at IS NULL AND verified_at IS NULL"
_LOOKS = "settled_at IS NULL AND settle_at IS NOT NULL"
_GRANTS = "destroyed = 0 AND delete_at IS NOT NULL"


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


def shift_look(db: Db, person_id: str, at: float, step: float) -> None:
    """Move the second look that was put at a time of the clock before its step."""
    db.execute(
        f"UPDATE departures SET settle_at = settle_at + :step WHERE person_id = :person AND settle_at = :at AND {_LOOKS}",  # noqa: S608
        step=step,
        person=person_id,
        at=at,
    )
