"""What is true against what was told. Pure.

is it true | what was told of it         | what becomes of it
-----------+-----------------------------+-------------------------------------------------------------
yes        | nothing                     | new
yes        | that it is over             | new; also when that is still to be delivered
yes        | it, less than a day ago     | nothing
yes        | it, a day ago               | again
yes        | it is still to be delivered | stays, in the words of now
no         | it, delivered or not        | over
no         | that it is over             | nothing
whatever   | the event is not wanted     | forgotten
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from idsync.model import Event
from idsync.notify.situations import DAY, Situation
from idsync.store.notices import Notice


@dataclass(frozen=True)
class Difference:
    """The rows to write and to drop."""

    put: tuple[Notice, ...] = ()
    drop: tuple[Notice, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.put or self.drop)


def compare(
    receiver: str, wanted: Collection[Event], true: Sequence[Situation], told: Sequence[Notice], now: float
) -> Difference:
    """Return what has to change for one receiver."""
    known = {notice.key: notice for notice in told}
    now_true = {(one.event.value, one.subject): one for one in true if one.event in wanted}
    put = [_is_true(receiver, one, known.get(key), now) for key, one in now_true.items()]
    names = {event.value for event in wanted}
    put += [_is_over(notice, now) for key, notice in known.items() if key not in now_true and notice.event in names]
    drop = [notice for notice in told if notice.event not in names]
    return Difference(tuple(row for row in put if row is not None and row != known.get(row.key)), tuple(drop))


def _is_true(receiver: str, one: Situation, row: Notice | None, now: float) -> Notice | None:
    if row is None or row.ended_at is not None:
        return Notice(receiver, one.event.value, one.subject, one.summary, one.remedy, one.since, pending="new")
    if row.pending is not None:
        return replace(row, summary=one.summary, remedy=one.remedy)
    if row.told_at is None or not 0 <= now - row.told_at < DAY:  # in the future: the clock was set back
        return replace(row, summary=one.summary, remedy=one.remedy, pending="again")
    return None


def _is_over(row: Notice, now: float) -> Notice | None:
    return None if row.ended_at is not None else replace(row, ended_at=now, pending="over")
