"""The gateway's last admin: revoking them is held, because nobody could undo it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from idsync.engine.desk import Desk
from idsync.model import GATEWAY, DepartureState, GatewayTeam, GatewayUser, GivenRole
from idsync.store import journal, ledger, people, roles
from idsync.store.db import Db
from idsync.store.ledger import Departure, HoldItem

ADMIN = "proxy_admin"
MASTER = "default_user_id"
"""The user row that stands for the gateway's own master key; nobody is behind it (LiteLLM 1.108.0, observed)."""


def people_on(team: GatewayTeam) -> int:
    """Count the members of a team without the master key's row, which is on every team that key has made."""
    return sum(member.user_id != MASTER for member in team.members)


async def takes_the_last_admin(desk: Desk, departure: Departure, users: Sequence[GatewayUser | None]) -> bool:
    """Tell whether revoking these accounts leaves the gateway without an admin, and nobody approved that."""
    if ledger.was_approved(desk.db, _kind(departure), _version(departure)):
        return False
    return await are_the_last_admins(desk, users, departure)


async def are_the_last_admins(
    desk: Desk, users: Sequence[GatewayUser | None], departure: Departure | None = None
) -> bool:
    """Tell whether the gateway has no admin but these.

    Of several who are leaving, each counts on those alone who leave after them: so the last one is held, and two who
    leave at the same moment do not each count on the other. Somebody without a departure yet leaves after all of them.
    """
    own = {user.user_id for user in users if user is not None and user.role == ADMIN and not user.fenced}
    if not own:
        return False
    others = [
        user
        for user in await desk.gateway.list_users()
        if user.role == ADMIN and user.user_id not in {*own, MASTER} and not user.fenced
    ]
    return not any(_stays_longer(desk, user.user_id, departure) for user in others)


async def is_the_last(desk: Desk, user: GatewayUser, given: GivenRole) -> bool:
    """Tell whether the gateway has no admin but this one, whom idsync made one (`given`) and is about to lower.

    As with those who leave: of several who are to be lowered each counts on those alone who come after them, and on
    nobody with a departure.
    """
    others = [other for other in await desk.gateway.list_users() if other.role == ADMIN and not other.fenced]
    return not any(
        _stays_longer(desk, other.user_id, None, given)
        for other in others
        if other.user_id not in (user.user_id, MASTER)
    )


def _stays_longer(desk: Desk, account_id: str, departure: Departure | None, lowered: GivenRole | None = None) -> bool:
    owner = people.person_of_account(desk.db, account_id)
    theirs = ledger.open_departure(desk.db, owner.id) if owner is not None else None
    if theirs is not None:
        return departure is not None and (theirs.accepted_at, theirs.id) > (departure.accepted_at, departure.id)
    given = roles.get(desk.db, account_id, GATEWAY)
    if owner is None or given is None or desk.rules.account_role(owner.role) == ADMIN:
        return True
    return lowered is not None and (given.noted_at, account_id) > (lowered.noted_at, lowered.account_id)


def hold(db: Db, departure: Departure, now: float) -> None:
    """Hold the whole departure, access included."""
    reason = f"{departure.label} is the gateway's last admin"
    joined, is_new = ledger.join_hold(db, _kind(departure), reason, now)
    ledger.put_departure(db, replace(departure, hold_id=joined.id, state=DepartureState.HELD, problem=reason))
    item = HoldItem(joined.id, departure.person_id, "", departure.evidence.value, _version(departure))
    ledger.add_item(db, item)
    if is_new:
        detail = {"hold": joined.id, "reason": reason}
        journal.append(db, at=now, actor="engine", action="hold.opened", subject=departure.label, detail=detail)


def _version(departure: Departure) -> str:
    return f"{departure.accepted_at:.6f}"


def _kind(departure: Departure) -> str:
    return f"last_admin:{departure.person_id}"
