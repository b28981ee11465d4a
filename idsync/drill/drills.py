"""Holding drills: one at a time, by hand or when it is due; announced before anything is made, cleared up afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from idsync.clock import new_id, new_secret
from idsync.drill.acts import DOMAIN, Acts, refuse_a_wrong_door
from idsync.drill.push import Push
from idsync.drill.removal import Removal
from idsync.drill.report import Report, view
from idsync.drill.tools import Tools
from idsync.engine.desk import every
from idsync.errors import IdsyncError, NotFound, Transient, UsageError
from idsync.gateway.transport import Transport
from idsync.gateway.trial import Door
from idsync.model import DRILL
from idsync.store import canary as canaries
from idsync.store import facts, journal, tokens, verdicts
from idsync.store.canary import Canary
from idsync.store.db import Db
from idsync.store.turns import has_turn, in_turn, turn_if_free
from idsync.store.verdicts import Fence, Window

SHORTEST_WAIT, LONGEST_WAIT = 90.0, 1800.0
"""Seconds for which a key may go on being taken: the least and the most that is waited without being told."""
ENDING = 10.0
"""Seconds that a drill may take to end when it is called off."""
SCHEDULE = "schedule"
"""Who asks for a drill when nobody does."""
PLACE = "drill"
"""What processes that share a store take turns at: one's canary is not for another to remove."""

log = structlog.get_logger(__name__)


class UnderWay(UsageError):
    """One is held already, here or in another process."""

    def __init__(self) -> None:
        super().__init__("a drill is under way already; one at a time")


class Drills:
    """`on_tokens` is called after a token was made or ended, `on_purge` (by the writer's thread) with a source that lost
    a record past its endpoint."""

    def __init__(self, tools: Tools, *, on_tokens: Callable[[], None], on_purge: Callable[[str], None]) -> None:
        self._tools = tools
        self._on_tokens = on_tokens
        self._removal = Removal(tools, on_tokens=on_tokens, on_purge=on_purge)
        self._running: asyncio.Task[None] | None = None
        self._called_off: str | None = None
        self._closing = False

    async def run(
        self,
        *,
        by: str,
        source: str | None = None,
        token: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """Drill, remove the canary, and return what was found; `timeout` is how long a key may go on being taken.

        Without a source the canary comes in through the built-in one, with a token that ends with the drill.

        Cancelled (a command that gets Ctrl-C) it is called off: what it has made is removed before this raises.

        Raises:
            NotFound, UsageError: it cannot begin.
        """
        self._refuse(source, token)
        report = Report(by, source or DRILL, timeout or self._wait(), self._tools.clock.now())
        self._running = asyncio.create_task(self._in_turn(report, token))
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            await self._call_off("the drill was stopped")
            raise
        finally:
            self._running = self._called_off = None
        return view(report, self._tools.place)

    async def _in_turn(self, report: Report, token: str | None) -> None:
        async with turn_if_free(self._tools.store, PLACE) as free:
            if not free:
                raise UnderWay
            await self._drill(report, token)

    async def beat(self, every: float) -> None:
        """Remove what a drill that was cut off has left, and drill when it is time; `every` 0.0: never."""
        if self._running is not None or self._closing:
            return
        if self._removal.left():
            async with turn_if_free(self._tools.store, PLACE) as free:
                if not free:
                    return  # what is there belongs to a drill of another process
                await self._tidy_up_after(self._removal.left())
        if every and self._running is None and not self._closing and self._is_due(every):
            try:
                await self.run(by=SCHEDULE)
            except UnderWay:
                return  # somebody else's, by hand: looked at again
            except IdsyncError as error:
                log.critical("drill.failed", problems=[str(error)])

    async def close(self) -> None:
        """Hold no drill from now on, and call off one that is under way."""
        self._closing = True
        await self._call_off("the daemon was stopped")

    async def _call_off(self, why: str) -> None:
        """End a drill that is under way, and give it the time to remove its canary.

        It is not cut off in the middle of a call: the gateway might still do what nobody waits for.
        """
        self._called_off = why
        if self._running is not None:
            _, late = await asyncio.wait([self._running], timeout=ENDING)
            for task in late:
                task.cancel()

    def _go_on(self) -> None:
        """Raise when the drill is to end.

        Raises:
            Transient: it is.
        """
        if self._called_off is not None:
            msg = f"{self._called_off} meanwhile"
            raise Transient(msg)
        if not has_turn(self._tools.db, self._tools.store.name, PLACE):
            msg = "this process stood still meanwhile, and another one has removed the canary"
            raise Transient(msg)

    # -- before -----------------------------------------------------------------------------------------------------

    def _refuse(self, source: str | None, token: str | None) -> None:
        if self._running is not None or self._closing:
            raise UnderWay
        known = self._tools.place.sources
        if source is not None and source not in known:
            msg = f"the configuration has no source {source!r} (it has: {', '.join(sorted(known))})"
            raise NotFound(msg)
        if (source is None) != (token is None):
            msg = "a source and a token of it belong together"
            raise UsageError(msg)

    def _wait(self) -> float:
        """Return how long a key may go on being taken: twice what is known or assumed of the gateway's cache."""
        now, name = self._tools.clock.now(), self._tools.gateway.name
        known = verdicts.cache_window(self._tools.db, name, now) or 0.0
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, 2 * max(known, self._tools.place.cache_time)))

    def _is_due(self, every: float) -> bool:
        last: Any = facts.get(self._tools.db, "drill:last")
        return last is None or self._tools.clock.now() - last["at"] >= every

    # -- a drill ----------------------------------------------------------------------------------------------------

    async def _drill(self, report: Report, token: str | None) -> None:
        try:
            await self._removal.remove(self._removal.left())
            await self._measure(report, token)
        except IdsyncError as error:
            report.fail(error.exit_code, str(error))
        await self._clear_up(report)
        await self._tools.write(in_turn(self._tools.store, PLACE, lambda db: self._record(db, report)))
        if report.ok:
            log.info("drill.done", **report.outcome)
        else:
            log.critical("drill.failed", **report.outcome)

    async def _measure(self, report: Report, token: str | None) -> None:
        place = self._tools.place
        async with AsyncExitStack() as stack:
            doors = [
                await stack.enter_async_context(Door(url, ca_file=place.ca_file, timeout=place.call_timeout))
                for url in place.replicas
            ]
            await every(map(refuse_a_wrong_door, doors))
            canary, secret = await self._announce(report.source, token)
            port = Transport(place.scim, timeout=place.call_timeout, connections=1)
            stack.push_async_callback(port.close)
            await Acts(self._tools, doors, Push(port, canary, secret), report, self._go_on).measure(canary)

    async def _announce(self, source: str, token: str | None) -> tuple[Canary, str]:
        """Write the canary down before anything of it is made, with a token for this run where none was given."""
        tag, now = new_id(), self._tools.clock.now()
        accounts = (f"idsync-drill-{tag}-fence", f"idsync-drill-{tag}-deletion")
        token_id = None if token else f"drill-{tag[:8]}"
        canary = Canary(f"idsync-drill-{tag}@{DOMAIN}", source, accounts, token_id)
        secret = token or f"idsync_{new_secret()}"
        digest = hashlib.sha256(secret.encode()).hexdigest()

        def write(db: Db) -> None:
            canaries.put(db, canary, now)
            if token_id is not None:
                detail = {"kind": "source", "source": DRILL}
                tokens.put_token(db, id=token_id, kind="source", name=DRILL, scope="scim", digest=digest, at=now)
                journal.append(db, at=now, actor="idsync", action="token.made", subject=token_id, detail=detail)

        await self._tools.write(in_turn(self._tools.store, PLACE, write))
        self._on_tokens()
        if token_id is not None and self._tools.store.shared:
            await asyncio.sleep(tokens.REREAD)  # whichever replica is asked, it knows the token by then
        return canary, secret

    # -- after ------------------------------------------------------------------------------------------------------

    async def _clear_up(self, report: Report) -> None:
        if report.unsure and self._called_off is None:
            await asyncio.sleep(self._tools.place.call_timeout)
        try:
            await self._removal.remove(self._removal.left())
        except IdsyncError as error:
            report.fail(1, f"the canary is not removed yet, and is tried again every minute: {error}")

    async def _tidy_up_after(self, left: Iterable[Canary]) -> None:
        """Remove the canaries of drills that were cut off."""
        try:
            await self._removal.remove(left)
        except IdsyncError as error:
            log.warning("drill.not_cleared", error=str(error))
            return
        log.info("drill.cleared")
        now = self._tools.clock.now()
        await self._tools.write(
            lambda db: journal.append(db, at=now, actor="idsync", action="drill.cleared", subject=DRILL, detail={})
        )

    def _record(self, db: Db, report: Report) -> None:
        """Keep what was measured; what was not keeps what an earlier drill has shown."""
        now, name, place = self._tools.clock.now(), self._tools.gateway.name, self._tools.place
        replicas = len(place.replicas) if place.told_apart else 0
        if report.verdict is not None:
            verdicts.put_fence(db, name, Fence(report.verdict, report.fence.seconds, now, replicas))
        if report.deletion.seconds is not None:
            verdicts.put_window(db, name, Window(report.deletion.seconds, replicas, now))
        before: Any = facts.get(db, "drill:last") or {}
        succeeded_at = now if report.ok else before.get("succeeded_at")
        last = {"at": now, "ok": report.ok, "succeeded_at": succeeded_at, **report.outcome}
        facts.put(db, "drill:last", last, now)
        actor = "idsync" if report.by == SCHEDULE else f"cli/{report.by}"
        detail = {"ok": report.ok, "replicas": len(place.replicas), **report.outcome}
        journal.append(db, at=now, actor=actor, action="drill.done", subject=DRILL, detail=detail)
