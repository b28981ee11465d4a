"""What waits keeps waiting as long as it was meant to when the wall clock is set."""

from __future__ import annotations

from idsync.store.db import Db


def shift(db: Db, step: float, before: float) -> None:
    """Move what was to happen later by a step of the wall clock (seconds, negative when it was set back).

    `before` is what the clock showed just before. Nothing that is due is moved, and nothing that was accepted after
    the step: a leaver never waits because of a clock.
    """
    db.execute(
        "UPDATE jobs SET run_at = run_at + :step WHERE waiting = 1 AND run_at > :before", step=step, before=before
    )
    db.execute(
        "UPDATE departures SET delete_at = delete_at + :step"
        " WHERE closed_at IS NULL AND verified_at IS NULL AND accepted_at <= :before AND delete_at > :before",
        step=step,
        before=before,
    )
    db.execute(
        "UPDATE departures SET settle_at = settle_at + :step WHERE settled_at IS NULL AND settle_at > :before",
        step=step,
        before=before,
    )
    db.execute(
        "UPDATE grants SET delete_at = delete_at + :step"
        " WHERE destroyed = 0 AND lost_at <= :before AND delete_at > :before",
        step=step,
        before=before,
    )
