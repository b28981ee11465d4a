"""What a leaver holds beside keys and teams: an admin's role, pending invitations, dashboard sessions.

Each ends only when deletion is due, never on a suspension. What the gateway has no means for is named in the receipt.
"""

from __future__ import annotations

from collections.abc import Sequence

from idsync.engine.accounts import Identity
from idsync.engine.case import Case
from idsync.engine.desk import every
from idsync.engine.looking import Sight
from idsync.errors import BadAnswer, Rejected, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayUser, Invitation, fold
from idsync.policy import ADMIN_ROLES

LEAST_ROLE = "internal_user_viewer"
"""What an admin's role becomes: it may look at its own keys, of which there are none."""


async def end_belongings(case: Case, sights: Sequence[Sight], identity: Identity) -> None:
    """End what these accounts hold beside keys and teams."""
    await every(_end_account(case, sight.user) for sight in sights if sight.user is not None)
    await _end_invitations(case, sights, identity)


async def _end_account(case: Case, user: GatewayUser) -> None:
    if user.role in ADMIN_ROLES:
        case.came_back_after_proof("role")
        await case.desk.gateway.set_role(user, LEAST_ROLE)
        case.features["role"] = "used"
        case.note_ended("roles", [str(user.role)])
    if case.departure.verified_at is None and user.metadata is not None and "sessions" not in case.features:
        await _end_sessions(case, user)


async def _end_sessions(case: Case, user: GatewayUser) -> None:
    """Nothing can show that they are gone; the fence refuses them as well, where it is honoured."""
    try:
        await case.desk.gateway.end_sessions(user)
    except (Rejected, Unsupported, BadAnswer):
        case.features["sessions"] = "missing"
    else:
        case.features["sessions"] = "used"


async def _end_invitations(case: Case, sights: Sequence[Sight], identity: Identity) -> None:
    found = await invitations_of(case.desk.gateway, [sight.account_id for sight in sights], identity.emails)
    if found is None:
        case.features["invitations"] = "missing"
        return
    for one in found:
        case.came_back_after_proof("invitation")
        await case.desk.gateway.delete_invitation(one.id)
        case.note_ended("invitations", [one.id])
    case.features["invitations"] = "used"


async def invitations_of(gateway: Gateway, accounts: Sequence[str], emails: Sequence[str]) -> list[Invitation] | None:
    """Return the pending invitations of these accounts or addresses; None when the gateway does not list any."""
    try:
        pending = await gateway.pending_invitations()
    except Unsupported:
        return None
    addresses = {fold(email) for email in emails}
    return [one for one in pending if one.user_id in accounts or (one.email and fold(one.email) in addresses)]


def admin_left(sights: Sequence[Sight]) -> str | None:
    """Say that an account still has an admin's role; None when none has."""
    roles = sorted({str(sight.user.role) for sight in sights if sight.user and sight.user.role in ADMIN_ROLES})
    return f"the role {', '.join(roles)}" if roles else None
