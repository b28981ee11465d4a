"""How far a long listing is: kept in the store, where `status` and a waiting `reconcile` read it, and logged."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from idsync.clock import Clock
from idsync.store import facts
from idsync.store.db import Db

KEPT_EVERY = 1.0
LOGGED_EVERY = 15.0
"""Seconds between two notes of how far a listing is."""

log = structlog.get_logger(__name__)


class Told:
    """Takes note of how far one listing is; `end` it when it is over, however it went."""

    def __init__(self, store: Any, source: str, clock: Clock) -> None:
        self._store = store
        self._source = source
        self._clock = clock
        self._kept = self._logged = clock.monotonic()

    def __call__(self, what: str, done: int, of: int | None) -> None:
        now = self._clock.monotonic()
        if now - self._kept >= KEPT_EVERY:
            self._kept = now
            self._store.submit(partial(self._keep, said={"what": what, "done": done, "of": of}))
        if now - self._logged >= LOGGED_EVERY:
            self._logged = now
            log.info("poll.progress", source=self._source, what=what, done=done, of=of)

    def end(self) -> None:
        self._store.submit(lambda db: facts.drop(db, f"progress:{self._source}"))

    def _keep(self, db: Db, said: dict[str, Any]) -> None:
        facts.put(db, f"progress:{self._source}", said, self._clock.now())


def told(db: Db, source: str) -> str | None:
    """Say in words how far the listing of a source is; None when none is under way."""
    said: Any = facts.get(db, f"progress:{source}")
    if said is None:
        return None
    of = f" of {said['of']:,}" if said["of"] is not None else ""
    return f"{said['done']:,}{of} {said['what']}"
