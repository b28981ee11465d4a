"""Looking at a leaver's accounts: enough to act on, and enough to close on. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from idsync.engine.desk import every
from idsync.errors import AdminKeyRefused, GatewayError, Throttled, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey, GatewayUser

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sight:
    """One account as the gateway shows it now."""

    account_id: str
    user: GatewayUser | None
    keys: tuple[GatewayKey, ...]
    teams: tuple[str, ...]

    @property
    def fenced(self) -> bool:
        return self.user is None or self.user.fenced


class Looker:
    """Reads the gateway for one departure."""

    def __init__(self, gateway: Gateway, departure_id: str) -> None:
        self._gateway = gateway
        self._departure_id = departure_id

    async def read(self, account_id: str) -> GatewayUser | None:
        """Read a user; one that cannot be read is an odd read: their keys are ended first, the fence comes later."""
        try:
            return await self._gateway.get_user(account_id)
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:
            log.error("leaver.unreadable", departure=self._departure_id, error=str(error))
            return GatewayUser(account_id, None, None, None)

    async def look(self, account_id: str) -> Sight:
        """Read the user, every page of their keys, and every roster that has them, side by side."""
        gateway = self._gateway
        user, keys, teams = await asyncio.gather(
            gateway.get_user(account_id), gateway.list_keys(user_id=account_id), gateway.teams_of(account_id)
        )
        rosters = {team.team_id for team in teams}
        claimed = await every(map(gateway.get_team, sorted(set(user.teams if user else ()) - rosters)))
        rosters |= {team.team_id for team in claimed if team is not None and team.has_member(account_id)}
        return Sight(account_id, user, tuple(keys), tuple(sorted(rosters)))

    async def glance(self, account_id: str) -> Sight:
        """Read the user and their keys; teams as the user's own row has them.

        Enough to act on, never enough to close on: rosters of large teams cost a hundred times a user row.
        """
        gateway = self._gateway
        user, keys = await asyncio.gather(self.read(account_id), gateway.list_keys(user_id=account_id))
        return Sight(account_id, user, tuple(keys), user.teams if user is not None else ())

    async def alive(self, sights: Sequence[Sight], doomed: Iterable[str], *, fences: bool) -> str | None:
        """Say what of the person is still there; None when the gateway's own answers agree that nothing is.

        `doomed` are the ids of keys that were deleted; `fences` is false for a gateway that takes no fence.
        """
        for sight in sights:
            if sight.keys:
                return f"{len(sight.keys)} key(s)"
            if sight.teams:
                return f"{len(sight.teams)} team membership(s)"
            if fences and not sight.fenced:
                return "the account without its fence"
        living = [key for key in await every(map(self._by_id, sorted(doomed))) if key is not None]
        return f"{len(living)} key(s) by id" if living else None

    async def _by_id(self, key_id: str) -> GatewayKey | None:
        try:
            key = await self._gateway.key_info(key_id)
        except Unsupported:
            return None
        return None if key is None or key.deleted else key
