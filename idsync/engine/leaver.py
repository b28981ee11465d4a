"""One person loses everything: fence, list, block, delete, leave the teams, read back, receipt, and a second look.

The order is the point (reference: how fast a revoked key is really dead). The fence ends every key at once and stops
new ones; a block is broadcast to the gateway's replicas where a deletion is not; only then is a key deleted. Each run
looks at the gateway afresh and does what is missing, so it may be cut off anywhere and run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from idsync.clock import rfc3339
from idsync.engine.accounts import Identity, accounts_of, identity_of, unowned, was_unlinked
from idsync.engine.desk import Desk, every
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
from idsync.store import journal, ledger, people
from idsync.store.db import Db
from idsync.store.ledger import Departure, HoldItem
from idsync.store.people import BlockedKey

ROUNDS = 3
"""How often one run repeats what did not hold before it gives the job back for a later try."""
log = structlog.get_logger(__name__)
LAST_ADMIN = "last_admin"
MASTER = "default_user_id"
"""The user row that stands for the gateway's own master key; nobody is behind it (LiteLLM 1.108.0, observed)."""
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
        self.doomed = {
            row.key_id: GatewayKey(row.key_id, team_id=row.team_id)
            for row in people.blocked_keys(desk.db, person.id)
            if row.doomed
        }
        self.left: set[str] = set()
        self.fence = "assumed"
        self.blocks = True
        self.standing: dict[str, Any] = {}
        self.fence_sent_at: float | None = None
        self.deleted_at: float | None = None

    async def run(self) -> Outcome:
        urgency.set(FENCE)
        identity = identity_of(self.desk, self.person)
        accounts = await accounts_of(self.desk, self.person, identity, stays=False)
        if not accounts:
            await self._refuse_a_doubt(identity)
        users = await every(map(self._read, accounts))
        if await self._last_admin(users):
            return self._hold_last_admin()
        sights = await every(self._fence(account, user) for account, user in zip(accounts, users, strict=True))
        urgency.set(REVOKE)
        if not any(sight.keys or sight.teams for sight in sights):
            sights = await every(map(self._look, accounts))
        for _ in range(ROUNDS):
            if await self._alive(sights) is None:
                return await self._proven(sights, identity)
            await self._block(sights)
            if not self._may_delete():
                return await self._access_ended(sights)
            await self._destroy(sights)
            sights = await every(map(self._look, accounts))
        alive = await self._alive(sights)
        if alive is None:
            return await self._proven(sights, identity)
        self.desk.telemetry.verification("alive")
        await self.desk.write(lambda db: self._advance(db, DepartureState.DELETED, deleted_at=self.deleted_at))
        raise StillAlive(f"the gateway still shows {alive} of {self.person.label} after saying it was gone")

    async def _refuse_a_doubt(self, identity: Identity) -> None:
        """Nobody has left for good while an account with their e-mail belongs to nobody: it may be theirs.

        Raises:
            NeedsPerson: there is one, and the e-mail alone may not link it.
        """
        unclear = await unowned(self.desk, identity.emails)
        doubtful = sorted(user.user_id for user in unclear if not was_unlinked(self.desk, self.person, user))
        if doubtful:
            msg = f"the gateway has an account with the e-mail of {self.person.label}, linked to nobody: {', '.join(doubtful)}"
            raise NeedsPerson("account", msg, f"idsync link {self.person.label} GATEWAY_USER_ID")

    async def _read(self, account_id: str) -> GatewayUser | None:
        """Read a user; one that cannot be read is an odd read: their keys are ended first, the fence comes later."""
        try:
            return await self.desk.gateway.get_user(account_id)
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:
            log.error("leaver.unreadable", departure=self.departure.id, error=str(error))
            return GatewayUser(account_id, None, None, None)

    # -- looking --------------------------------------------------------------------------------------------------

    async def _look(self, account_id: str) -> Sight:
        """Read the user, every page of their keys, and every roster that has them, side by side."""
        gateway = self.desk.gateway
        user, keys, teams = await asyncio.gather(
            gateway.get_user(account_id), gateway.list_keys(user_id=account_id), gateway.teams_of(account_id)
        )
        rosters = {team.team_id for team in teams}
        claimed = await every(map(gateway.get_team, sorted(set(user.teams if user else ()) - rosters)))
        rosters |= {team.team_id for team in claimed if team is not None and team.has_member(account_id)}
        return Sight(account_id, user, tuple(keys), tuple(sorted(rosters)))

    async def _glance(self, account_id: str) -> Sight:
        """Read the user and their keys; teams as the user's own row has them.

        Enough to act on, never enough to close on: rosters of large teams cost a hundred times a user row.
        """
        gateway = self.desk.gateway
        user, keys = await asyncio.gather(self._read(account_id), gateway.list_keys(user_id=account_id))
        return Sight(account_id, user, tuple(keys), user.teams if user is not None else ())

    async def _alive(self, sights: Sequence[Sight]) -> str | None:
        """Say what of the person is still there; None when the gateway's own answers agree that nothing is."""
        for sight in sights:
            if sight.keys:
                return f"{len(sight.keys)} key(s)"
            if sight.teams:
                return f"{len(sight.teams)} team membership(s)"
            if not sight.fenced and self.fence != "unsupported":
                return "the account without its fence"
        living = [key for key in await every(map(self._by_id, sorted(self.doomed))) if key is not None]
        return f"{len(living)} key(s) by id" if living else None

    async def _by_id(self, key_id: str) -> GatewayKey | None:
        try:
            key = await self.desk.gateway.key_info(key_id)
        except Unsupported:
            return None
        return None if key is None or key.deleted else key

    # -- the fence ------------------------------------------------------------------------------------------------

    async def _fence(self, account_id: str, user: GatewayUser | None) -> Sight:
        """Fence an account that was read just now, and look at it; again until the gateway shows our fence.

        An account whose metadata is not an object is not written: its keys are blocked first, a later run fences.
        """
        for _ in range(ROUNDS):
            await self._write_fence(user)
            urgency.set(REVOKE)
            sight = await self._glance(account_id)
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
        earlier = {entry.id for entry in ledger.departures_of(self.desk.db, self.person.id)} - {self.departure.id}
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
        return BlockedKey(key.id, self.person.id, account_id, key.team_id, doomed)

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
                self.doomed.setdefault(row.key_id, GatewayKey(row.key_id, team_id=row.team_id))

        await self.desk.write(write)
        if self.doomed:
            await self.desk.gateway.delete_keys(sorted(self.doomed))
        await every(self.desk.gateway.remove_member(team, sight.account_id) for sight in sights for team in sight.teams)

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
        fresh = await every(self._look(sight.account_id) for sight in sights)
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
            self.standing = await self._left_standing(sights, identity)
        return self._verified(sights)

    def _is_second_look(self) -> bool:
        due = self.departure.settle_at
        return self.departure.verified_at is not None and due is not None and self.desk.clock.now() >= due

    async def _left_standing(self, sights: Sequence[Sight], identity: Identity) -> dict[str, Any]:
        """Name the shared keys of the teams that were left, and further accounts with the same e-mail."""
        gateway = self.desk.gateway
        own = {sight.account_id for sight in sights}
        teams = sorted((self.departure.receipt or {}).get("teams", []))
        lists = await every(gateway.list_keys(team_id=team) for team in teams)
        found = await every(gateway.find_users(email=email) for email in sorted(identity.emails))
        others = {user.user_id for users in found for user in users} - own
        unknown = [user for user in sorted(others) if people.person_of_account(self.desk.db, user) is None]
        return {
            "shared_keys": [_key_entry(key) for keys in lists for key in keys if key.user_id is None],
            "other_accounts": unknown,
        }

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
        """Return the proof: what was called and answered, what is gone, what is left standing on purpose."""
        earlier = dict(departure.receipt or {})
        keys = {entry["id"]: entry for entry in earlier.get("keys", [])}
        keys |= {key.id: _key_entry(key) for key in self.doomed.values() if key.name or key.id not in keys}
        return {
            "accounts": sorted({sight.account_id for sight in sights} | set(earlier.get("accounts", []))),
            "keys": [keys[key_id] for key_id in sorted(keys)],
            "teams": sorted({*earlier.get("teams", []), *self.left}),
            "calls": [*earlier.get("calls", []), *map(_call_entry, self.calls)][-500:],
            "shared_keys": self.standing.get("shared_keys", earlier.get("shared_keys")),
            "other_accounts": self.standing.get("other_accounts", earlier.get("other_accounts")),
            "left_standing": [
                "keys the API does not list (dashboard sessions) are ended by the fence alone",
                "keys without an owner (shared team keys) are not touched when somebody leaves",
            ],
        }

    # -- the last admin -------------------------------------------------------------------------------------------

    async def _last_admin(self, users: Sequence[GatewayUser | None]) -> bool:
        """Tell whether revoking these accounts leaves the gateway without an admin, and nobody approved that."""
        own = {user.user_id for user in users if user is not None and user.role == "proxy_admin" and not user.fenced}
        if not own or self._approved():
            return False
        others = [
            user
            for user in await self.desk.gateway.list_users()
            if user.role == "proxy_admin" and user.user_id not in {*own, MASTER} and not user.fenced
        ]
        return not others

    def _approved(self) -> bool:
        """Tell whether somebody approved this; the departure may by now be held for another reason."""
        return ledger.was_approved(self.desk.db, f"{LAST_ADMIN}:{self.person.id}", self.departure.accepted_at)

    def _hold_last_admin(self) -> Outcome:
        """Hold the whole departure of the last admin, access included: nobody could undo it afterwards."""
        now = self.desk.clock.now()
        reason = f"{self.person.label} is the gateway's last admin"

        def record(db: Db) -> None:
            hold, is_new = ledger.join_hold(db, f"{LAST_ADMIN}:{self.person.id}", reason, now)
            held = replace(self.departure, hold_id=hold.id, state=DepartureState.HELD, problem=reason)
            ledger.put_departure(db, held)
            version = f"{held.accepted_at:.6f}"
            ledger.add_item(db, HoldItem(hold.id, self.person.id, "", held.evidence.value, version))
            if is_new:
                detail = {"hold": hold.id, "reason": reason}
                journal.append(
                    db, at=now, actor="engine", action="hold.opened", subject=self.person.label, detail=detail
                )

        return Outcome(record, None)


def _key_entry(key: GatewayKey) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "alias": key.alias, "team_id": key.team_id}


def _call_entry(call: Call) -> dict[str, Any]:
    return {**asdict(call), "at": rfc3339(call.at), "ms": round(call.ms, 1)}
