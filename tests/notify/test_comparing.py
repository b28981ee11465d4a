"""What is true against what was told: each row of the table in `notify/comparing.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from idsync.model import Event
from idsync.notify.comparing import Difference, compare
from idsync.notify.situations import DAY, Situation
from idsync.store.notices import Notice

NOW = 1_800_000_000.0
HOLD = Situation(Event.HOLD_OPENED, "h1", "a hold waits", "idsync holds show h1", NOW - 10)
TOLD = Notice("ops", "hold_opened", "h1", "a hold waits", "idsync holds show h1", NOW - 10, told_at=NOW - 5)
NEW = replace(TOLD, pending="new", told_at=None)
OVER = replace(TOLD, pending="over", ended_at=NOW - 1)
REWORDED = replace(HOLD, summary="a hold of two waits")

TABLE = {
    "nothing was told": ([HOLD], [], [NEW]),
    "that it is over was still to be told": ([HOLD], [OVER], [NEW]),
    "told less than a day ago": ([HOLD], [replace(TOLD, told_at=NOW - DAY + 1)], []),
    "told less than a day ago, in other words": ([REWORDED], [TOLD], []),
    "told a day ago": ([HOLD], [replace(TOLD, told_at=NOW - DAY)], [replace(TOLD, told_at=NOW - DAY, pending="again")]),
    "told tomorrow: a clock was set back": (
        [HOLD],
        [replace(TOLD, told_at=NOW + DAY)],
        [replace(TOLD, told_at=NOW + DAY, pending="again")],
    ),
    "still to be delivered": ([HOLD], [NEW], []),
    "still to be delivered, in other words": ([REWORDED], [NEW], [replace(NEW, summary=REWORDED.summary)]),
    "over": ([], [TOLD], [replace(TOLD, pending="over", ended_at=NOW)]),
    "over before it was delivered": ([], [NEW], [replace(NEW, pending="over", ended_at=NOW)]),
    "over, and that is still to be delivered": ([], [OVER], []),
}


@pytest.mark.parametrize(("true", "told", "put"), TABLE.values(), ids=TABLE)
def test_what_becomes_of_it(true: list[Situation], told: list[Notice], put: list[Notice]) -> None:
    assert compare("ops", frozenset(Event), true, told, NOW) == Difference(tuple(put))


def test_events_that_are_not_wanted_are_neither_told_nor_remembered() -> None:
    found = compare("ops", frozenset({Event.AUDIT_BROKEN}), [HOLD], [TOLD], NOW)
    assert found == Difference((), (TOLD,))
