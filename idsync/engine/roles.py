"""Roles: of the account, in each team, in the organization; each set only when it differs, and read back.

Written down before the call is what idsync gives, so that it takes back exactly that: an admin it did not make stays
one. What a gateway has no means for is told once, and tried again a day later; it keeps nobody from anything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from idsync.engine import admins
from idsync.engine.desk import Desk
from idsync.errors import Conflicting, Missing, NeedsPerson, Rejected, Transient, Unsupported
from idsync.model import GATEWAY, GatewayTeam, GatewayUser, GivenRole, Person, organization_place, team_place
from idsync.policy import ADMIN_ROLES, ORG_ADMIN, TEAM_ADMIN, role_to_set, team_role_to_set
from idsync.store import journal, refusals, roles
from idsync.store.db import Db
from idsync.store.people import Grant

MEMBER = "member"
"""Somebody in an organization of whom it is not shown what they are there."""
LAST_ADMIN = "last_admin"
"""The conflict that only a person settles: nobody else is left who could."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """One account's role in one place: what it is, what idsync gave, how it is set and how it is read."""

    desk: Desk
    person: Person
    account_id: str
    name: str
    given: GivenRole | None
    write: Callable[[str], Awaitable[None]]
    read: Callable[[], Awaitable[str | None]]

    async def settle(self, shown: str | None) -> None:
        """Bring what is written down in line with what is shown now, before anything is changed."""
        given = self.given
        if given is None or (given.role == shown and given.given_at is not None):
            return
        if given.role == shown:  # an earlier run died between the call and its note
            await self._note_given(given, given.before)
        else:  # never given, or taken since by us or by somebody else
            await self.desk.write(lambda db: roles.forget(db, self.account_id, self.name))

    async def change(self, before: str | None, after: str) -> None:
        """Give or take a role, and look whether it is so.

        Raises:
            Superseded: a newer state was asked for; nothing was called.
            Transient: the gateway does not show it.
            GatewayError: it was not done.
        """
        desk = self.desk
        was = self.given.before if self.gave(before) and self.given is not None else before
        given = GivenRole(self.account_id, self.name, self.person.id, after, was, desk.clock.now())
        if not self.gave(before) or given.is_kept:  # what is taken back stays written down until it is taken
            await desk.write(lambda db: roles.put(db, given))
        desk.still_wanted()
        await self.write(after)
        shown = await self.read()
        if shown != after:
            msg = f"the gateway shows {self.person.label} as {shown or 'nothing'} and not as {after} ({self.name}) yet"
            raise Transient(msg)
        await self._note_given(given, before)

    async def _note_given(self, given: GivenRole, before: str | None) -> None:
        now = self.desk.clock.now()

        def write(db: Db) -> None:
            if given.is_kept:
                roles.put(db, replace(given, given_at=now))
            else:
                roles.forget(db, self.account_id, self.name)
            detail = {"account": self.account_id, "place": self.name, "before": before, "after": given.role}
            journal.append(db, at=now, actor="engine", action="role.set", subject=self.person.label, detail=detail)

        await self.desk.write(write)

    def gave(self, role: str | None) -> bool:
        """Tell whether this role is one that idsync gave here."""
        return self.given is not None and self.given.role == role

    async def forget(self) -> None:
        await self.desk.write(lambda db: roles.forget(db, self.account_id, self.name))


# -- the account ------------------------------------------------------------------------------------------------------


def first_role(desk: Desk, person: Person) -> str | None:
    """Return the role an account is made with: an admin's is given afterwards, and written down before."""
    role = desk.rules.account_role(person.role)
    return desk.rules.default_role if role in ADMIN_ROLES else role


async def set_account_role(desk: Desk, person: Person, user: GatewayUser) -> None:
    """Give the account the role that policy gives the person.

    Raises:
        NeedsPerson: they would not be an admin any more, and are the last one.
    """
    given = roles.get(desk.db, user.user_id, GATEWAY)
    role = role_to_set(desk.rules.account_role(person.role), user.role, given)
    if role is None and given is None:
        return
    place = _account_place(desk, person, user, given)
    await place.settle(user.role)
    if role is None:
        return
    if user.role == admins.ADMIN and given is not None and await admins.is_the_last(desk, user, given):
        msg = f"{person.label} is the gateway's last admin, whom no group makes one any more; they stay it"
        raise NeedsPerson(LAST_ADMIN, msg, "make somebody else an admin, or put them back into the group")
    await place.change(user.role, role)


async def take_back(desk: Desk, person: Person, user: GatewayUser) -> None:
    """Take the role that idsync gave the account of somebody who has left; they are what they were before.

    Raises:
        GatewayError: it was not done.
    """
    given = roles.get(desk.db, user.user_id, GATEWAY)
    if given is not None and user.role == given.role:
        await _account_place(desk, person, user, given).change(user.role, given.before or desk.rules.default_role)


def _account_place(desk: Desk, person: Person, user: GatewayUser, given: GivenRole | None) -> Place:
    async def read() -> str | None:
        found = await desk.gateway.get_user(user.user_id)
        return found.role if found is not None else None

    async def write(wanted: str) -> None:
        await desk.gateway.set_role(user, wanted)

    return Place(desk, person, user.user_id, GATEWAY, given, write, read)


# -- teams ------------------------------------------------------------------------------------------------------------


async def join_team(desk: Desk, person: Person, user: GatewayUser, team: GatewayTeam, grant: Grant) -> None:
    """Put somebody on a team, as its admin where that is given and the gateway can; else as a user."""
    refused: Exception | None = None
    if grant.role == TEAM_ADMIN and not is_refused(desk, refusals.TEAM_ADMIN):
        place = _team_place(desk, person, user, team.team_id, grant, joins=True)
        try:
            await place.change(None, TEAM_ADMIN)
        except (Missing, Conflicting):
            raise
        except (Rejected, Unsupported) as error:
            refused = error
            await place.forget()
        else:
            await _works(desk, refusals.TEAM_ADMIN)
            return
    elif roles.get(desk.db, user.user_id, team_place(team.team_id)) is not None:  # from an earlier time in the team
        await desk.write(lambda db: roles.forget(db, user.user_id, team_place(team.team_id)))
    desk.still_wanted()
    await desk.gateway.add_member(team.team_id, user.user_id)
    if refused is not None:  # as a user they were taken: so it was the role
        await _tell(desk, refusals.TEAM_ADMIN, refused)


async def set_team_role(desk: Desk, person: Person, user: GatewayUser, team: GatewayTeam, grant: Grant) -> None:
    """Give a member of a team the role they have in it."""
    shown = team.role_of(user.user_id)
    place = _team_place(desk, person, user, team.team_id, grant, joins=False)
    led = grant.team in desk.rules.led
    role = team_role_to_set(grant.role, shown, led=led, given=place.gave(shown))
    await place.settle(shown)
    if role is None or (role == TEAM_ADMIN and is_refused(desk, refusals.TEAM_ADMIN)):
        return
    try:
        await place.change(shown, role)
    except (Rejected, Unsupported) as error:
        if role != TEAM_ADMIN or await place.read() != shown:  # it was not the role that was refused
            raise
        await place.forget()
        await _tell(desk, refusals.TEAM_ADMIN, error)
    else:
        await _works(desk, refusals.TEAM_ADMIN)


def _team_place(desk: Desk, person: Person, user: GatewayUser, team_id: str, grant: Grant, *, joins: bool) -> Place:
    async def write(role: str) -> None:
        if joins:
            await desk.gateway.add_member(team_id, user.user_id, role)
        else:
            await desk.gateway.set_member_role(team_id, user.user_id, role)

    async def read() -> str | None:
        team = await desk.gateway.get_team(team_id)
        shown = team.role_of(user.user_id) if team is not None else None
        unknown = team is not None and team.has_member(user.user_id) and shown is None
        return grant.role if unknown else shown  # a roster without roles proves nothing against it

    name = team_place(team_id)
    return Place(desk, person, user.user_id, name, roles.get(desk.db, user.user_id, name), write, read)


# -- the organization ---------------------------------------------------------------------------------------------------


async def set_organization_role(desk: Desk, person: Person, user: GatewayUser) -> None:
    """Make somebody an admin of `routero.organization_id`, or a member like others again if idsync made them one."""
    organization = desk.gateway.organization_id
    name = organization_place(organization)
    given = roles.get(desk.db, user.user_id, name)
    wanted = desk.rules.is_org_admin(person.role)
    if not organization or not (wanted or given) or (wanted and is_refused(desk, refusals.ORG_ADMIN)):
        return

    async def read() -> str | None:
        places = await desk.gateway.organizations_of(user.user_id) or ()
        return next((place.role or MEMBER for place in places if place.organization_id == organization), None)

    try:
        shown = await read()
    except (Rejected, Unsupported) as error:
        if not wanted:  # what is to be taken is tried until it is
            raise
        await _tell(desk, refusals.ORG_ADMIN, error)
        return

    async def write(role: str) -> None:
        if shown is None:
            await desk.gateway.join_organization(organization, user.user_id, role)
        else:
            await desk.gateway.set_organization_role(organization, user, role)

    place = Place(desk, person, user.user_id, name, given, write, read)
    await place.settle(shown)
    try:
        if wanted and shown != ORG_ADMIN:
            await place.change(shown, ORG_ADMIN)
            await _works(desk, refusals.ORG_ADMIN)
        elif not wanted and given is not None and shown == given.role:
            await place.change(shown, first_role(desk, person) or desk.rules.default_role)
    except (Rejected, Unsupported) as error:
        if shown != ORG_ADMIN:
            await place.forget()
        await _tell(desk, refusals.ORG_ADMIN, error)


# -- what the gateway will not do -----------------------------------------------------------------------------------------


def is_refused(desk: Desk, what: str) -> bool:
    """Tell whether the gateway has refused to do this within a day."""
    return what in refusals.standing(desk.db, desk.clock.now())


async def _tell(desk: Desk, what: str, error: Exception) -> None:
    log.warning("role.refused", what=refusals.WORDS[what], error=str(error), again_in="24h")
    await desk.write(lambda db: refusals.note(db, what, str(error), desk.clock.now()))


async def _works(desk: Desk, what: str) -> None:
    if what in refusals.everything(desk.db):
        await desk.write(lambda db: refusals.drop(db, what))
