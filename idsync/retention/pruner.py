"""The daily look at what has been kept long enough: many small writes, none of which a push waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar

import structlog

from idsync.clock import Clock
from idsync.errors import StoreError
from idsync.store import facts, journal, pruning
from idsync.store.db import Db, Store

log = structlog.get_logger(__name__)
T = TypeVar("T")
Step = Callable[[Db], int]

DAY = 86400.0
LOOKED_AT = 60.0
"""Seconds between two looks whether the daily turn, or the rest of one that was cut off, is due."""
DONE = "retention:done"
"""The fact of the last turn that went to its end: the settings it followed, and when."""
UNDER_WAY = "retention:under_way"
"""The fact of a turn that is under way: what it has taken so far. Written in the same commit as each taking."""


class Telemetry(Protocol):
    """Who counts what was taken."""

    def pruned(self, what: str, count: int) -> None: ...


@dataclass(frozen=True)
class Kept:
    """Seconds for which things are kept; 0: for ever. `watch`: for how long spend is watched after a departure."""

    receipts: float = 0.0
    departures: float = 0.0
    spend: float = 0.0
    tombstones: float = 0.0
    watch: float = 0.0


def steps(kept: Kept, now: float) -> dict[str, Step]:
    """Return what is to be taken now, in its order; what has no time is kept for ever.

    A part of the trail that was exported and released by `idsync audit prune` goes whatever the times are.
    """
    table: list[tuple[str, float, Step]] = [
        ("receipts", kept.receipts, lambda db: pruning.receipts(db, now - kept.receipts, now)),
        ("departures", kept.departures, lambda db: pruning.details(db, now - kept.departures, now)),
        ("spend", kept.spend, lambda db: pruning.spend(db, now - kept.spend, now - kept.watch)),
        ("tombstones", kept.tombstones, lambda db: pruning.tombstones(db, now - kept.tombstones, now)),
        ("groups", kept.tombstones, lambda db: pruning.groups(db, now - kept.tombstones)),
    ]
    return {
        **{what: step for what, seconds, step in table if seconds},
        "audit": lambda db: journal.take_exported(db, pruning.ROWS),
    }


class Pruner:
    """Takes what is due; keeps no state but in the store, so it goes on after a crash where it was."""

    def __init__(self, store: Store, clock: Clock, kept: Callable[[], Kept], telemetry: Telemetry) -> None:
        self._store = store
        self._clock = clock
        self._kept = kept
        self._telemetry = telemetry

    async def beat(self) -> None:
        """Take what is due, once a day, and at once when the times were changed or a turn was cut off."""
        kept = self._kept()
        if not self._is_due(kept):
            return
        try:
            await self.turn(kept)
        except StoreError as error:
            log.warning("retention.not_pruned", error=str(error), note="what was taken is taken; it goes on later")

    def _is_due(self, kept: Kept) -> bool:
        db = self._store.reader()
        if facts.get(db, UNDER_WAY) is not None or journal.left_to_take(db):
            return True
        done = facts.get(db, DONE)
        if done is None or done["kept"] != asdict(kept):
            return any((kept.receipts, kept.departures, kept.spend, kept.tombstones)) or done is not None
        return not 0 <= self._clock.now() - float(done["at"]) < DAY

    async def turn(self, kept: Kept) -> dict[str, int]:
        """Take everything that is due, a few hundred rows a commit; return how much of what was taken."""
        now = self._clock.now()
        for what, step in steps(kept, now).items():
            while await self._write(lambda db, what=what, step=step: _take(db, what, step, now)):  # type: ignore[misc]
                pass
        taken = await self._write(lambda db: _end(db, kept, now))
        for what, count in taken.items():
            self._telemetry.pruned(what, count)
        if taken:
            log.info("retention.pruned", **taken)
        return taken

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self._store.submit(work))


def _take(db: Db, what: str, step: Step, now: float) -> int:
    count = step(db)
    if count:
        tally = facts.get(db, UNDER_WAY) or {}
        facts.put(db, UNDER_WAY, {**tally, what: tally.get(what, 0) + count}, now)
    return count


def _end(db: Db, kept: Kept, now: float) -> dict[str, int]:
    """Write down that the turn is over, and what it has taken, in the trail."""
    taken: dict[str, int] = facts.get(db, UNDER_WAY) or {}
    facts.drop(db, UNDER_WAY)
    facts.put(db, DONE, {"kept": asdict(kept), "at": now}, now)
    if taken:
        detail = {"taken": taken, "kept_seconds": {k: v for k, v in asdict(kept).items() if v and k != "watch"}}
        journal.append(db, at=now, actor="retention", action="retention.pruned", subject="store", detail=detail)
    return taken
