"""Ending keys of a team: blocked, deleted, asked for one by one, and listed again until none is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from idsync.engine.desk import every
from idsync.engine.looking import living
from idsync.errors import StillAlive, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey
from idsync.words import count

ROUNDS = 3
"""How often keys that were made meanwhile are ended too."""


async def end_keys(gateway: Gateway, find: Callable[[], Awaitable[list[GatewayKey]]]) -> list[str]:
    """End every key that `find` shows, and those it shows afterwards; return their ids.

    A deleted key lives on where it is cached, a blocked one does not (LiteLLM 1.108.0, observed): so blocked first.

    Raises:
        StillAlive: one of them is still there.
        GatewayError: not now.
    """
    ended: list[str] = []
    for _ in range(ROUNDS):
        found = await find()
        if not found:
            return ended
        await block_all(gateway, found)
        ids = sorted(key.id for key in found)
        await gateway.delete_keys(ids)
        left = await still_there(gateway, ids)
        if left:
            raise StillAlive(f"the gateway still shows {count(left, 'deleted key')}")
        ended += ids
    if await find():
        raise StillAlive("new keys appear as fast as they are deleted")
    return ended


async def block_all(gateway: Gateway, keys: Iterable[GatewayKey]) -> None:
    """Block keys; on a gateway that cannot, they live until they are deleted."""
    await every(_block(gateway, key.id) for key in keys if not key.blocked)


async def _block(gateway: Gateway, key_id: str) -> None:
    try:
        await gateway.block_key(key_id)
    except Unsupported:
        return


async def still_there(gateway: Gateway, key_ids: Sequence[str]) -> int:
    """Count the keys that the gateway still has; where it has no look-up by id, the listing is the proof."""
    try:
        return len(await living(gateway, key_ids))
    except Unsupported:
        return 0
