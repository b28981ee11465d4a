"""Losses that looks have confirmed: what each takes, which of them the guard holds, and the doing of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from idsync.clock import Clock
from idsync.intake.polls import Effect, Loss, Polls
from idsync.model import Origin
from idsync.plan import Limits, Toll, over_limits
from idsync.polling.looks import Looked
from idsync.store import ledger, polled
from idsync.store.db import Db
from idsync.store.turns import in_turn

T = TypeVar("T")
DAY = 86400.0
AT_A_TIME = 200
"""Rows written in one transaction: a push that arrives meanwhile waits for one of them."""

log = structlog.get_logger(__name__)


def place_of(source: str) -> str:
    """Return what processes that share a store take turns at when they poll a source."""
    return f"poll:{source}"


@dataclass(frozen=True)
class Taken:
    """One loss that a poll has found. `state` is done, held, kept (somebody rejected it) or planned (a dry run)."""

    user: str
    external_id: str
    person_id: str
    why: str
    departs: bool
    teams: tuple[str, ...]
    state: str
    reason: str = ""
    hold_id: str = ""


class Undone(Exception):
    """Ends a trial: what was written is undone."""

    def __init__(self, effects: list[Effect]) -> None:
        self.effects = effects
        super().__init__()


class Losses:
    """Weighs losses against `[guard]`, and writes down what may be taken now."""

    def __init__(self, store: Any, polls: Polls, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._polls = polls
        self._limits = limits
        self._clock = clock

    def follow(self, limits: Limits) -> None:
        """Weigh by other limits from now on."""
        self._limits = limits

    async def take(self, name: str, looked: Looked, origin: Origin, *, act: bool) -> list[Taken]:
        """Do or hold what the looks have shown, and let go whom a hold has and who is there; without `act`, only tell."""
        losses = sorted(looked.losses, key=lambda loss: loss.user.external_id)
        effects = [effect for some in in_parts(losses) for effect in await self._try(name, some, origin)]
        weighed = await self._write(name, lambda db: self._weigh(db, name, losses, effects, origin, looked.kept, act))
        if act:
            doing = [loss for loss, taken in zip(losses, weighed, strict=True) if taken.state == "done"]
            for some in in_parts(doing):
                await self._write(name, partial(self._do, name=name, losses=some, origin=origin))
        return sorted((t for t in weighed if t.departs or t.teams), key=lambda taken: (taken.user, taken.external_id))

    async def _try(self, name: str, losses: Sequence[Loss], origin: Origin) -> list[Effect]:
        """Find out what losses take by writing them down and undoing it: there is no second way to decide."""

        def trial(db: Db) -> None:
            raise Undone([self._polls.lose(db, name, loss, origin) for loss in losses])

        try:
            await self._write(name, trial)
        except Undone as undone:
            return undone.effects
        return []

    def _weigh(
        self,
        db: Db,
        name: str,
        losses: Sequence[Loss],
        effects: Sequence[Effect],
        origin: Origin,
        kept: Collection[str],
        act: bool,
    ) -> list[Taken]:
        """Say what becomes of each loss, and write the holds. A hold that is open takes no more; later leavers join another."""
        held_now = {held.external_id: held for held in polled.held_losses(db, source=name)}
        fresh = [e for loss, e in zip(losses, effects, strict=True) if loss.user.external_id not in held_now]
        tolls = [Toll(e.person_id, e.departs, e.teams) for e in fresh if e.departs or e.teams]
        taken = polled.lost_since(db, name, self._clock.now() - DAY)
        over = over_limits(
            tolls, self._limits, had=polled.with_access(db, name), taken=taken, sizes=polled.team_sizes(db)
        )
        is_open = any(hold.kind.startswith(f"poll:{name}:") for hold in ledger.holds(db))
        weighed = []
        for loss, effect in zip(losses, effects, strict=True):
            before = held_now.get(loss.user.external_id)
            reason = over.get(effect.person_id, "")
            if not reason and is_open and effect.departs:
                reason = f"a hold of {name} is open: what polling finds meanwhile waits as well"
            weighed.append(self._judge(db, name, loss, effect, before, reason, is_open, origin, act))
        for external_id in sorted(held_now.keys() & kept):
            if act:
                self._polls.release(db, name, external_id, origin, "came back")
        return weighed

    def _judge(
        self,
        db: Db,
        name: str,
        loss: Loss,
        effect: Effect,
        before: polled.HeldLoss | None,
        reason: str,
        is_open: bool,
        origin: Origin,
        act: bool,
    ) -> Taken:
        taken = Taken(
            effect.label,
            loss.user.external_id,
            effect.person_id,
            loss.why,
            effect.departs,
            tuple(sorted(effect.teams)),
            "done",
        )
        if not effect.departs and not effect.teams:
            if before is not None and act:
                self._polls.release(db, name, loss.user.external_id, origin, "has nothing to lose any more")
            return taken
        if before is not None:
            hold = ledger.hold(db, before.hold_id)
            same = Loss.from_json(before.loss).version == loss.version
            if hold is not None and hold.state == "rejected" and same:
                return replace(taken, state="kept", reason="the hold was rejected", hold_id=hold.id)
            if hold is not None and hold.state != "open":
                polled.drop_held(db, name, loss.user.external_id)
            reason = hold.reason if hold is not None and hold.state == "open" else reason
        if not reason:
            return taken
        if not act:
            return replace(taken, state="held", reason=reason)
        kind = f"poll:{name}:later" if is_open else f"poll:{name}:first"
        hold_id = self._polls.hold(db, name, loss, effect, kind, f"{name}: {reason}")
        if before is None:
            log.error("loss.held", source=name, user=effect.label, hold=hold_id, reason=reason)
        return replace(taken, state="held", reason=reason, hold_id=hold_id)

    def _do(self, db: Db, name: str, losses: Sequence[Loss], origin: Origin) -> None:
        for loss in losses:
            self._polls.count(db, name, self._polls.lose(db, name, loss, origin))
            polled.forget_absent(db, name, loss.user.external_id)

    async def _write(self, name: str, work: Callable[[Db], T]) -> T:
        """Write, as long as no other process polls the source by now: theirs is the newer word."""
        result: T = await asyncio.wrap_future(self._store.submit(in_turn(self._store, place_of(name), work)))
        return result


def in_parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Cut a long list into what one transaction takes."""
    return [items[start : start + AT_A_TIME] for start in range(0, len(items), AT_A_TIME)]
