"""Removing a canary: first here, so that nobody works on it any more, then at the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from idsync.drill.tools import Tools
from idsync.errors import StillAlive, Transient
from idsync.model import DRILL
from idsync.store import canary as canaries
from idsync.store import journal
from idsync.store.canary import Canary
from idsync.store.db import Db

LET_GO = 60.0
"""Seconds for the engine to end its work on a canary that is to be removed."""
PAUSE = 0.05


class Removal:
    """`on_tokens` is called after a token has ended, `on_purge` (by the writer's thread) with a source that lost a
    record past its endpoint."""

    def __init__(self, tools: Tools, *, on_tokens: Callable[[], None], on_purge: Callable[[str], None]) -> None:
        self._tools = tools
        self._on_tokens = on_tokens
        self._on_purge = on_purge

    def left(self) -> list[Canary]:
        """Return what is not removed yet."""
        return canaries.every(self._tools.db)

    async def remove(self, left: Iterable[Canary]) -> None:
        """Remove canaries; what is gone already is fine.

        Raises:
            StillAlive: the gateway still shows one after deleting it.
            GatewayError, Transient: not now.
        """
        for canary in left:
            purged = await self._purge(canary)
            if canary.token_id is not None:
                self._on_tokens()
            for account in purged.accounts:
                await self._delete_account(account)
            await self._tools.write(partial(canaries.forget, canary=purged))

    async def _purge(self, canary: Canary) -> Canary:
        """Remove a canary's rows once the engine does not work on it: its calls could make the account anew."""
        clock = self._tools.clock
        until = clock.monotonic() + LET_GO
        while (purged := await self._tools.write(lambda db: self._purge_now(db, canary))) is None:
            if clock.monotonic() > until:
                msg = "the engine still works on the canary"
                raise Transient(msg)
            await asyncio.sleep(PAUSE)
        return purged

    def _purge_now(self, db: Db, canary: Canary) -> Canary | None:
        now = self._tools.clock.now()
        purged = canaries.purge(db, canary, now)
        if purged is None:
            return None
        db.after_commit(partial(self._on_purge, canary.source))
        if canary.token_id is not None:
            detail = {"kind": "source", "source": DRILL}
            journal.append(db, at=now, actor="idsync", action="token.revoked", subject=canary.token_id, detail=detail)
        return purged

    async def _delete_account(self, account: str) -> None:
        """Delete an account with its keys, and look whether it is gone."""
        gateway = self._tools.gateway
        keys = await gateway.list_keys(user_id=account)
        if keys:
            await gateway.delete_keys([key.id for key in keys])
        if await gateway.get_user(account) is not None:
            await gateway.delete_user(account)
        keys = await gateway.list_keys(user_id=account)
        if keys or await gateway.get_user(account) is not None:
            msg = f"the gateway still shows account {account} of a drill, after it was deleted"
            raise StillAlive(msg)
