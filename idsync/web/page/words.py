"""How times and numbers are said to people. Times are UTC, and say so."""

from __future__ import annotations

from datetime import UTC, datetime

from idsync.clock import rfc3339
from idsync.web.page.html import Markup, tag

DAY = 86400.0


def length(seconds: float) -> str:
    """Say a length of time: 84 ms, 2.3 s, 4 min, 3 h, 2 days."""
    for most, per, unit in (
        (0.9995, 0.001, "ms"),
        (119.5, 1.0, "s"),
        (119.5 * 60, 60.0, "min"),
        (47.5 * 3600, 3600.0, "h"),
    ):
        if seconds < most:
            places = 1 if unit == "s" and seconds < 9.95 else 0
            return f"{seconds / per:.{places}f} {unit}"
    return f"{seconds / DAY:,.0f} days"


def ago(at: float | None, now: float) -> str:
    if at is None:
        return "never"
    return "just now" if now - at < 2 else f"{length(now - at)} ago"


def moment(at: float, now: float | None = None) -> Markup:
    """Show a time: the day and the minute, the exact one for machines, and how long ago where that helps."""
    shown = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return tag(
        "time", shown if now is None else ago(at, now), datetime=rfc3339(at), title=None if now is None else shown
    )


def money(amount: float | None) -> str:
    return "not told" if amount is None else f"{amount:,.2f}"
