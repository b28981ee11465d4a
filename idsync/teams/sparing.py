"""A last look at who is about to be taken off a team: listings show neither admins of organizations nor everybody.

their account, read by itself               | what becomes of them
--------------------------------------------+-----------------------------------------------------
an administrator of the gateway             | stays, told
an admin of an organization                 | stays, told
protected by an e-mail that no roster shows | stays, told
not shown, with `routero.organization_id`   | stays, told: somebody of another organization
cannot be read now                          | waits
anything else                               | goes
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from idsync.engine.desk import every
from idsync.errors import GatewayError, Unsupported
from idsync.gateway.client import Gateway
from idsync.policy import ADMIN_ROLES, ORG_ADMIN, protection
from idsync.teams.extras import Extra, House


async def look_closer(gateway: Gateway, extras: Iterable[Extra], house: House) -> list[Extra]:
    """Ask for the account of everybody who is to go; return all, with what becomes of them."""
    return list(await every(_one(gateway, extra, house) for extra in extras))


async def _one(gateway: Gateway, extra: Extra, house: House) -> Extra:
    if extra.verdict != "goes" or extra.user_id is None:
        return extra
    try:
        why = await _stays(gateway, extra.user_id, house)
    except GatewayError as error:
        return replace(extra, verdict="waits", why=f"their account cannot be read: {error}")
    return replace(extra, verdict="stays", why=why) if why else extra


async def _stays(gateway: Gateway, account: str, house: House) -> str | None:
    user = await gateway.get_user(account)
    if user is None:
        outside = "their account is not shown in routero.organization_id; take them off at the gateway"
        return outside if gateway.organization_id else None
    if user.role in ADMIN_ROLES:
        return "an administrator of the gateway"
    shield = protection([account, user.email], house.rules, house.now)
    if shield is not None:
        return f"protected: {shield}"
    try:
        places = await gateway.organizations_of(account) or ()
    except Unsupported:
        return None
    return "an administrator of an organization" if any(place.role == ORG_ADMIN for place in places) else None
