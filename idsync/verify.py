"""Ask the gateway again: does anything of a departed person still live? Reads only; nothing is taken on trust."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from idsync.engine.accounts import addresses_ever
from idsync.engine.looking import living
from idsync.errors import NotFound, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey
from idsync.store import facts, ledger, organizations, people
from idsync.store.db import Db
from idsync.store.ledger import Departure


@dataclass(frozen=True)
class Finding:
    """The verdict on one departure. `alive` says what still works or should not be there; `waiting` why it may."""

    user: str
    gateway_user_id: str | None
    state: str
    alive: tuple[str, ...]
    waiting: str | None
    checked: tuple[str, ...]


async def verify(db: Db, gateway: Gateway, departures: Sequence[Departure], now: float) -> list[Finding]:
    """Look at every departure's account, keys by list and by id, teams, fence and other accounts of the same e-mail.

    Raises:
        GatewayError: the gateway could not be asked; nothing is claimed then.
    """
    return [await _verify_one(db, gateway, departure, now) for departure in departures]


def departures_of(db: Db, person_id: str | None) -> list[Departure]:
    """Return the open departures, of everybody or of one person.

    Raises:
        NotFound: the person has not departed.
    """
    if person_id is None:
        return ledger.open_departures(db)
    found = ledger.open_departure(db, person_id)
    if found is None:
        msg = "this person has no open departure; `idsync departures` shows the ledger"
        raise NotFound(msg)
    return [found]


async def _verify_one(db: Db, gateway: Gateway, departure: Departure, now: float) -> Finding:
    person = people.person(db, departure.person_id)
    receipt = departure.receipt or {}
    linked = person.account_id if person is not None else None
    further = people.further_accounts(db, departure.person_id)
    named = [*receipt.get("accounts", []), departure.account_id, linked, *further]
    own = [account for account in dict.fromkeys(named) if account and not _was_unlinked(db, departure, account)]
    waiting = _waiting(db, departure, now)
    alive: list[str] = []
    for account in own:
        alive += await _account_alive(gateway, account, blocked_is_enough=waiting is not None)
    if waiting is None:
        alive += await _keys_alive(gateway, [str(entry["id"]) for entry in receipt.get("keys", [])])
    alive += await _memberships_alive(db, gateway, departure, own)
    alive += await _other_accounts(db, gateway, departure, own)
    return Finding(departure.label, departure.account_id, departure.state.value, tuple(alive), waiting, tuple(own))


def _was_unlinked(db: Db, departure: Departure, account: str) -> bool:
    """Tell whether somebody has said since that an account is not theirs."""
    return bool(facts.get(db, f"unlinked:{departure.person_id}:{account}"))


def _waiting(db: Db, departure: Departure, now: float) -> str | None:
    """Return why keys may still exist, blocked; None when nothing may."""
    if ledger.hold_is_open(db, departure.hold_id):
        return f"deletion waits for hold {departure.hold_id}"
    if departure.kind == "suspension":
        return "suspended: blocked, not deleted"
    if (departure.receipt or {}).get("ended_by") == "block" and departure.verified_at is not None:
        return "policy.on_departure = block: blocked, not deleted"
    if departure.verified_at is None and departure.delete_at > now:
        return "deletion waits for policy.group_loss_delete_after"
    return None


async def _account_alive(gateway: Gateway, account: str, *, blocked_is_enough: bool) -> list[str]:
    user, keys, teams = await asyncio.gather(
        gateway.get_user(account, sure=True),
        gateway.list_keys(user_id=account, steady=True),
        gateway.teams_of(account),
    )
    alive = []
    if user is not None and not user.fenced:
        alive.append(f"account {account} is not fenced")
    alive += [f"key {_name(key)}" for key in keys if not (blocked_is_enough and key.blocked)]
    if not blocked_is_enough:
        alive += [f"member of team {team.team_id}" for team in teams]
    return alive


async def _keys_alive(gateway: Gateway, key_ids: Sequence[str]) -> list[str]:
    try:
        return [f"key {_name(key)} by id" for key in await living(gateway, key_ids)]
    except Unsupported:
        return []


async def _memberships_alive(db: Db, gateway: Gateway, departure: Departure, own: Sequence[str]) -> list[str]:
    """Name the organizations that show an account which a departure has taken out."""
    alive = []
    for left in organizations.of_person(db, departure.person_id):
        shown = await gateway.organizations_of(left.account_id) if left.account_id in own else ()
        if any(place.organization_id == left.organization_id for place in shown or ()):
            alive.append(f"member of organization {left.organization_id}")
    return alive


async def _other_accounts(db: Db, gateway: Gateway, departure: Departure, own: Sequence[str]) -> list[str]:
    """Name accounts that carry the leaver's e-mail and belong to nobody else we know."""
    emails = addresses_ever(db, departure.person_id)
    found = []
    for email in sorted(emails):
        for account in await gateway.find_users(email=email):
            owner = people.person_of_account(db, account.user_id)
            if account.user_id not in own and owner is None and not account.fenced:
                found.append(f"another account with the e-mail {email}: {account.user_id}")
    return found


def _name(key: GatewayKey) -> str:
    return key.alias or key.name or key.id
