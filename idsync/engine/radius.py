"""The blast radius: everything a revocation would end, report or hold, found out before it. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from idsync.engine import admins
from idsync.engine.accounts import identity_of, match, unowned
from idsync.engine.desk import Desk, every
from idsync.engine.exposed import Keyring, Knower, Names, count
from idsync.errors import NeedsPerson, Unsupported
from idsync.model import GatewayKey, GatewayTeam, GatewayUser, Person
from idsync.store import exposure, ledger, people
from idsync.store.exposure import Exposed, Subject


@dataclass(frozen=True)
class Account:
    """One account of the person as the gateway shows it. `linked`: known to be theirs, not just matched now."""

    user_id: str
    linked: bool
    user: GatewayUser | None
    keys: tuple[GatewayKey, ...]
    teams: tuple[GatewayTeam, ...]
    organizations: tuple[str, ...]


@dataclass(frozen=True)
class Radius:
    """What a revocation meets.

    `reported`: keys that are left standing. `deletion_waits`: why keys would stay, blocked. `held`: why nothing would
    end before somebody approves. `conflict`: why nobody could tell which account is theirs. `others`: accounts with
    their e-mail that are linked to nobody and would be left alone.
    """

    accounts: tuple[Account, ...]
    reported: tuple[Exposed, ...]
    deletion_waits: str | None
    held: str | None
    conflict: str | None
    others: tuple[str, ...]


async def radius(desk: Desk, label: str, person: Person | None, unknown: GatewayUser | None) -> Radius:
    """Look at every account of a person, or at an account that no source knows.

    Raises:
        GatewayError: the gateway could not be read in full, so this would not be all.
    """
    conflict = None
    found: list[tuple[str, bool]] = [(unknown.user_id, False)] if unknown is not None else []
    others: tuple[str, ...] = ()
    if person is not None:
        try:
            found = await _accounts_of(desk, person)
        except NeedsPerson as doubt:
            conflict = f"{doubt}; {doubt.remedy}"
        others = await _others(desk, person, {user_id for user_id, _ in found})
    if not found and others and conflict is None:
        conflict = f"an account with the e-mail of {label} is linked to nobody; idsync link {label} GATEWAY_USER_ID"
    accounts = await every(_look(desk, user_id, linked=linked) for user_id, linked in found)
    last = await _are_the_last_admins(desk, person, [account.user for account in accounts])
    blocks = desk.settings.on_departure == "block"
    return Radius(
        tuple(accounts),
        tuple(await _reported(desk, person, accounts)),
        'policy.on_departure = "block": keys are blocked, not deleted, and the memberships stay' if blocks else None,
        f"{label} is the gateway's last admin: nothing ends until the hold is approved" if last else None,
        conflict,
        others,
    )


async def _are_the_last_admins(desk: Desk, person: Person | None, users: Sequence[GatewayUser | None]) -> bool:
    departure = ledger.open_departure(desk.db, person.id) if person is not None else None
    if departure is not None:  # somebody may have approved it
        return await admins.takes_the_last_admin(desk, departure, users)
    return await admins.are_the_last_admins(desk, users)


async def _accounts_of(desk: Desk, person: Person) -> list[tuple[str, bool]]:
    further = [(account, True) for account in people.further_accounts(desk.db, person.id)]
    if person.account_id is not None:
        return [(person.account_id, True), *further]
    matched = await match(desk, person, identity_of(desk, person))
    return [(matched, False), *further] if matched is not None else further


async def _others(desk: Desk, person: Person, own: set[str]) -> tuple[str, ...]:
    users = await unowned(desk, sorted(identity_of(desk, person).every_email))
    return tuple(sorted({user.user_id for user in users} - own))


async def _look(desk: Desk, user_id: str, *, linked: bool) -> Account:
    user = await desk.gateway.get_user(user_id)
    keys = await desk.gateway.list_keys(user_id=user_id)
    teams = await desk.gateway.teams_of(user_id)
    return Account(user_id, linked, user, tuple(keys), tuple(teams), await _organizations(desk, user_id))


async def _organizations(desk: Desk, user_id: str) -> tuple[str, ...]:
    """Name the organizations an account is in; none where the gateway does not show them."""
    try:
        places = await desk.gateway.organizations_of(user_id)
    except Unsupported:
        return ()
    return tuple(sorted(place.organization_id for place in places or ()))


async def _reported(desk: Desk, person: Person | None, accounts: Sequence[Account]) -> list[Exposed]:
    """Find the keys that a departure now would report; what was counted already is as it was noted."""
    own = frozenset(account.user_id for account in accounts)
    if not own:
        return []
    teams = list(chain.from_iterable(account.teams for account in accounts))
    left = exposure.teams_left(desk.db, person.id) if person is not None else frozenset()
    counted = exposure.counted(desk.db, person.id) if person is not None else frozenset()
    subjects: set[Subject] = {("account", account) for account in own}
    subjects |= {("team", team) for team in left | {team.team_id for team in teams}}
    now = desk.clock.now()
    knower = Knower(person.id if person is not None else "", None, now, now, own, frozenset(subjects) - counted)
    shown = await desk.gateway.list_keys()
    ids = {key.id for key in shown}
    noted = [key for key in exposure.listed(desk.db, knower.person_id) if key.key_id in ids]
    fresh = count(knower, Keyring.of(shown, now), Names.of(desk.db, desk.rules, teams), now).keys
    every_key = {key.key_id: key for key in [*fresh, *noted]}
    return sorted(every_key.values(), key=lambda key: (key.team or key.team_id or "", key.alias or key.key_id))
