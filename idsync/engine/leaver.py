"""One person loses everything: fence, list, block, delete, leave the teams, read back, receipt, and a second look.

The order is the point (reference: how fast a revoked key is really dead). The fence ends every key at once and stops
new ones; a block is broadcast to the gateway's replicas where a deletion is not; only then is a key deleted. Each run
looks at the gateway afresh and does what is missing, so it may be cut off anywhere and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from idsync.engine import admins
from idsync.engine.accounts import Identity, accounts_of, identity_of, unowned, was_unlinked
from idsync.engine.desk import Desk, every
from idsync.engine.looking import Looker, Sight
from idsync.engine.receipt import left_standing, receipt_of
from idsync.errors import (
    AdminKeyRefused,
    GatewayError,
    NeedsPerson,
    StillAlive,
    Superseded,
    Throttled,
    Unsupported,
)
from idsync.gateway.receipts import recorder
from idsync.gateway.slots import FENCE, REVOKE, urgency
from idsync.model import FENCE_FLAG, FENCE_TAG, Call, DepartureState, GatewayKey, GatewayUser, Person
from idsync.standing import shield_of
from idsync.store import journal, ledger, people
from idsync.store.db import Db
from idsync.store.ledger import Departure
from idsync.store.people import BlockedKey

ROUNDS = 3
"""How often one run repeats what did not hold before it gives the job back for a later try."""
log = structlog.get_logger(__name__)
ORDER = (
    DepartureState.ACCEPTED,
    DepartureState.FENCED,
    DepartureState.BLOCKED,
    DepartureState.DELETED,
    DepartureState.VERIFIED,
    DepartureState.SETTLED,
)


@dataclass(frozen=True)
class Outcome:
    """What to write when the work is done, and when to look again (epoch seconds; None: never)."""

    record: Callable[[Db], None]
    run_at: float | None


async def leave(desk: Desk, person: Person, departure: Departure) -> Outcome:
    """Bring one departure as far as it may go.

    Raises:
        StillAlive: the gateway shows something that was revoked; try again, and say so.
        NeedsPerson, GatewayError, Superseded: not now.
    """
    calls: list[Call] = []
    token = recorder.set(calls)
    try:
        return await _Leaver(desk, person, departure, calls).run()
    finally:
        recorder.reset(token)


class _Leaver:
    def __init__(self, desk: Desk, person: Person, departure: Departure, calls: list[Call]) -> None:
        self.desk = desk
        self.person = person
        self.departure = departure
        self.calls = calls
        self.doomed = {row.key_id: _known(row) for row in people.blocked_keys(desk.db, person.id) if row.doomed}
        self.looker = Looker(desk.gateway, departure.id)
        self.left: set[str] = set()
        self.fence = "assumed"
        self.blocks = True
        self.standing: dict[str, Any] = {}
        self.fence_sent_at: float | None = None
        self.deleted_at: float | None = None

    async def run(self) -> Outcome:
        urgency.set(FENCE)
        self._refuse_a_protected_one()
        identity = identity_of(self.desk, self.person)
        accounts = await accounts_of(self.desk, self.person, identity, stays=False)
        if not accounts:
            await self._refuse_a_doubt(identity)
        users = await every(map(self.looker.read, accounts))
        if await admins.takes_the_last_admin(self.desk, self.departure, users):
            now = self.desk.clock.now()
            return Outcome(lambda db: admins.hold(db, self.departure, now), None)
        sights = await every(self._fence(account, user) for account, user in zip(accounts, users, strict=True))
        urgency.set(REVOKE)
        if not any(sight.keys or sight.teams for sight in sights):
            sights = await every(map(self.looker.look, accounts))
        for _ in range(ROUNDS):
            if await self._alive(sights) is None:
                return await self._proven(sights, identity)
            await self._block(sights)
            if not self._may_delete():
                return await self._access_ended(sights)
            await self._destroy(sights)
            sights = await every(map(self.looker.look, accounts))
        alive = await self._alive(sights)
        if alive is None:
            return await self._proven(sights, identity)
        self.desk.telemetry.verification("alive")
        await self.desk.write(lambda db: self._advance(db, DepartureState.DELETED, deleted_at=self.deleted_at))
        raise StillAlive(f"the gateway still shows {alive} of {self.person.label} after saying it was gone")

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

    async def _refuse_a_doubt(self, identity: Identity) -> None:
        """Nobody has left for good while an account with their e-mail belongs to nobody: it may be theirs.

        Raises:
            NeedsPerson: there is one, and the e-mail alone may not link it.
        """
        unclear = await unowned(self.desk, sorted({*identity.emails} - {*identity.trusted_emails}))
        doubtful = sorted(user.user_id for user in unclear if not was_unlinked(self.desk, self.person, user))
        if doubtful:
            msg = f"the gateway has an account with the e-mail of {self.person.label}, linked to nobody: {', '.join(doubtful)}"
            raise NeedsPerson("account", msg, f"idsync link {self.person.label} GATEWAY_USER_ID")

    async def _alive(self, sights: Sequence[Sight]) -> str | None:
        return await self.looker.alive(sights, self.doomed, fences=self.fence != "unsupported")

    # -- the fence ------------------------------------------------------------------------------------------------

    async def _fence(self, account_id: str, user: GatewayUser | None) -> Sight:
        """Fence an account that was read just now, and look at it; again until the gateway shows our fence.

        An account whose metadata is not an object is not written: its keys are blocked first, a later run fences.
        """
        for _ in range(ROUNDS):
            await self._write_fence(user)
            urgency.set(REVOKE)
            sight = await self.looker.glance(account_id)
            user = sight.user
            if not self._wants_fence(user):
                break
        await self._note_fence(sight)
        return sight

    async def _write_fence(self, user: GatewayUser | None) -> None:
        if user is None or user.metadata is None or not self._wants_fence(user):
            return
        metadata = {**user.metadata, FENCE_FLAG: False, FENCE_TAG: self.departure.id}
        try:
            await self.desk.gateway.update_user(user, metadata=metadata)
            self.fence_sent_at = self.fence_sent_at or self.desk.clock.now()
        except Unsupported:
            self.fence = "unsupported"
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:  # the keys are ended all the same; nothing closes without the fence
            log.error("leaver.not_fenced", departure=self.departure.id, error=str(error))

    def _wants_fence(self, user: GatewayUser | None) -> bool:
        """A fence of an earlier departure of ours is renewed; a foreign one is left to whoever made it."""
        if user is None or self.fence == "unsupported":
            return False
        earlier = ledger.departure_ids(self.desk.db, self.person.id) - {self.departure.id}
        return not user.fenced or user.fence_tag in earlier

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
            times = {"fenced_at": self.fence_sent_at or now} if fenced else {}
            state = DepartureState.FENCED if fenced else DepartureState.ACCEPTED
            self._advance(db, state, account_id=sight.account_id, **times)

        if live or self.departure.fenced_at is None:
            await self.desk.write(write)

    def _is_primary(self, account_id: str) -> bool:
        return account_id in (self.person.account_id, self.departure.account_id)

    def _row(self, account_id: str, key: GatewayKey, *, doomed: bool) -> BlockedKey:
        return BlockedKey(key.id, self.person.id, account_id, key.team_id, doomed, key.name, key.alias)

    # -- block, delete, leave -------------------------------------------------------------------------------------

    async def _block(self, sights: Sequence[Sight]) -> None:
        await every(self._block_one(key) for sight in sights for key in sight.keys if not key.blocked)

    async def _block_one(self, key: GatewayKey) -> None:
        try:
            await self.desk.gateway.block_key(key.id)
        except Unsupported:
            self.blocks = False  # a gateway without key/block: the fence and the deletion have to do

    def _may_delete(self) -> bool:
        held = ledger.hold_is_open(self.desk.db, self.departure.hold_id)
        due = self.departure.delete_at <= self.desk.clock.now()
        return due and not held and self.departure.kind == "departure" and self.desk.settings.on_departure == "delete"

    async def _destroy(self, sights: Sequence[Sight]) -> None:
        """Delete every key in one call, then leave every team by id. What is doomed is written down before."""
        doomed = [(sight.account_id, key) for sight in sights for key in sight.keys]
        self.doomed |= {key.id: key for _, key in doomed}
        self.left |= {team for sight in sights for team in sight.teams}
        at = self.desk.clock.now()

        def write(db: Db) -> None:
            for account_id, key in doomed:
                people.note_blocked(db, self._row(account_id, key, doomed=True), at)
            self._advance(db, DepartureState.BLOCKED, blocked_at=at, destroying_at=at)
            for row in people.blocked_keys(db, self.person.id):
                people.note_blocked(db, replace(row, doomed=True), at)
                self.doomed.setdefault(row.key_id, _known(row))

        await self.desk.write(write)
        if self.doomed:
            await self.desk.gateway.delete_keys(sorted(self.doomed))
        await every(self.desk.gateway.remove_member(team, sight.account_id) for sight in sights for team in sight.teams)
        self.deleted_at = self.desk.clock.now()

    # -- the ledger -----------------------------------------------------------------------------------------------

    def _advance(self, db: Db, state: DepartureState, **times: Any) -> Departure:
        """Move the departure forward, never back; a time once noted stays."""
        current = ledger.departure(db, self.departure.id)
        if current is None or current.closed_at is not None:
            raise Superseded
        kept = {name: value for name, value in times.items() if getattr(current, name) is None}
        reached = current.state in ORDER and ORDER.index(current.state) >= ORDER.index(state)
        moved = replace(current, state=current.state if reached else state, problem=None, **kept)
        ledger.put_departure(db, moved)
        for name, value in kept.items():
            if name.endswith("_at") and value is not None:
                self.desk.telemetry.stage(name.removesuffix("_at"), value - current.received_at)
        return moved

    async def _access_ended(self, sights: Sequence[Sight]) -> Outcome:
        """Access has ended and deletion waits, or is not wanted: prove that much, and come back when it is due."""
        fresh = await every(self.looker.look(sight.account_id) for sight in sights)
        fenced = all(sight.fenced for sight in fresh)
        open_keys = [key for sight in fresh for key in sight.keys if not key.blocked]
        if (open_keys and (self.blocks or not fenced)) or not (fenced or self.fence == "unsupported"):
            raise StillAlive(f"{self.person.label} is not fenced and blocked yet ({len(open_keys)} key(s) open)")
        held = ledger.hold_is_open(self.desk.db, self.departure.hold_id)
        final = self.desk.settings.on_departure == "block" and self.departure.kind == "departure"
        now = self.desk.clock.now()

        def record(db: Db) -> None:
            moved = self._advance(db, DepartureState.BLOCKED, blocked_at=now)
            if final and not held:
                moved = self._advance(db, DepartureState.VERIFIED, verified_at=now)
            state = DepartureState.HELD if held else moved.state
            receipt = {**self._receipt(moved, fresh), "ended_by": "block"}
            ledger.put_departure(db, replace(moved, state=state, fence=self.fence, receipt=receipt))

        waits = not held and not final and self.departure.kind == "departure"
        return Outcome(record, self.departure.delete_at if waits else None)

    async def _proven(self, sights: Sequence[Sight], identity: Identity) -> Outcome:
        """Close on what the gateway shows; at the second look, also name what is left standing on purpose."""
        if self._is_second_look():
            teams = (self.departure.receipt or {}).get("teams", [])
            own = [sight.account_id for sight in sights]
            self.standing = await left_standing(self.desk, teams, own, identity.emails)
        return self._verified(sights)

    def _is_second_look(self) -> bool:
        due = self.departure.settle_at
        return self.departure.verified_at is not None and due is not None and self.desk.clock.now() >= due

    def _verified(self, sights: Sequence[Sight]) -> Outcome:
        """The gateway's own answers agree. After its cache time everything is looked at once more."""
        now = self.desk.clock.now()
        untouched = not self.doomed and not self.left
        settled = self._is_second_look() and untouched
        settle_at = None if settled else now + self.desk.settings.cache_time
        fence = self.fence if any(sight.user for sight in sights) else "none"

        def record(db: Db) -> None:
            times = {"fenced_at": now, "blocked_at": now, "deleted_at": self.deleted_at or now, "verified_at": now}
            moved = self._advance(db, DepartureState.VERIFIED, **times)
            state = DepartureState.SETTLED if settled else DepartureState.VERIFIED
            done = replace(
                moved,
                state=state,
                fence=fence,
                settle_at=settle_at,
                settled_at=now if settled else None,
                receipt=self._receipt(moved, sights),
            )
            ledger.put_departure(db, done)
            people.forget_blocked(db, sorted(self.doomed))
            people.drop_grants(db, self.person.id)
            self._tell(db, done, now, untouched=untouched)

        return Outcome(record, settle_at)

    def _tell(self, db: Db, done: Departure, now: float, *, untouched: bool) -> None:
        first = self.departure.verified_at is None
        again = not first and not untouched
        action = "departure.verified" if first else "departure.reasserted" if again else "departure.settled"
        detail = {
            "departure": done.id,
            "keys": sorted(self.doomed),
            "teams": sorted(self.left),
            "fence": done.fence,
        }
        tell = log.warning if again else log.info
        tell(
            action,
            departure=done.id,
            keys=len(self.doomed),
            teams=len(self.left),
            seconds=round(now - done.received_at, 3),
        )
        journal.append(db, at=now, actor="engine", action=action, subject=done.label, detail=detail)
        self.desk.telemetry.verification("gone")
        if first and self.departure.hold_id is None and self.departure.delete_at <= self.departure.accepted_at:
            kind = "push" if done.source in self.desk.rules.idp_of else "manual"
            self.desk.telemetry.revoked(kind, done.evidence.value, now - done.received_at)

    def _receipt(self, departure: Departure, sights: Sequence[Sight]) -> dict[str, Any]:
        return receipt_of(
            departure.receipt or {},
            accounts=[sight.account_id for sight in sights],
            keys=self.doomed.values(),
            teams=self.left,
            calls=self.calls,
            standing=self.standing,
        )


def _known(row: BlockedKey) -> GatewayKey:
    """Return what is remembered of a key that an earlier run has seen."""
    return GatewayKey(row.key_id, name=row.name, alias=row.alias, team_id=row.team_id, user_id=row.account_id)
