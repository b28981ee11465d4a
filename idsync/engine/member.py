"""One person who is here: an account, their teams, their role; and what they must give up, no more and no less.

The generation is read again before every call that gives something, so a leave that is committed in the middle wins.
Metadata of a fenced account is written only to lift a fence that carries our own tag.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from idsync.engine import organizations, roles
from idsync.engine.accounts import DEPARTED_ADDRESS, Identity, accounts_of, free_the_address, identity_of
from idsync.engine.desk import Desk, Outcome, every
from idsync.engine.fence import lift_fence
from idsync.engine.looking import living
from idsync.errors import Conflicting, Missing, NeedsPerson, StillAlive, Superseded, Transient, UnaskedKey, Unsupported
from idsync.model import DepartureState, GatewayKey, GatewayUser, Person
from idsync.store import journal, ledger, people
from idsync.store.db import Db
from idsync.store.people import BlockedKey, Grant
from idsync.words import count

LAST_ADMIN_PAUSE = 900.0
"""Seconds until it is looked again whether somebody else is an admin by now."""

log = structlog.get_logger(__name__)


async def converge_member(desk: Desk, person: Person) -> Outcome:
    """Give a present person what they should have, and take the teams they are leaving.

    Raises:
        StillAlive: a key that was deleted is still shown.
        NeedsPerson, GatewayError, Superseded: not now.
    """
    return await _Member(desk, person).run()


@dataclass
class _Loss:
    """One team that one account is losing; `due` when deletion does not wait, `noted` once that is written down."""

    user: GatewayUser
    grant: Grant
    team_id: str
    due: bool
    keys: Sequence[GatewayKey] = ()
    noted: bool = False


class _Member:
    def __init__(self, desk: Desk, person: Person) -> None:
        self.desk = desk
        self.person = person
        grants = people.grants(desk.db, person.id)
        self.granted = [grant for grant in grants if grant.state == "granted"]
        self.leaving = [grant for grant in grants if grant.state == "leaving"]
        self.marked = people.blocked_keys(desk.db, person.id)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.gone: list[str] = []
        self.restored: list[str] = []
        self.left: list[str] = []
        self.problem: NeedsPerson | None = None

    async def run(self) -> Outcome:
        await organizations.give_back(self.desk, self.person)  # before that, their accounts may be 404 for us
        user = await self._account()
        if user is None:  # no account: nothing to take, and nothing that should be given
            self.left = [grant.team for grant in self.leaving]
            return Outcome(self._record, None)
        try:
            await self._take_and_give(user)
        finally:  # a team or a key that cannot be set right keeps nobody from their role, and nobody an admin
            await self._set_roles(user)
        await self._read_back(user)
        waits = [grant.delete_at for grant in self.leaving if grant.team not in self.left and not self._held(grant)]
        waits += [self.desk.clock.now() + LAST_ADMIN_PAUSE] if self.problem is not None else []
        return Outcome(self._record, min((at for at in waits if at is not None), default=None))

    async def _take_and_give(self, user: GatewayUser) -> None:
        """Take what is being left, give back what was ours to take, and join the teams."""
        accounts = (user, *await self._further(user))
        await self._take(accounts)
        ours = ledger.departure_ids(self.desk.db, self.person.id)
        for account in accounts:
            await lift_fence(self.desk, account.user_id, ours)
        await self._lift_blocks()
        await self._join(user)

    # -- the account ----------------------------------------------------------------------------------------------

    async def _account(self) -> GatewayUser | None:
        """Find the person's account, or make one when they should have something and have none."""
        identity = identity_of(self.desk, self.person)
        accounts = await accounts_of(self.desk, self.person, identity, stays=True)
        if accounts:
            user = await self.desk.gateway.get_user(accounts[0])
            if user is not None:
                return user
        if not self.granted and self.person.role is None:
            return None
        return await self._create(identity, accounts[0] if accounts else self.person.id)

    async def _create(self, identity: Identity, user_id: str) -> GatewayUser:
        if identity.email:
            await organizations.free_the_address(self.desk, self.person, identity.email, to=DEPARTED_ADDRESS)
            await free_the_address(self.desk, self.person, identity.email)
        self.desk.still_wanted()
        try:
            await self.desk.gateway.create_user(
                user_id=user_id,
                email=identity.email,
                role=roles.first_role(self.desk, self.person),
                sso_user_id=identity.external_id,
                alias=identity.display_name,
            )
        except UnaskedKey as error:
            await self._doom(user_id, error)
        except Conflicting as error:
            msg = f"the gateway has an account with the e-mail of {self.person.label} that may not be linked by e-mail"
            raise NeedsPerson("account", msg, f"idsync link {self.person.label} GATEWAY_USER_ID") from error
        await self.desk.write(lambda db: people.link_account(db, self.person.id, user_id))
        user = await self.desk.gateway.get_user(user_id)
        if user is None:
            raise Transient(f"the gateway does not show the account of {self.person.label} it has just made")
        return user

    async def _doom(self, user_id: str, error: UnaskedKey) -> None:
        """Write down that a key which came with the account is to be ended, which is what this run does next."""
        log.error("gateway.unasked_key", person=self.person.id, account=user_id, error=str(error))
        self.desk.telemetry.reasserted(["unasked_key"])
        known = [GatewayKey(error.key_id)] if error.key_id else []
        keys = known or ([] if error.deleted else await self.desk.gateway.list_keys(user_id=user_id))
        rows = [BlockedKey(key.id, self.person.id, user_id, key.team_id, True, key.name, key.alias) for key in keys]
        now = self.desk.clock.now()

        def write(db: Db) -> None:
            for row in rows:
                people.note_blocked(db, row, now)
            detail = {"account": user_id, "keys": [row.key_id for row in rows]}
            journal.append(db, at=now, actor="engine", action="key.unasked", subject=self.person.label, detail=detail)

        await self.desk.write(write)
        self.marked = [*self.marked, *rows]

    # -- taking ---------------------------------------------------------------------------------------------------

    async def _take(self, accounts: Sequence[GatewayUser]) -> None:
        """End the teams that are being left, on every account, and what an interrupted deletion had begun."""
        now = self.desk.clock.now()
        losses: list[_Loss] = []
        for grant in self.leaving:
            team_id = self.desk.team_id(grant.team)
            due = team_id is None or ((grant.delete_at or 0.0) <= now and not self._held(grant))
            if due:
                self.left.append(grant.team)
            if team_id is not None:  # else never ours, so the person never got anything in it
                losses += [_Loss(account, grant, team_id, due) for account in accounts]
        try:
            await every(map(self._end_access, losses))
        except Superseded:
            raise
        except Exception:  # one team that fails keeps nobody in the others
            await self._destroy_all(losses)
            raise
        await self._destroy_all(losses)

    async def _destroy_all(self, losses: Sequence[_Loss]) -> None:
        """Delete what is due and written down, and what an interrupted deletion had begun."""
        doomed = sorted(row.key_id for row in self.marked if row.doomed)
        await every([self._delete(doomed), *(self._destroy(loss) for loss in losses if loss.due and loss.noted)])

    async def _end_access(self, loss: _Loss) -> None:
        """Block an account's keys of one team, after writing down which, and whether they are to be deleted."""
        loss.keys = await self._keys_in(loss.user, loss.team_id)
        now = self.desk.clock.now()
        await self.desk.write(lambda db: self._note(db, loss, now))
        loss.noted = True
        blocked = await every(self._block(key.id) for key in loss.keys if not key.blocked)
        if not loss.due:
            await self._check_blocks(loss.user, loss.team_id, all(blocked))

    async def _destroy(self, loss: _Loss) -> None:
        """Delete an account's keys of one team, and the membership, and look whether they are gone.

        Teams are left one at a time, as a leaver leaves them: each removal writes the user's row anew.
        """
        user, team_id = loss.user, loss.team_id
        await self._delete(sorted(key.id for key in loss.keys))
        async with self._turns[user.user_id]:
            await self.desk.gateway.remove_member(team_id, user.user_id)
        if await self._is_still_in(team_id, user.user_id) or await self._keys_in(user, team_id):
            raise StillAlive(f"the gateway still shows {self.person.label} in team {loss.grant.team}")

    async def _is_still_in(self, team_id: str, user_id: str) -> bool:
        """Look at the roster, and at the user's own row where the gateway shows none."""
        team = await self.desk.gateway.get_team(team_id)
        if team is None or team.shows_roster:
            return team is not None and team.has_member(user_id)
        user = await self.desk.gateway.get_user(user_id)
        return user is not None and team_id in user.teams

    async def _keys_in(self, user: GatewayUser, team_id: str) -> list[GatewayKey]:
        return [key for key in await self.desk.gateway.list_keys(user_id=user.user_id) if key.team_id == team_id]

    async def _check_blocks(self, user: GatewayUser, team_id: str, supported: bool) -> None:
        open_keys = [key for key in await self._keys_in(user, team_id) if not key.blocked]
        if open_keys and supported:
            raise StillAlive(
                f"the gateway still shows {count(len(open_keys), 'open key')} of {self.person.label} in {team_id}"
            )

    def _held(self, grant: Grant) -> bool:
        return ledger.hold_is_open(self.desk.db, grant.hold_id)

    def _note(self, db: Db, loss: _Loss, now: float) -> None:
        account, doomed = loss.user.user_id, loss.due
        for key in loss.keys:
            if doomed or not key.blocked:
                row = BlockedKey(key.id, self.person.id, account, key.team_id, doomed, key.name, key.alias)
                people.note_blocked(db, row, now)
        if doomed:
            people.put_grant(db, replace(loss.grant, destroyed=True))

    async def _block(self, key_id: str) -> bool:
        """Block a key; False on a gateway without key/block: the keys of a lost team live until they are deleted."""
        try:
            await self.desk.gateway.block_key(key_id)
        except Unsupported:
            return False
        return True

    async def _delete(self, key_ids: Sequence[str]) -> None:
        """Delete keys in one call and ask for each by id: only that proves it."""
        if not key_ids:
            return
        await self.desk.gateway.delete_keys(key_ids)
        left = await self._living(key_ids)
        if left:
            raise StillAlive(f"the gateway still shows {count(len(left), 'deleted key')} of {self.person.label}")
        self.desk.telemetry.verification("gone")
        self.gone += key_ids

    async def _living(self, key_ids: Sequence[str]) -> list[GatewayKey]:
        """Ask for keys by id; a gateway that cannot be asked so leaves the listing as the proof."""
        try:
            return await living(self.desk.gateway, key_ids)
        except Unsupported:
            return []

    async def _further(self, user: GatewayUser) -> list[GatewayUser]:
        """Read the person's other accounts; they are fenced with the first one, and lifted with it."""
        ids = [account for account in people.further_accounts(self.desk.db, self.person.id) if account != user.user_id]
        return [account for account in await every(map(self.desk.gateway.get_user, ids)) if account is not None]

    # -- giving back ----------------------------------------------------------------------------------------------

    async def _lift_blocks(self) -> None:
        """Unblock the keys we blocked and did not doom, except those of a team that is being left."""
        leaving = {self.desk.team_id(grant.team) for grant in self.leaving}
        for row in self.marked:
            if row.doomed or row.team_id in leaving:
                continue
            self.desk.still_wanted()
            await self.desk.gateway.unblock_key(row.key_id)
            await self._forget(row.key_id)
            self.restored.append(row.key_id)

    async def _forget(self, key_id: str) -> None:
        """What is lifted is forgotten at once: a later try must not undo a block that somebody else has set since."""
        await self.desk.write(lambda db: people.forget_blocked(db, [key_id]))

    # -- giving ---------------------------------------------------------------------------------------------------

    async def _join(self, user: GatewayUser) -> None:
        await every(self._join_one(user, grant) for grant in self.granted)

    async def _join_one(self, user: GatewayUser, grant: Grant) -> None:
        team_id = self.desk.team_id(grant.team)
        team = await self.desk.gateway.get_team(team_id) if team_id else None
        if team is None:
            msg = f"team {grant.team} is not set up at the gateway yet; `idsync reconcile` creates or adopts it"
            raise Missing(msg)
        if team.has_member(user.user_id):
            await roles.set_team_role(self.desk, self.person, user, team, grant)
        else:
            await roles.join_team(self.desk, self.person, user, team, grant)

    async def _set_roles(self, user: GatewayUser) -> None:
        """Set the roles of the account and in the organization; what only a person can decide keeps nothing else."""
        try:
            await roles.set_account_role(self.desk, self.person, user)
        except NeedsPerson as error:
            self.problem = error
        await roles.set_organization_role(self.desk, self.person, user)

    async def _read_back(self, user: GatewayUser) -> None:
        """Look once more: the gateway's 200 is not proof."""
        ids = [self.desk.team_id(grant.team) or grant.team for grant in self.granted]
        teams = await every(map(self.desk.gateway.get_team, ids))
        missing = [
            grant.team
            for grant, team in zip(self.granted, teams, strict=True)
            if team is None or not team.has_member(user.user_id)
        ]
        if missing:
            raise Transient(f"the gateway does not show {self.person.label} in {', '.join(missing)} yet")

    # -- the ledger -----------------------------------------------------------------------------------------------

    def _record(self, db: Db) -> None:
        now = self.desk.clock.now()
        people.forget_blocked(db, [*self.gone, *self.restored])
        for team in self.left:
            people.drop_grant(db, self.person.id, team)
        self._finish_departures(db, now)
        self._note_problem(db, now)
        detail = {
            "teams": [grant.team for grant in self.granted],
            "left": self.left,
            "deleted": self.gone,
            "restored": self.restored,
        }
        journal.append(db, at=now, actor="engine", action="access.converged", subject=self.person.label, detail=detail)

    def _note_problem(self, db: Db, now: float) -> None:
        """Show the gateway's last admin as a conflict for as long as they are kept one; told when it begins."""
        if self.problem is None:
            people.resolve_conflicts(db, roles.LAST_ADMIN, self.person.id, now)
        elif people.open_conflict(db, roles.LAST_ADMIN, self.person.id, str(self.problem), self.problem.remedy, now):
            log.error("role.last_admin", person=self.person.id, problem=str(self.problem), remedy=self.problem.remedy)

    def _finish_departures(self, db: Db, now: float) -> None:
        """A departure whose person came back halfway is verified once what it had doomed is gone."""
        for departure in ledger.departures_of(db, self.person.id):
            unfinished = departure.closed_at is not None and departure.destroying_at and departure.verified_at is None
            if unfinished and departure.state is not DepartureState.CANCELLED:
                keys = [
                    {"id": row.key_id, "name": row.name, "alias": row.alias, "team_id": row.team_id}
                    for row in self.marked
                    if row.doomed
                ]
                receipt = {**(departure.receipt or {}), "keys": keys, "ended_by": "delete"}
                done = replace(
                    departure, state=DepartureState.VERIFIED, deleted_at=now, verified_at=now, receipt=receipt
                )
                ledger.put_departure(db, done)
                detail = {
                    "departure": departure.id,
                    "evidence": departure.evidence.value,
                    "source": departure.source,
                    "keys": sorted(row.key_id for row in self.marked if row.doomed),
                    "teams": [],
                    "fence": departure.fence,
                }
                journal.append(
                    db, at=now, actor="engine", action="departure.verified", subject=departure.label, detail=detail
                )
