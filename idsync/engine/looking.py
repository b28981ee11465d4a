"""Looking at a leaver's accounts: enough to act on, and enough to close on. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from idsync.engine.desk import every
from idsync.errors import AdminKeyRefused, GatewayError, Throttled, Transient, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey, GatewayUser
from idsync.words import count

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


async def living(gateway: Gateway, key_ids: Iterable[str]) -> list[GatewayKey]:
    """Return which of these keys the gateway still has, asked for one by one.

    Raises:
        Unsupported: it has no look-up by id; the listing is the proof then.
        Transient: it answers for some keys, none of which lives, and has no look-up for others.
        GatewayError: it could not be asked for one, and shows none that lives.
    """
    asked = sorted(key_ids)
    shown = await asyncio.gather(*map(gateway.key_info, asked), return_exceptions=True)
    found = [key for key in shown if isinstance(key, GatewayKey) and not key.deleted]
    failures = [failure for failure in shown if isinstance(failure, BaseException)]
    for failure in failures:
        if not isinstance(failure, GatewayError):
            raise failure
    if found or not failures:
        return found
    unknown = [failure for failure in failures if not isinstance(failure, Unsupported)]
    if unknown or len(failures) == len(asked):
        raise (unknown or failures)[0]
    raise Transient("the gateway looks up some keys by their id and others not")


class Looker:
    """Reads the gateway for one departure."""

    def __init__(self, gateway: Gateway, departure_id: str) -> None:
        self._gateway = gateway
        self._departure_id = departure_id

    async def _read(self, account_id: str) -> GatewayUser | None:
        """Read a user; one that cannot be read is an odd read: their keys are ended first, the fence comes later."""
        try:
            return await self._gateway.get_user(account_id, sure=True)
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:
            log.error("leaver.unreadable", departure=self._departure_id, error=str(error))
            return GatewayUser(account_id, None, None, None)

    async def look(self, account_id: str) -> Sight:
        """Read the user, every page of their keys, and every roster that has them, side by side.

        A team that the user's own row names counts as theirs, unless it shows a roster without them.
        """
        gateway = self._gateway
        user, keys, teams = await asyncio.gather(
            gateway.get_user(account_id, sure=True),
            gateway.list_keys(user_id=account_id, steady=True),
            gateway.teams_of(account_id),
        )
        rosters = {team.team_id for team in teams}
        claimed = await every(map(gateway.get_team, sorted(set(user.teams if user else ()) - rosters)))
        rosters |= {team.team_id for team in claimed if team is not None and team.may_have_member(account_id)}
        return Sight(account_id, user, tuple(keys), tuple(sorted(rosters)))

    async def glance(self, account_id: str) -> Sight:
        """Read the user and their keys; teams as the user's own row has them.

        Enough to act on, never enough to close on: rosters of large teams cost a hundred times a user row.
        """
        gateway = self._gateway
        user, keys = await asyncio.gather(self._read(account_id), gateway.list_keys(user_id=account_id))
        return Sight(account_id, user, tuple(keys), user.teams if user is not None else ())


def alive(sights: Sequence[Sight], *, fences: bool) -> str | None:
    """Say what of these accounts is still there by listings and rosters; None when nothing is.

    `fences` is false for a gateway that takes no fence.
    """
    for sight in sights:
        if sight.keys:
            return count(len(sight.keys), "key")
        if sight.teams:
            return count(len(sight.teams), "team membership")
        if fences and not sight.fenced:
            return "the account without its fence"
    return None
