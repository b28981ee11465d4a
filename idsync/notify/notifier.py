"""The beat: what is true now, against what was told; what differs goes to the outbox, and from there to its receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from aiohttp.abc import AbstractResolver

from idsync.clock import Clock
from idsync.config import Config, Notify
from idsync.errors import ConfigError, NotDelivered, StoreError
from idsync.model import Event
from idsync.notify.comparing import Difference, compare
from idsync.notify.expiring import endings_of
from idsync.notify.message import Message, message_of
from idsync.notify.sending import send
from idsync.notify.situations import Ending, Situation, Watched, situations
from idsync.store import notices
from idsync.store.db import Db, Store
from idsync.store.notices import Notice, Receiver

LOOKED = 15.0
"""Seconds between two looks at what is true."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0
"""Seconds before a message that was not taken is sent again: twice as long each time."""
CERTIFICATES_READ = 3600.0
"""Seconds between two looks at the certificates."""

PIECE = 200
"""Notices that are written in one transaction."""

log = structlog.get_logger(__name__)


@dataclass
class Notifier:
    """Tells the receivers of the configuration, as `configured` has it now. Nothing else ever waits for it."""

    store: Store
    configured: Callable[[], Config]
    clock: Clock
    observe: Callable[[str, str], None]
    resolver: AbstractResolver | None = None
    _up_since: float | None = None
    _endings: tuple[float, list[Ending]] | None = field(default=None, repr=False)

    @property
    def config(self) -> Config:
        return self.configured()

    async def beat(self) -> None:
        """Look, and deliver what is due; what goes wrong is tried again at a later beat."""
        try:
            await asyncio.to_thread(self.look)
            await asyncio.gather(*[self._deliver(entry) for entry in self.config.notify])
        except StoreError as error:
            log.warning("notify.store_refused", error=str(error))

    def look(self) -> None:
        """Write down what has to be told. Not for an event loop.

        Raises:
            StoreError: the store cannot be read, or refuses.
        """
        db, now = self.store.reader(), self.clock.now()
        told = notices.every(db)
        names = {entry.name for entry in self.config.notify}
        if not names and not told:
            return
        true = situations(db, self._watched(now), now) if names else []
        changes = [self._difference(entry, true, told, now) for entry in self.config.notify]
        strange = {notice.receiver for notice in told} | set(notices.receivers(db))
        if strange <= names and all(change.is_empty for change in changes):
            return
        self.store.write(lambda db: notices.forget(db, names))
        for rows in _parts([row for change in changes for row in change.drop]):
            self.store.write(partial(_drop, rows=rows))
        for rows in _parts([row for change in changes for row in change.put]):
            self.store.write(partial(_put, rows=rows))

    def _difference(self, entry: Notify, true: Sequence[Situation], told: Sequence[Notice], now: float) -> Difference:
        own = [notice for notice in told if notice.receiver == entry.name]
        return compare(entry.name, frozenset(entry.events or Event), true, own, now)

    def _watched(self, now: float) -> Watched:
        if self._up_since is None:
            self._up_since = now
        if self._endings is None or not 0 <= now - self._endings[0] < CERTIFICATES_READ:
            self._endings = (now, endings_of(self.config))
        return Watched(
            polled={source.name: source.every for source in self.config.sources.every},
            pushed={source.name: source.stale_after for source in self.config.scim.sources},
            up_since=self._up_since,
            endings=tuple(self._endings[1]),
        )

    async def _deliver(self, entry: Notify) -> None:
        """Send all that waits for one receiver in one message, unless it is to be left alone."""
        now = self.clock.now()
        how, waiting, message = await asyncio.to_thread(self._outbox, entry)
        if message is None or now < how.next_at <= now + LONGEST_PAUSE:  # further ahead: the clock was set back
            return
        try:
            await send(entry, message, ca_file=self.config.http.ca_file, now=now, resolver=self.resolver)
        except (NotDelivered, ConfigError) as error:
            pause = getattr(error, "retry_after", 0.0)
            await self._failed(entry, how, str(error), pause)
            return
        self.observe(entry.kind, "delivered")
        log.info("notify.delivered", receiver=entry.name, notices=len(waiting))
        for rows in _parts(waiting):
            await asyncio.wrap_future(self.store.submit(partial(notices.delivered, sent=rows, at=now)))
        done = Receiver(entry.name, delivered_at=now)
        await asyncio.wrap_future(self.store.submit(lambda db: notices.put_receiver(db, done)))

    def _outbox(self, entry: Notify) -> tuple[Receiver, list[Notice], Message | None]:
        """Return how delivering goes, what waits for a receiver, and the message of it. Not for an event loop."""
        db = self.store.reader()
        waiting = notices.pending(db, entry.name)
        how = notices.receivers(db).get(entry.name, Receiver(entry.name))
        about = self.config.server.public_url
        return how, waiting, message_of(entry.name, entry.kind, waiting, about) if waiting else None

    async def _failed(self, entry: Notify, how: Receiver, why: str, asked: float) -> None:
        now, attempts = self.clock.now(), how.attempts + 1
        pause = max(asked, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10)))
        failing = replace(
            how, attempts=attempts, error=why, failing_since=how.failing_since or now, next_at=now + pause
        )
        self.observe(entry.kind, "failed")
        log.warning("notify.failed", receiver=entry.name, error=why, attempt=attempts, retry_in=pause)
        await asyncio.wrap_future(self.store.submit(lambda db: notices.put_receiver(db, failing)))


def _parts(rows: Sequence[Notice]) -> list[Sequence[Notice]]:
    """Cut what is written into pieces: a push that waits for a commit waits for one of them at most."""
    return [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)]


def _put(db: Db, rows: Sequence[Notice]) -> None:
    for notice in rows:
        notices.put(db, notice)


def _drop(db: Db, rows: Sequence[Notice]) -> None:
    for notice in rows:
        notices.drop(db, notice)
