"""Keeps the shared keys of teams as the configuration wants them: looks, plans, and does what is due, one turn at a time.

A scheduled pass looks at every key. In between it wakes when somebody's access has ended, and now and then, and looks
only at keys that are due by what the store says. Whatever fails is tried again, later and later, and shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from idsync.clock import epoch_of
from idsync.errors import (
    AdminKeyRefused,
    GatewayError,
    IdsyncError,
    NotFound,
    Rejected,
    StillAlive,
    StoreError,
    Throttled,
    Unsupported,
)
from idsync.keys.due import AT_ONCE, MAKING, Sight, WantedKey, plan_keys, rotate_at
from idsync.keys.ending import end_replaced, end_undelivered
from idsync.keys.issuing import Asked, issue
from idsync.keys.kit import ACTOR, PLACE, Kit
from idsync.keys.looking import leavers_of, look
from idsync.keys.making import Maker, settings_of
from idsync.model import Lane
from idsync.plan import Change
from idsync.store import facts, jobs, journal, teamkeys
from idsync.store.db import Db
from idsync.store.teamkeys import TeamKey
from idsync.store.turns import turn

BEAT = 15.0
"""Seconds between two looks into the store for what is due, when nobody calls."""
SLOWEST = 6 * 3600.0
"""Seconds between two tries of a rotation that keeps failing, at most."""
GIVES_WAY = 30.0
"""Seconds for which rotations wait for revocations that are under way: one rotation serves all who leave together."""

CALM: Mapping[str, Any] = {"attempts": 0, "error": None, "failing_since": None, "next_try_at": None}
"""What is known of a key that nothing is wrong with."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Problem:
    """Why something was not done. `alive`: a key that is to be dead is still shown."""

    what: str
    alive: bool = False


@dataclass(frozen=True)
class Turn:
    """What was due, and by alias what failed and why."""

    changes: Sequence[Change]
    failed: Mapping[str, Problem]


class Keeper:
    """Works on one event loop. `wake` may be called on it from anywhere."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.maker = Maker(kit)
        self.one_at_a_time = asyncio.Lock()
        self.every = BEAT
        self._woken = asyncio.Event()
        self._stopping = False
        self._waits_since: float | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Say that somebody's access has ended."""
        self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()

    async def follow(self, wanted: Mapping[str, WantedKey]) -> None:
        """Keep other keys from the next turn on."""
        async with self.one_at_a_time:
            self.kit.wanted = wanted
        self.wake()

    async def close(self) -> None:
        """Let go of every secret, and of the sinks; what is not delivered is ended by the next run."""
        self.maker.forget()
        for sink in self.kit.sinks.values():
            await sink.close()

    async def run(self) -> None:
        """Work until `stop`; then finish the step under way."""
        while not self._stopping:
            self._woken.clear()
            try:
                if self.kit.store.leads:
                    await self.beat()
            except (GatewayError, StoreError) as error:
                log.warning("keys.failed", error=str(error))
            except Exception:
                log.exception("keys.crashed")
            try:
                await asyncio.wait_for(self._woken.wait(), self.every)
            except TimeoutError:
                continue

    async def beat(self) -> Turn | None:
        """Do what the store says is due; None when that is nothing, or has to wait for revocations."""
        due = await self.kit.read(self._due)
        if due is None or self._gives_way():
            return None
        return await self.turn(due)

    def _gives_way(self) -> bool:
        """Tell whether people are being revoked just now: they go first, for a while."""
        under_way = any(
            job.lane is Lane.REVOKE and not job.waiting and not job.attempts for job in jobs.all_jobs(self.kit.db)
        )
        now = self.kit.clock.monotonic()
        if not under_way:
            self._waits_since = None
            return False
        self._waits_since = now if self._waits_since is None else self._waits_since
        return now - self._waits_since < GIVES_WAY

    def _due(self, db: Db) -> frozenset[str] | None:
        """Return the keys that are due by what the store says; None when there is nothing to do at all."""
        now = self.kit.clock.now()
        known = {key.alias: key for key in teamkeys.every(db)}
        left = leavers_of(db, self.kit.wanted.values(), now).keys() | teamkeys.offered(db)
        due = frozenset(
            alias
            for alias in self.kit.wanted
            if _is_due(known.get(alias), now, left=alias in left) and not _rests(known.get(alias), now)
        )
        other = any(key.end_at <= now for key in teamkeys.ending(db)) or bool(self._lost(db))
        return due if due or other else None

    def _lost(self, db: Db) -> list[teamkeys.Undelivered]:
        """Return the keys that no sink can have and no memory holds the secret of: they are to end."""
        kept = self.maker.kept
        found = [key for key in teamkeys.undelivered(db) if key.called not in kept]
        return [key for key in found if not key.offered or key.owner is not None]

    # -- a turn ---------------------------------------------------------------------------------------------------

    async def plan(self, aliases: Iterable[str] | None = None) -> list[Change]:
        """Return what is due, changing nothing.

        Raises:
            GatewayError: the gateway could not be read.
        """
        view = await look(self.kit, self.kit.wanted if aliases is None else aliases)
        for failure in view.failed.values():
            raise failure
        ending = [key for key in teamkeys.ending(self.kit.db) if aliases is None or key.alias in aliases]
        return plan_keys(view.sights, ending, self.kit.clock.now())

    async def turn(self, aliases: Iterable[str] | None = None, *, hurry: bool = False) -> Turn:
        """Look at these keys, or at all, and do what is due; `hurry`: also what failed and waits for its next try.

        Raises:
            GatewayError: the gateway could not be read, or does not let us in.
        """
        async with self.one_at_a_time, turn(self.kit.store, PLACE):
            return await self._turn(aliases, hurry=hurry)

    async def _turn(self, aliases: Iterable[str] | None, *, hurry: bool) -> Turn:
        failed = await self._end_all()
        view = await look(self.kit, self.kit.wanted if aliases is None else aliases)
        failed |= {alias: Problem(str(error)) for alias, error in view.failed.items()}
        await self._note_seen(view.sights)
        sights = {sight.wanted.alias: sight for sight in view.sights}
        changes = plan_keys(view.sights, (), self.kit.clock.now())
        for change in changes:
            problem = await self._take(sights[change.subject], change, hurry=hurry)
            if problem is not None:
                failed[change.subject] = problem
        failed |= await self._end_all()
        await self._rename(change.subject for change in changes if change.kind in MAKING)
        return Turn(changes, failed)

    async def _take(self, sight: Sight, change: Change, *, hurry: bool) -> Problem | None:
        """Do a change if it may be done now; return what keeps or kept it from that."""
        if change.kind == "key.refused":
            return Problem(change.why)
        if not hurry and sight.known is not None and _rests(sight.known, self.kit.clock.now()):
            return Problem(str(sight.known.error))
        if self._is_frozen() and not _goes_on(change, sight):
            return None
        return await self._carry_out(sight, change)

    def _is_frozen(self) -> bool:
        return facts.get(self.kit.db, facts.FROZEN) is not None

    async def _end_all(self) -> dict[str, Problem]:
        """End what was replaced and has no grace left, and what lost its secret; one that fails never stops the others."""
        failed: dict[str, Problem] = {}
        for lost in self._lost(self.kit.db):
            try:
                await end_undelivered(self.kit, lost)
            except (StillAlive, GatewayError) as error:
                failed[lost.alias] = _told("key.not_ended", lost.alias, error)
        for old in teamkeys.ending(self.kit.db):
            if old.end_at > self.kit.clock.now():
                continue
            try:
                await end_replaced(self.kit, old)
            except (StillAlive, GatewayError) as error:
                failed[old.alias] = _told("key.not_ended", old.alias, error)
        return failed

    async def _note_seen(self, sights: Iterable[Sight]) -> None:
        """Keep when keys expire: between passes the store is asked. A trouble that is over is forgotten."""
        now = self.kit.clock.now()
        for sight in sights:
            if sight.known is None or sight.shown is None:
                continue
            expires = epoch_of(sight.shown.expires)
            seen = replace(
                sight.known, team=sight.wanted.team, expires_at=expires, rotate_at=rotate_at(sight.wanted, expires)
            )
            if not plan_keys([sight], (), now):
                seen = replace(seen, **CALM)
            if seen != sight.known:
                await self.kit.write(partial(teamkeys.put, key=seen))

    async def _carry_out(self, sight: Sight, change: Change) -> Problem | None:
        """Do one change; return why it failed. One failing key never stops the others.

        Raises:
            AdminKeyRefused, Throttled: no other one would fare better.
        """
        try:
            if change.kind in MAKING:
                await self.maker.renew(sight, change)
            elif change.kind == "key.adopt":
                await self._adopt(sight, change)
            else:
                await self._update(sight, change)
        except IdsyncError as error:
            if change.kind in MAKING:
                self.kit.telemetry.key_rotation("failed")
            await self._note_failure(sight, error)
            if isinstance(error, (AdminKeyRefused, Throttled)):
                raise
            return _told("key.rotation_failed" if change.kind in MAKING else "key.failed", change.subject, error)
        return None

    async def _note_failure(self, sight: Sight, error: IdsyncError) -> None:
        """Write down why, and when it is tried again."""

        def write(db: Db) -> None:
            wanted, now = sight.wanted, self.kit.clock.now()
            known = teamkeys.get(db, wanted.alias) or TeamKey(wanted.alias, wanted.team)
            pause = min(SLOWEST, 2.0 ** min(known.attempts, 16)) * (0.5 + self.kit.clock.jitter() / 2)
            since, tries = known.failing_since or now, known.attempts + 1
            failing = replace(known, attempts=tries, error=str(error), failing_since=since, next_try_at=now + pause)
            teamkeys.put(db, failing)

        await self.kit.write(write)

    async def _adopt(self, sight: Sight, change: Change) -> None:
        """Take over a key that is there: it is in no sink of ours until its first rotation."""

        def write(db: Db) -> None:
            wanted, now = sight.wanted, self.kit.clock.now()
            found = sight.namesakes[0]
            expires = epoch_of(found.expires)
            key = TeamKey(wanted.alias, wanted.team, found.id, expires_at=expires, rotate_at=rotate_at(wanted, expires))
            teamkeys.put(db, key)
            _note(db, now, change, {"team": wanted.team, "key_id": found.id, "why": change.why})

        await self.kit.write(write)

    async def _update(self, sight: Sight, change: Change) -> None:
        if sight.shown is None:
            return
        fields = settings_of(change)
        try:
            await self.kit.gateway.update_key(sight.shown.id, **fields)
        except (Unsupported, Rejected):
            if fields.keys() != {"alias"}:
                raise
            name = sight.shown.alias  # it keeps the one it was made with
            await self.kit.write(lambda db: _change(db, change.subject, name=name))
            return
        detail = {"key_id": sight.shown.id, "why": change.why, **fields}
        await self.kit.write(lambda db: _settled(db, self.kit.clock.now(), change, detail))

    async def _rename(self, made: Iterable[str]) -> None:
        """Give new keys the alias of those they have replaced, once these are gone."""
        for sight in (await look(self.kit, made)).sights:
            for change in plan_keys([sight], (), self.kit.clock.now()):
                if change.kind == "key.update":
                    await self._carry_out(sight, change)

    # -- by hand --------------------------------------------------------------------------------------------------

    async def rotate(self, alias: str, *, compromised: bool, by: str) -> Turn:
        """Rotate a key because somebody asks for it; asked for once, it is tried until it is done.

        Raises:
            NotFound: the configuration has no such key, or none was made yet.
            GatewayError: the gateway could not be read.
        """
        async with self.one_at_a_time, turn(self.kit.store, PLACE):
            self.managed(alias)
            await self.kit.write(lambda db: _asked(db, self.kit.clock.now(), alias, compromised=compromised, by=by))
            return await self._turn([alias], hurry=True)

    async def issue(self, asked: Asked) -> dict[str, Any]:
        """Make a personal key; see `issuing`."""
        async with self.one_at_a_time, turn(self.kit.store, PLACE):
            return await issue(self.kit, asked)

    def managed(self, alias: str) -> TeamKey:
        """Return a key that can be rotated.

        Raises:
            NotFound: the configuration has no such key, or none was made yet.
        """
        if alias not in self.kit.wanted:
            known = ", ".join(sorted(self.kit.wanted)) or "none"
            msg = f"no [[teams.keys]] of the configuration has the alias {alias!r} (there are: {known})"
            raise NotFound(msg)
        key = teamkeys.get(self.kit.db, alias)
        if key is None or key.key_id is None:
            msg = f"key {alias} was never made; `idsync reconcile` makes it, and says what keeps it from that"
            raise NotFound(msg)
        return key


def _is_due(key: TeamKey | None, now: float, *, left: bool) -> bool:
    if key is None or key.key_id is None:
        return key is not None  # the first one is made by a pass, which sets the team up; a failed one is tried again
    return left or key.asked or key.error is not None or (key.rotate_at is not None and key.rotate_at <= now)


def _rests(key: TeamKey | None, now: float) -> bool:
    """Tell whether a key has failed and its next try is still to come."""
    return key is not None and key.error is not None and (key.next_try_at or now) > now


def _goes_on(change: Change, sight: Sight) -> bool:
    """Tell what is done although grants are frozen: what takes a secret from somebody, and what a person asked for."""
    return bool(change.fields.get(AT_ONCE)) or (sight.known is not None and sight.known.asked)


def _change(db: Db, alias: str, **fields: Any) -> None:
    key = teamkeys.get(db, alias)
    if key is not None:
        teamkeys.put(db, replace(key, **fields))


def _settled(db: Db, now: float, change: Change, detail: Mapping[str, object]) -> None:
    _change(db, change.subject, **CALM)
    _note(db, now, change, detail)


def _asked(db: Db, now: float, alias: str, *, compromised: bool, by: str) -> None:
    _change(db, alias, asked_at=now, asked_by=by, compromised=compromised)
    detail = {"compromised": compromised}
    journal.append(db, at=now, actor=f"cli/{by}", action="key.rotation_asked", subject=alias, detail=detail)


def _note(db: Db, now: float, change: Change, detail: Mapping[str, object]) -> None:
    journal.append(db, at=now, actor=ACTOR, action=change.kind, subject=change.subject, detail=detail)


def _told(event: str, alias: str, error: IdsyncError) -> Problem:
    alive = isinstance(error, StillAlive)
    (log.error if alive else log.warning)(event, alias=alias, error=str(error))
    return Problem(str(error), alive)
