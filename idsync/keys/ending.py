"""Ending keys: block, delete, read back. And finding those whose secret nobody has, because a life ended too early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from idsync.engine.looking import living
from idsync.errors import StillAlive, Unsupported
from idsync.keys.kit import ACTOR, Kit
from idsync.store import exposure, journal, teamkeys
from idsync.store.db import Db
from idsync.store.teamkeys import Ending, Undelivered

LATE = 120.0
"""Seconds after which a gateway does no longer carry out a call whose answer was lost."""

log = structlog.get_logger(__name__)


async def end_key(kit: Kit, key_id: str) -> None:
    """Block a key, delete it, and see that it is gone; one that is gone already is fine.

    Raises:
        StillAlive: the gateway shows it after saying that it was deleted.
        GatewayError: it could not be asked.
    """
    try:
        await kit.gateway.block_key(key_id)  # other replicas hear of a block at once, and of a deletion late
    except Unsupported:
        log.debug("keys.not_blocked", key_id=key_id)
    await kit.gateway.delete_keys([key_id])
    if await _is_there(kit, key_id):
        raise StillAlive(f"the gateway still shows key {key_id} after saying that it was deleted")


async def _is_there(kit: Kit, key_id: str) -> bool:
    try:
        return bool(await living(kit.gateway, [key_id]))
    except Unsupported:
        return any(key.id == key_id for key in await kit.gateway.list_keys())


async def end_replaced(kit: Kit, key: Ending) -> None:
    """End a key whose successor is in the sink; who may have known it is no concern any more.

    Raises:
        StillAlive, GatewayError: not now.
    """
    await end_key(kit, key.key_id)

    def write(db: Db) -> None:
        now = kit.clock.now()
        teamkeys.ended(db, key.key_id)
        exposure.gone(db, key.key_id, now)
        _tell(db, now, "key.ended", key.alias, {"key_id": key.key_id, "why": key.why})

    await kit.write(write)


async def end_undelivered(kit: Kit, key: Undelivered) -> bool:
    """End a key whose secret is lost; False while the gateway may be making it only now.

    Raises:
        StillAlive, GatewayError: not now.
    """
    called = await kit.gateway.keys_called(key.called)
    found = sorted({one.id for one in called} | ({key.key_id} if key.key_id is not None else set()))
    if not found and kit.clock.now() < key.made_at + LATE:
        return False
    for key_id in found:
        await end_key(kit, key_id)

    def write(db: Db) -> None:
        teamkeys.end(db, key.called)
        if found:
            why = "its sink may have had it" if key.offered else "its secret was lost"
            _tell(db, kit.clock.now(), "key.undelivered_ended", key.alias, {"key_ids": found, "why": why})

    await kit.write(write)
    return True


def _tell(db: Db, now: float, action: str, alias: str, detail: Mapping[str, Any]) -> None:
    journal.append(db, at=now, actor=ACTOR, action=action, subject=alias, detail=detail)
    log.info(action, alias=alias, **detail)
