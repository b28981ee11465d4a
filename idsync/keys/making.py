"""Making a key for its sink, so that at every instant at most one secret exists that nobody has.

    check the sink -> end what an earlier life left -> note the alias -> the gateway makes it -> note its id
    -> deliver -> note that it is delivered, and that the old one ends

The secret is in this process's memory and nowhere else. A sink that fails gets the same one again, until the secret is
let go; its key stays until the sink takes secrets again, because it may have taken this one, and is ended before the next
is made. What died before the key was offered to the sink is ended at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from pydantic import SecretStr

from idsync.clock import epoch_of, new_id
from idsync.engine.looking import living
from idsync.errors import NotFound, Rejected, SinkFailed, StoreError, Unsupported
from idsync.gateway.client import NewKey
from idsync.keys.due import AT_ONCE, DAY, Sight, rotate_at
from idsync.keys.ending import end_undelivered
from idsync.keys.kit import ACTOR, Kit
from idsync.model import MANAGED
from idsync.plan import Change
from idsync.sinks.base import Delivery, Sink
from idsync.store import journal, teamkeys
from idsync.store.db import Db
from idsync.store.teamkeys import Ending, TeamKey, Undelivered

KEPT = 3600.0
"""Seconds for which a secret that its sink did not take is kept in memory, to be delivered again."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Kept:
    """A key that was made and is not delivered. `since`: monotonic seconds."""

    made: Undelivered
    key: NewKey = field(repr=False)
    since: float


class Maker:
    """Makes keys of teams, one at a time."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._kept: dict[str, Kept] = {}

    @property
    def kept(self) -> frozenset[str]:
        """The temporary aliases of keys whose secrets are in memory."""
        return frozenset(kept.made.called for kept in self._kept.values())

    def forget(self) -> None:
        """Let go of every secret."""
        self._kept.clear()

    async def renew(self, sight: Sight, change: Change) -> None:
        """Make a key, or take the one that was made before, and deliver it; the old one ends after its grace.

        Raises:
            SinkFailed: the sink has not taken it, or nobody knows; the old key works on.
            NotFound: its team is not there.
            GatewayError: the gateway could not make it, or not end what an earlier life left.
        """
        sink = self._kit.sinks[sight.wanted.sink]
        kept = await self._still_kept(sight.wanted.alias)
        if kept is None:
            problems = await _checked(sink)
            if problems:
                raise SinkFailed("; ".join(problems))
            await self._end_earlier(sight.wanted.alias)
            kept = self._kept[sight.wanted.alias] = await self._make(sight)
        try:
            await offer(sink, delivery_of(kept.key, sight.wanted.alias, sight.wanted.team))
            await self._kit.write(lambda db: self._note_delivered(db, sight, change, kept))
        except (SinkFailed, StoreError):
            await self._note_doubt(kept.made)
            raise
        del self._kept[sight.wanted.alias]
        self._kit.telemetry.key_rotation("delivered")

    async def _note_doubt(self, made: Undelivered) -> None:
        """Another process may have taken over, ended this key and delivered its own, before the sink took this one."""
        with contextlib.suppress(StoreError):
            await asyncio.wrap_future(self._kit.store.submit(lambda db: teamkeys.put_back(db, made)))

    async def _still_kept(self, alias: str) -> Kept | None:
        """Return the key whose secret is in memory, if it is not too old and nobody has ended it."""
        kept = self._kept.get(alias)
        if kept is None:
            return None
        is_old = self._kit.clock.monotonic() - kept.since > KEPT
        if not is_old and await self._lives(kept.key.id):
            return kept
        del self._kept[alias]
        self._kit.telemetry.key_rotation("given up")
        log.warning("keys.given_up", alias=alias, key_id=kept.key.id, old=is_old)
        return None

    async def _lives(self, key_id: str) -> bool:
        try:
            return bool(await living(self._kit.gateway, [key_id]))
        except Unsupported:
            return True

    async def _end_earlier(self, alias: str) -> None:
        """End the key of an earlier try, which the sink may have: now that it takes secrets, it gets another."""
        for key in teamkeys.undelivered(self._kit.db):
            if key.alias == alias:
                await end_undelivered(self._kit, key)

    async def _make(self, sight: Sight) -> Kept:
        wanted, kit = sight.wanted, self._kit
        if sight.team_id is None:
            raise NotFound(f"team {wanted.team} is not set up at the gateway yet; `idsync reconcile` does that")
        settings: dict[str, Any] = {"models": wanted.models, "max_budget": wanted.max_budget}
        made, key = await make(kit, wanted.alias, wanted.duration, team_id=sight.team_id, **settings)
        return Kept(made, key, kit.clock.monotonic())

    def _note_delivered(self, db: Db, sight: Sight, change: Change, kept: Kept) -> None:
        """Write down that the sink has the new key, and when the one before it ends."""
        wanted, now = sight.wanted, self._kit.clock.now()
        before = teamkeys.get(db, wanted.alias) or TeamKey(wanted.alias, wanted.team)
        at_once = bool(change.fields.get(AT_ONCE))
        if before.key_id is not None:
            ends = now if at_once else now + wanted.grace
            teamkeys.replace(db, Ending(before.key_id, wanted.alias, f"replaced: {change.why}", ends))
        if at_once:
            teamkeys.hasten(db, wanted.alias, f"replaced: {change.why}", now)
        expires = epoch_of(kept.key.expires) or kept.made.made_at + wanted.duration
        at = kept.made.made_at
        served = tuple(sorted(leaver.tag for leaver in sight.leavers if leaver.since > at))
        renewed = TeamKey(
            wanted.alias,
            wanted.team,
            kept.key.id,
            wanted.sink,
            made_at=at,
            delivered_at=now,
            expires_at=expires,
            rotate_at=rotate_at(wanted, expires),
            served=served,
        )
        teamkeys.put(db, renewed)
        teamkeys.end(db, kept.made.called)
        detail = {"team": wanted.team, "key_id": kept.key.id, "replaced": before.key_id, "sink": wanted.sink}
        action = "key.rotated" if before.key_id is not None else "key.made"
        journal.append(
            db, at=now, actor=ACTOR, action=action, subject=wanted.alias, detail={**detail, "why": change.why}
        )
        log.info(action, alias=wanted.alias, why=change.why, **detail)


async def make(
    kit: Kit, alias: str, duration: float | None, *, user_id: str | None = None, **settings: Any
) -> tuple[Undelivered, NewKey]:
    """Note that a key is going to be made, make it, and note its id before anybody is offered it.

    It is made under an alias of its own: aliases are unique at the gateway, and by this one it is found after a crash.

    Raises:
        Rejected: the gateway does not make it.
        GatewayError: unknown whether it was made; the note stays, and whoever comes next looks for it.
    """
    made = Undelivered(f"{alias}.{new_id()[:8]}", alias, user_id, None, offered=False, made_at=kit.clock.now())
    await kit.write(lambda db: teamkeys.begin(db, made))
    try:
        key = await kit.gateway.generate_key(
            alias=made.called,
            duration=None if duration is None else written(duration),
            user_id=user_id,
            metadata={MANAGED: alias},
            **settings,
        )
    except Rejected:
        await kit.write(lambda db: teamkeys.end(db, made.called))
        raise
    await kit.write(lambda db: teamkeys.offer(db, made.called, key.id))
    return replace(made, key_id=key.id, offered=True), key


def written(seconds: float) -> str:
    """Write a duration as the gateway reads it: "90d", else seconds."""
    return f"{seconds / DAY:.0f}d" if seconds % DAY == 0 else f"{max(1.0, seconds):.0f}s"


def delivery_of(key: NewKey, alias: str, team: str | None) -> Delivery:
    return Delivery(SecretStr(key.secret), alias, team, key.id, epoch_of(key.expires))


async def _checked(sink: Sink) -> list[str]:
    """Ask a sink what would keep it; one that fails at saying so says the kind of failure."""
    try:
        return await sink.check()
    except SinkFailed as error:
        return [str(error)]


async def offer(sink: Sink, delivery: Delivery) -> None:
    """Deliver; whatever goes wrong within a sink is told without a word of what it had at hand.

    Raises:
        SinkFailed: it has not taken the secret, or nobody knows.
    """
    try:
        await sink.deliver(delivery)
    except SinkFailed:
        raise
    except Exception as error:
        msg = f"sink {sink.name} failed unexpectedly ({type(error).__name__}); run `idsync sinks test {sink.name}`"
        raise SinkFailed(msg) from None


def settings_of(change: Change) -> Mapping[str, Any]:
    """Return what a key.update writes."""
    return {name: change.fields[name] for name in ("models", "max_budget", "alias") if name in change.fields}
