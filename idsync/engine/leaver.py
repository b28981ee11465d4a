"""One person loses everything: fence, list, block, delete, leave the teams, read back, receipt, and a second look.

The order is the point (reference: how fast a revoked key is really dead). The fence ends every key at once and stops
new ones; a block is broadcast to the gateway's replicas where a deletion is not; only then is a key deleted, and only
after the keys come teams, roles and invitations. Memberships of organizations end last of all. Each run looks at the gateway afresh and does what is missing, so it
may be cut off anywhere and run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from idsync.engine import admins, belongings, closing, exposed, organizations, roles, wave
from idsync.engine.accounts import Identity, accounts_of, identity_of, instead_of_the_missing, unowned, was_unlinked
from idsync.engine.case import Case
from idsync.engine.desk import Desk, Outcome, every
from idsync.engine.fence import Fence
from idsync.engine.looking import Looker, Sight, alive, living
from idsync.engine.receipt import left_standing
from idsync.errors import (
    AdminKeyRefused,
    GatewayError,
    NeedsPerson,
    StillAlive,
    StoreError,
    Superseded,
    Throttled,
    Unsupported,
)
from idsync.gateway import slots
from idsync.gateway.receipts import recorder
from idsync.gateway.slots import urgency
from idsync.model import Call, DepartureState, GatewayKey, GatewayUser, Person
from idsync.standing import shield_of
from idsync.store import facts, ledger, people, verdicts
from idsync.store.db import Db
from idsync.store.ledger import Departure
from idsync.store.people import BlockedKey
from idsync.traces import Departing
from idsync.words import count

ROUNDS = 3
"""How often one run repeats what did not hold before it gives the job back for a later try."""
log = structlog.get_logger(__name__)


async def leave(desk: Desk, person: Person, departure: Departure, trace: Departing) -> Outcome:
    """Bring one departure as far as it may go.

    Raises:
        StillAlive: the gateway shows something that was revoked; try again, and say so.
        NeedsPerson, GatewayError, Superseded: not now.
    """
    calls: list[Call] = []
    token = recorder.set(calls)
    known = {row.key_id: _known(row) for row in people.blocked_keys(desk.db, person.id) if row.doomed}
    case = Case(desk, person, departure, calls, known, trace)
    try:
        with desk.wave.joined() as one:
            return await _Leaver(case, one).run()
    except Exception:
        await _keep_the_calls(case)
        raise
    finally:
        recorder.reset(token)


async def _keep_the_calls(case: Case) -> None:
    """A run that failed has called the gateway all the same: its calls belong to the receipt."""
    try:
        await case.write(lambda db: None)
    except (StoreError, Superseded):
        log.warning("receipt.calls_lost", departure=case.departure.id, calls=len(case.calls) - case.told)


class _Leaver:
    def __init__(self, case: Case, one: wave.Leaver) -> None:
        self.case = case
        self.one = one
        self.desk = case.desk
        self.person = case.person
        self.departure = case.departure
        self.fence = Fence(case)
        self.looker = Looker(case.desk.gateway, case.departure.id)
        self.hidden: set[str] = set()
        """Keys that no listing shows and their id does."""
        self.doubt: NeedsPerson | GatewayError | None = None
        """Why another account may be theirs: the known ones are ended, and nothing is closed."""

    async def run(self) -> Outcome:
        self._refuse_a_protected_one()
        identity = identity_of(self.desk, self.person)
        accounts = await self._accounts(identity)
        urgency.set(slots.FENCE)
        users = await every(self.fence.raise_on(account, spare_admins=True) for account in accounts)
        if None in users or not accounts or self.departure.verified_at is not None:
            try:
                accounts, users = await self._look_for_others(identity, accounts, users)
            except (NeedsPerson, GatewayError) as doubt:
                self._go_on_with(accounts, doubt)
        if await admins.takes_the_last_admin(self.desk, self.departure, users):
            now = self.desk.clock.now()
            return Outcome(lambda db: admins.hold(db, self.departure, now), None)
        sights = await every(self._fenced(account, user) for account, user in zip(accounts, users, strict=True))
        if not any(sight.keys or sight.teams for sight in sights):
            sights = await self._look(sights)
        for _ in range(ROUNDS):
            if await self._alive(sights, identity) is None:
                return await self._proven(sights, identity)
            urgency.set(slots.BLOCK)
            await self._block(sights)
            self.one.blocked()
            if not self._may_delete():
                return await self._access_ended(sights)
            await self._destroy(sights, identity)
            sights = await self._look(sights)
        left = await self._alive(sights, identity)
        if left is None:
            return await self._proven(sights, identity)
        await self.case.write(lambda db: self.case.advance(db, DepartureState.DELETED, deleted_at=self.case.deleted_at))
        raise StillAlive(f"the gateway still shows {left} of {self.person.label} after saying it was gone")

    def _refuse_a_protected_one(self) -> None:
        """Touch nobody who is protected now, whatever was accepted before; a ban may override that.

        Raises:
            NeedsPerson: they are protected.
        """
        ban = people.live_ban(self.desk.db, self.person.id)
        shield = shield_of(self.desk.db, self.person, self.desk.rules, self.desk.clock.now())
        if shield is not None and not (ban is not None and ban.override):
            msg = f"{self.person.label} had left and is protected since ({shield}); nothing more is ended"
            raise NeedsPerson(
                "protected", msg, f"idsync revoke {self.person.label} --override-protection --reason TEXT"
            )

    # -- the accounts ---------------------------------------------------------------------------------------------

    async def _accounts(self, identity: Identity) -> tuple[str, ...]:
        try:
            return await accounts_of(self.desk, self.person, identity, stays=False)
        except (NeedsPerson, GatewayError) as doubt:
            known = tuple(people.further_accounts(self.desk.db, self.person.id))
            self._go_on_with(known, doubt)
            return known

    def _go_on_with(self, known: Sequence[str], doubt: NeedsPerson | GatewayError) -> None:
        """End what is known to be theirs first; without any, or without being let in, there is nothing to do."""
        if not known or isinstance(doubt, (AdminKeyRefused, Throttled)):
            raise doubt
        self.doubt = self.doubt or doubt

    async def _refuse_in_doubt(self, sights: Sequence[Sight]) -> None:
        """Close nothing while another account may be theirs; what was found of the known ones is written down.

        Raises:
            NeedsPerson, GatewayError: why it may be.
        """
        if self.doubt is not None:
            await self.case.write(lambda db: closing.in_doubt(self.case, db, sights))
            raise self.doubt

    async def _look_for_others(
        self, identity: Identity, accounts: Sequence[str], users: Sequence[GatewayUser | None]
    ) -> tuple[tuple[str, ...], list[GatewayUser | None]]:
        """An account that is not there proves nothing while another one may be theirs: made anew, or linked wrongly."""
        others = await instead_of_the_missing(self.desk, self.person, identity) if accounts else []
        found = [await self.fence.raise_on(other, spare_admins=True) for other in others]
        if any(found):
            self.case.came_back_after_proof("account")
        if not any(users) and not any(found) and not self.case.put_outside(accounts):
            await self._refuse_a_doubt(identity)
        if not any(found):
            self._refuse_a_wrong_link(accounts, users)
        return (*accounts, *others), [*users, *found]

    async def _refuse_a_doubt(self, identity: Identity) -> None:
        """Nobody has left for good while an account with their e-mail belongs to nobody: it may be theirs.

        Raises:
            NeedsPerson: there is one, and the e-mail alone may not link it.
        """
        unclear = await unowned(self.desk, sorted({*identity.every_email} - {*identity.every_trusted_email}))
        doubtful = sorted(user.user_id for user in unclear if not was_unlinked(self.desk, self.person, user))
        if doubtful:
            msg = f"the gateway has an account with the e-mail of {self.person.label}, linked to nobody: {', '.join(doubtful)}"
            raise NeedsPerson("account", msg, f"idsync link {self.person.label} GATEWAY_USER_ID")

    def _refuse_a_wrong_link(self, accounts: Sequence[str], users: Sequence[GatewayUser | None]) -> None:
        """A link somebody typed, to an account the gateway has never shown, proves nothing either.

        Raises:
            NeedsPerson: no other account of theirs was found.
        """
        for account, user in zip(accounts, users, strict=True):
            if user is None and facts.get(self.desk.db, f"unseen:{account}"):
                msg = f"{self.person.label} is linked to gateway account {account}, which the gateway has never shown"
                remedy = f"idsync unlink {self.person.label} {account}; idsync link {self.person.label} GATEWAY_USER_ID"
                raise NeedsPerson("account", msg, remedy)

    # -- the fence ------------------------------------------------------------------------------------------------

    async def _fenced(self, account_id: str, user: GatewayUser | None) -> Sight:
        """Look at an account that was fenced just now; again until the gateway shows the fence."""
        if self.fence.is_wanted(user) and user is not None and user.role == admins.ADMIN:
            urgency.set(slots.FENCE)
            await self.fence.raise_on(account_id)
        for _ in range(ROUNDS):
            urgency.set(slots.BLOCK)
            sight = await self.looker.glance(account_id)
            if sight.user is None or sight.user.metadata is None or not self.fence.is_wanted(sight.user):
                break
            urgency.set(slots.FENCE)
            await self.fence.raise_on(account_id)
        await self._note_fence(sight)
        return sight

    async def _note_fence(self, sight: Sight) -> None:
        """Write down the fence and, before any is blocked, which keys were live: a return lifts exactly those."""
        live = [key for key in sight.keys if not key.blocked]
        now = self.desk.clock.now()
        fenced = sight.user is not None and sight.user.fenced
        if sight.user is None and not self._is_primary(sight.account_id):
            return

        def write(db: Db) -> None:
            for key in live:
                people.note_blocked(db, self._row(sight.account_id, key, doomed=False), now)
            if sight.user is not None and facts.get(db, f"unseen:{sight.account_id}"):
                facts.put(db, f"unseen:{sight.account_id}", False, now)
            state = DepartureState.FENCED if fenced else DepartureState.ACCEPTED
            at = (self.case.fence_sent_at or now) if fenced else None
            self.case.advance(db, state, account_id=sight.account_id, fenced_at=at)

        if live or self.departure.fenced_at is None:
            await self.case.write(write)

    def _is_primary(self, account_id: str) -> bool:
        return account_id in (self.person.account_id, self.departure.account_id)

    def _row(self, account_id: str, key: GatewayKey, *, doomed: bool) -> BlockedKey:
        return BlockedKey(key.id, self.person.id, account_id, key.team_id, doomed, key.name, key.alias)

    # -- block, delete, leave -------------------------------------------------------------------------------------

    async def _block(self, sights: Sequence[Sight]) -> None:
        await every(self._block_one(key) for sight in sights for key in sight.keys if not key.blocked)

    async def _block_one(self, key: GatewayKey) -> None:
        self.case.came_back("key")
        try:
            await self.desk.gateway.block_key(key.id)
        except Unsupported:
            self.case.features["block"] = "missing"  # the fence and the deletion have to do
        else:
            self.case.features["block"] = "used"

    def _may_delete(self) -> bool:
        held = ledger.hold_is_open(self.desk.db, self.departure.hold_id)
        due = self.departure.delete_at <= self.desk.clock.now()
        return due and not held and self.departure.kind == "departure" and self.desk.settings.on_departure == "delete"

    async def _destroy(self, sights: Sequence[Sight], identity: Identity) -> None:
        """Delete every key in one call, then end the rest. What is doomed is written down before."""
        case = self.case
        doomed = [(sight.account_id, key) for sight in sights for key in sight.keys]
        case.doomed |= {key.id: key for _, key in doomed}
        if doomed:
            case.came_back_after_proof("key")
        at = self.desk.clock.now()
        blocked = at if doomed and case.blocks else None

        def write(db: Db) -> None:
            for account_id, key in doomed:
                people.note_blocked(db, self._row(account_id, key, doomed=True), at)
            case.advance(db, DepartureState.BLOCKED, blocked_at=blocked, destroying_at=at)
            own = {sight.account_id for sight in sights}
            for row in (row for row in people.blocked_keys(db, self.person.id) if row.account_id in own):
                people.note_blocked(db, replace(row, doomed=True), at)
                case.doomed.setdefault(row.key_id, _known(row))

        await case.write(write)
        urgency.set(slots.DELETE)
        refusal = await self._delete_keys(self.hidden.union(key.id for _, key in doomed))
        await self.desk.wave.all_blocked()
        urgency.set(slots.TIDY)
        if any(sight.teams for sight in sights):
            case.came_back_after_proof("member")
        case.left |= {team for sight in sights for team in sight.teams}
        await every([*map(self._leave, sights), belongings.end_belongings(case, sights, identity)])
        if refusal is not None:
            raise refusal

    async def _leave(self, sight: Sight) -> None:
        """Leave every team of an account, one at a time.

        Each removal writes the team list of the user's row anew: of removals side by side LiteLLM 1.108.0 keeps the
        list of the last one (observed), and the row goes on naming teams that the person is not in.
        """
        turn = asyncio.Lock()

        async def leave(team_id: str) -> None:
            async with turn:
                await self.desk.gateway.remove_member(team_id, sight.account_id)

        await every(map(leave, sight.teams))

    async def _delete_keys(self, seen: set[str]) -> GatewayError | None:
        """Delete what was seen, and of what an earlier call should have ended whatever lives; return a refusal.

        A gateway may refuse a whole call for one key that is gone. A refusal keeps nobody in their teams.
        """
        case = self.case
        try:
            wanted = seen | await self._still_there(sorted(case.doomed.keys() - seen))
            if wanted:
                await self.desk.gateway.delete_keys(sorted(wanted))
                case.deleted_at = self.desk.clock.now()
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:
            log.error("leaver.keys_not_deleted", departure=self.departure.id, error=str(error))
            return error
        return None

    async def _still_there(self, key_ids: Sequence[str]) -> set[str]:
        """Return which of these keys the gateway has; all of them where it cannot be asked by id."""
        try:
            return {key.id for key in await living(self.desk.gateway, key_ids)}
        except Unsupported:
            return set(key_ids)

    # -- looking again --------------------------------------------------------------------------------------------

    async def _look(self, sights: Sequence[Sight]) -> list[Sight]:
        urgency.set(slots.PROVE)
        return await every(self.looker.look(sight.account_id) for sight in sights)

    async def _alive(self, sights: Sequence[Sight], identity: Identity) -> str | None:
        """Say what is still there; None when the gateway's own answers agree that nothing is."""
        found = alive(sights, fences=self.case.fence != "unsupported")
        if found is None and self._may_delete():
            found = belongings.admin_left(sights) or await self._invited(sights, identity)
        return found or await self._alive_by_id()

    async def _invited(self, sights: Sequence[Sight], identity: Identity) -> str | None:
        ids = [sight.account_id for sight in sights]
        pending = await belongings.invitations_of(self.desk.gateway, ids, identity.emails)
        return count(len(pending), "pending invitation") if pending else None

    async def _alive_by_id(self) -> str | None:
        """Ask for each key that is gone by its id: listings hide some, and a deletion echoes what it was asked."""
        asked = {*self.case.doomed, *self.case.known_gone()}
        if not asked:
            return None
        try:
            found = await living(self.desk.gateway, asked)
        except Unsupported:
            self.case.features["key_info"] = "missing"
            return None
        self.case.features["key_info"] = "used"
        self.case.doomed |= {key.id: key for key in found}
        self.hidden = {key.id for key in found}
        if found:
            self.case.came_back_after_proof("key")
        return f"{count(len(found), 'key')} by id" if found else None

    async def _access_ended(self, sights: Sequence[Sight]) -> Outcome:
        """Prove that access has ended, where deletion waits or is not wanted."""
        fresh = await self._look(sights)
        fenced = all(sight.fenced for sight in fresh)
        open_keys = [key for sight in fresh for key in sight.keys if not key.blocked]
        unfenced = not (fenced or self.case.fence == "unsupported")
        if (open_keys and (self.case.blocks or not fenced or self._is_fence_known_useless())) or unfenced:
            raise StillAlive(f"{self.person.label} is not fenced and blocked yet ({count(len(open_keys), 'key')} open)")
        await self._refuse_in_doubt(fresh)
        await self._take_roles(fresh)
        held = ledger.hold_is_open(self.desk.db, self.departure.hold_id)
        if self.desk.settings.on_departure == "block" and self.departure.kind == "departure" and not held:
            return closing.closed(self.case, fresh, ended_by="block")
        return closing.access_ended(self.case, fresh)

    def _is_fence_known_useless(self) -> bool:
        """Whether a drill has lately seen keys work behind a fence of this gateway."""
        now = self.desk.clock.now()
        return verdicts.fence_verdict(self.desk.db, self.desk.gateway.name, now) == "unsupported"

    async def _proven(self, sights: Sequence[Sight], identity: Identity) -> Outcome:
        """Close on what the gateway shows; at the second look, also name what is left standing on purpose."""
        waits = not self._may_delete() and any(sight.user for sight in sights)
        if waits or self.departure.kind == "suspension":
            return await self._access_ended(sights)
        await self._refuse_in_doubt(sights)
        if self.case.is_second_look:
            teams = (self.departure.receipt or {}).get("teams", [])
            own = [sight.account_id for sight in sights]
            self.case.standing = await left_standing(self.desk, teams, own, identity.every_email)
            self.case.census = await self._counted(teams, own)
            if self.desk.settings.delete_user and not self.case.again:
                await self._delete_accounts(sights)
        if self._is_over():
            await organizations.end_memberships(self.case, sights)
        return closing.closed(self.case, sights, ended_by="delete")

    async def _take_roles(self, sights: Sequence[Sight]) -> None:
        """Take back the admin's roles that idsync gave, where nothing is deleted (yet): a fence keeps nobody an admin."""
        for sight in sights if self.departure.kind == "departure" else ():
            try:
                if sight.user is not None:
                    await roles.take_back(self.desk, self.person, sight.user)
            except GatewayError as error:
                log.error("role.not_taken", person=self.person.id, account=sight.account_id, error=str(error))

    def _is_over(self) -> bool:
        """Tell whether nothing is left to look at again: it is the second look, or was settled, and all stayed gone."""
        settles = self.case.is_second_look or self.departure.settled_at is not None
        return settles and not self.case.again

    async def _counted(self, teams: Sequence[str], own: Sequence[str]) -> exposed.Census | None:
        """Count what they may still know; where that fails, the next pass does."""
        try:
            return await exposed.census(self.desk, self.person, self.departure, teams, own)
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:
            log.warning("exposed.not_counted", departure=self.departure.id, error=str(error))
            return None

    async def _delete_accounts(self, sights: Sequence[Sight]) -> None:
        """Delete the rows themselves, last of all: the fence goes with them, so it must hold nothing back any more.

        Raises:
            StillAlive: the gateway shows one after saying that it was deleted.
        """
        there = [sight.account_id for sight in sights if sight.user is not None]
        used = {**(self.departure.receipt or {}).get("features", {}), **self.case.features}
        if used.get("sessions") != "used":
            self.case.features["user_delete"] = "kept: dashboard sessions cannot be ended otherwise"
            return
        await every(map(self.desk.gateway.delete_user, there))
        if any(await every(map(self.desk.gateway.get_user, there))):
            raise StillAlive(f"the gateway still shows the account of {self.person.label} after saying it was deleted")
        self.case.features["user_delete"] = "used"
        self.case.note_ended("deleted_accounts", there)


def _known(row: BlockedKey) -> GatewayKey:
    """Return what is remembered of a key that an earlier run has seen."""
    return GatewayKey(row.key_id, name=row.name, alias=row.alias, team_id=row.team_id, user_id=row.account_id)
