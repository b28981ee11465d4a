"""One poll of one source, as a few sentences: listen, compare, look up, weigh, hold or do.

Whoever moves from one group to another gains before they lose, so that nobody is fenced in between; everybody else
loses before anybody gains.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from idsync.clock import Clock
from idsync.errors import CursorLost, HeldByGuard, IdsyncError
from idsync.intake.polls import Loss, Polls
from idsync.model import Origin
from idsync.plan import Limits
from idsync.policy import GroupSpec, Rules
from idsync.polling.compare import Findings, compare, groups_of
from idsync.polling.looks import Looked, Looks
from idsync.polling.losses import DAY, Losses, Taken, in_parts, place_of
from idsync.polling.progress import Told
from idsync.snapshot import Changes, PolledSource, Progress, Snapshot, Wanted
from idsync.store import directory, facts, people, polled
from idsync.store.db import Db
from idsync.store.polled import HeldLoss
from idsync.store.turns import in_turn, turn
from idsync.traces import UNTRACED, Tracer

T = TypeVar("T")
PART_LIVES = 6 * 3600.0
"""Seconds for which what a listing under way has read is still used after a restart."""

log = structlog.get_logger(__name__)


class Telemetry(Protocol):
    """What is counted of polls."""

    def polled(self, source: str, kind: str, result: str, seconds: float) -> None: ...


@dataclass
class Outcome:
    """What one poll came to. Counts are of users but for `joined`, which counts memberships."""

    source: str
    kind: str
    at: float
    listed: int = 0
    taken_in: int = 0
    joined: int = 0
    ignored: int = 0
    unknown: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    joins: list[tuple[str, str]] = field(default_factory=list)
    losses: list[Taken] = field(default_factory=list)
    frozen: bool = False
    problem: str = ""


class Poller:
    """Polls the configured sources, each by one poll at a time."""

    def __init__(
        self,
        store: Any,
        polls: Polls,
        rules: Rules,
        limits: Limits,
        sources: Mapping[str, PolledSource],
        clock: Clock,
        telemetry: Telemetry,
        accounts: Callable[[], Any] | None = None,
        tracer: Tracer = UNTRACED,
    ) -> None:
        """`accounts` returns the SSO ids of gateway accounts that nobody is linked to (awaited at full polls)."""
        self._store = store
        self._polls = polls
        self._rules = rules
        self._losses = Losses(store, polls, limits, clock)
        self.sources = sources
        self._clock = clock
        self._telemetry = telemetry
        self._accounts = accounts
        self._tracer = tracer
        self._turns = {name: asyncio.Lock() for name in sources}
        self._under_way: dict[str, Rules] = {}
        """The rules a poll began with; it ends with them, so that what it notes as listed is what it has listed."""

    def follow(self, rules: Rules, limits: Limits) -> None:
        """Let polls that begin from now on go by another configuration."""
        self._rules = rules
        self._losses.follow(limits)

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Wait until no other poll of the source is under way, and be the one that is."""
        async with self._turns[name], turn(self._store, place_of(name)):
            self._under_way[name] = self._rules
            try:
                yield
            finally:
                del self._under_way[name]

    def _rules_for(self, name: str) -> Rules:
        return self._under_way.get(name, self._rules)

    async def close(self) -> None:
        """Close every connection to the sources."""
        for source in self.sources.values():
            await source.close()

    # -- the three kinds of polls -----------------------------------------------------------------------------------

    async def full(self, name: str, *, dry_run: bool = False) -> Outcome:
        """List everybody, and take in what differs.

        Raises:
            IncompleteSource: the source did not answer in full; nothing was written.
        """
        async with self._turn(name):
            return await self._measured(name, "full", lambda: self._full(self.sources[name], dry_run), dry_run)

    async def recent(self, name: str) -> Outcome:
        """Take in what has changed since the last poll; everything, when there is nothing to go on from.

        Raises:
            IncompleteSource: the source did not answer in full; nothing was removed.
        """
        async with self._turn(name):
            return await self._measured(name, "changes", lambda: self._recent(self.sources[name]))

    async def events(self, name: str) -> Outcome | None:
        """Take in what the event log tells; None before the first full poll.

        Raises:
            IncompleteSource: the source did not answer in full; nothing was removed.
        """
        async with self._turn(name):
            if self._cursor(name) is None:
                return None
            return await self._measured(name, "events", lambda: self._events(self.sources[name]))

    def is_due(self, name: str, every: float) -> bool:
        """Tell whether everybody has to be listed anew: never done, too long ago, or other groups matter now."""
        known = facts.get(self._store.reader(), f"polled:{name}")
        if known is None or known["wanted"] != _digest(self._wanted(name)):
            return True
        return bool(self._clock.now() - known["full_at"] >= every)

    async def _full(self, source: PolledSource, dry_run: bool) -> Outcome:
        wanted = self._wanted(source.name)
        told = Told(self._store, source.name, self._clock)
        try:
            return await self._listed(source, wanted, dry_run, told)
        finally:
            told.end()

    async def _listed(self, source: PolledSource, wanted: Wanted, dry_run: bool, progress: Progress) -> Outcome:
        start = await source.events("")
        parts = _StoredParts(self._store, source.name, self._clock.now() - PART_LIVES, self._clock)
        snapshot = await source.snapshot(wanted, _NoParts() if dry_run else parts, progress)
        accounts = await self._accounts() if self._accounts is not None else ()
        outcome = await self._take(source, snapshot, "full", accounts, dry_run=dry_run)
        if not dry_run and not outcome.frozen:
            known = {"cursor": snapshot.cursor, "wanted": _digest(self._wanted(source.name)), "full_at": snapshot.at}
            await self._write(source.name, lambda db: self._keep(db, source.name, known, start.cursor))
        return outcome

    def _keep(self, db: Db, name: str, known: Mapping[str, Any], events: str) -> None:
        facts.put(db, f"polled:{name}", known, self._clock.now())
        facts.put(db, f"polled_events:{name}", events, self._clock.now())
        polled.drop_parts(db, name)

    async def _recent(self, source: PolledSource) -> Outcome:
        known = self._cursor(source.name)
        if known is None or known["wanted"] != _digest(self._wanted(source.name)):
            return await self._full(source, False)
        try:
            changes = await source.changes(self._wanted(source.name), known["cursor"])
        except CursorLost:
            log.warning("source.cursor_lost", source=source.name, note="listing everybody anew")
            return await self._full(source, False)
        outcome = await self._take(source, changes, "changes", ())
        if not outcome.frozen:
            moved = {**known, "cursor": changes.cursor}
            await self._write(source.name, lambda db: facts.put(db, f"polled:{source.name}", moved, self._clock.now()))
        return outcome

    async def _events(self, source: PolledSource) -> Outcome:
        cursor = facts.get(self._store.reader(), f"polled_events:{source.name}") or ""
        more, unsaid, outcome = True, False, Outcome(source.name, "events", self._clock.now())
        while more and not outcome.frozen:
            try:
                changes = await source.events(cursor)
            except CursorLost:
                log.warning("source.cursor_lost", source=source.name, note="listing everybody anew")
                return await self._full(source, False)
            outcome = _joined(outcome, await self._take(source, changes, "events", ()))
            cursor, more, unsaid = changes.cursor, changes.more, unsaid or changes.unsaid
            if not outcome.frozen:
                await self._write(
                    source.name,
                    partial(_put_fact, name=f"polled_events:{source.name}", value=cursor, at=self._clock.now()),
                )
        return _joined(outcome, await self._recent(source)) if unsaid and not outcome.frozen else outcome

    async def _measured(self, name: str, kind: str, poll: Callable[[], Any], dry_run: bool = False) -> Outcome:
        """Run a poll; note when it last succeeded, or how often in a row it has not and why."""
        began = self._clock.monotonic()
        try:
            with self._tracer.poll(name, kind):
                outcome: Outcome = await poll()
        except Exception as error:
            why = str(error) if isinstance(error, IdsyncError) else f"a fault of idsync: {type(error).__name__}"
            self._telemetry.polled(name, kind, type(error).__name__, self._clock.monotonic() - began)
            log.error("source.failed", source=name, poll=kind, error=why, note="nothing was removed")
            if not dry_run:
                await asyncio.wrap_future(self._store.submit(lambda db: self._note_failure(db, name, why)))
            raise
        self._telemetry.polled(name, kind, "ok", self._clock.monotonic() - began)
        if not dry_run:
            await self._write(name, lambda db: self._note_success(db, name, outcome))
        return outcome

    def _note_failure(self, db: Db, name: str, why: str) -> None:
        errors = int(facts.get(db, f"source_errors:{name}") or 0) + 1
        facts.put(db, f"source_errors:{name}", errors, self._clock.now())
        facts.put(db, f"source_problem:{name}", why, self._clock.now())

    def _note_success(self, db: Db, name: str, outcome: Outcome) -> None:
        now = self._clock.now()
        facts.put(db, f"source_success:{name}", now, now)
        facts.put(db, f"source_errors:{name}", 0, now)
        facts.drop(db, f"source_problem:{name}")
        polled.forget_lost(db, now - DAY)

    # -- one listing, taken in --------------------------------------------------------------------------------------

    async def _take(
        self,
        source: PolledSource,
        listing: Snapshot | Changes,
        kind: str,
        accounts: Collection[str],
        *,
        dry_run: bool = False,
    ) -> Outcome:
        rules = self._rules_for(source.name)
        found = await asyncio.to_thread(lambda: compare(self._store.reader(), rules, listing, accounts))
        looked = await Looks(self._store, source, dry_run=dry_run).up(found.nominated, found.absent)
        outcome = Outcome(
            source.name, kind, listing.at, len(listing.users), len(found.users) + len(looked.back),
            sum(len(joins) for _, joins in found.groups), len(found.ignored), found.unknown | looked.unknown, looked.waiting,
        )  # fmt: skip
        outcome.frozen = bool(facts.get(self._store.reader(), facts.FROZEN))
        for external_id, why in sorted(outcome.unknown.items()):
            log.warning("source.user_unknown", source=source.name, external_id=external_id, why=why)
        await self._carry_out(source.name, listing, found, looked, outcome, act=not dry_run and not outcome.frozen)
        return outcome

    async def _carry_out(
        self,
        name: str,
        listing: Snapshot | Changes,
        found: Findings,
        looked: Looked,
        outcome: Outcome,
        *,
        act: bool,
    ) -> None:
        """Gains of those who move, then losses, then all other gains; without `act`, only say what would be."""
        origin = Origin(name, "poll", listing.at)
        movers = {loss.user.external_id for loss in looked.losses} & (found.joiners | looked.joins.keys())
        if act:
            await self._gain(name, found, looked, origin, only=movers)
        outcome.losses = await self._losses.take(name, looked, origin, act=act)
        if act:
            await self._gain(name, found, looked, origin, only=None)
        names = {user.external_id: user.user_name for user in listing.users.values()}
        outcome.joins = sorted(
            (names.get(one, one), group.display_name) for group, joins in found.groups for one in joins
        )

    # -- before a hold is approved --------------------------------------------------------------------------------------

    async def confirm(self, hold_id: str) -> None:
        """Look everybody up again from whom a hold would take something: what was seen may be days old.

        Raises:
            HeldByGuard: somebody stands otherwise now; the hold has been brought up to date.
            IncompleteSource: a source did not answer, so nothing can be approved now.
        """
        by_source: dict[str, list[HeldLoss]] = {}
        for held in polled.held_losses(self._store.reader(), hold_id=hold_id):
            by_source.setdefault(held.source, []).append(held)
        for name, losses in sorted(by_source.items()):
            if name not in self.sources:
                msg = f"hold {hold_id} was made for source {name}, which is not configured; `idsync holds reject {hold_id}`"
                raise HeldByGuard(msg)
            async with self._turn(name):
                changed = await self._changed(name, losses)
            if changed:
                msg = (
                    f"the world has changed: {name} says something else now of {', '.join(changed)};"
                    f" run `idsync holds show {hold_id}`"
                )
                raise HeldByGuard(msg)

    async def _changed(self, name: str, losses: Sequence[HeldLoss]) -> list[str]:
        """Return whom a source speaks of otherwise than when their losses were held, once the holds say so too."""
        found = Findings()
        db = self._store.reader()
        before = {held.external_id: Loss.from_json(held.loss) for held in losses}
        known = polled.known_users(db, name, sorted(before))
        for external_id, loss in before.items():
            found.nominate(external_id, loss.ended)
            if external_id in known:
                found.nominate(external_id, groups_of(db, known[external_id]))
        at = self._clock.now()
        looked = await Looks(self._store, self.sources[name]).up(found.nominated)
        now = {loss.user.external_id: loss.version for loss in looked.losses}
        changed = [one for one, loss in sorted(before.items()) if now.get(one) != loss.version]
        if changed:
            origin = Origin(name, "poll", at)
            await self._losses.take(name, looked, origin, act=True)
            await self._gain(name, found, looked, origin, only=None)
        return [before[one].user.user_name for one in changed]

    # -- gains ------------------------------------------------------------------------------------------------------

    async def _gain(
        self, name: str, found: Findings, looked: Looked, origin: Origin, *, only: Collection[str] | None
    ) -> None:
        """Take in who is new, back, or in another group; `only` these, or everybody (None)."""
        users = [*found.users.values(), *looked.back.values()]
        for some in in_parts([user for user in users if only is None or user.external_id in only]):
            await self._write(name, partial(self._polls.take_in, source=name, users=some, origin=origin))
        for group, joins in found.groups:
            chosen = sorted(joins if only is None else joins & set(only))
            more = sorted(
                one
                for one, groups in looked.joins.items()
                if group.external_id in groups and one in group.members and (only is None or one in only)
            )
            if only is not None and not chosen and not more:
                continue
            for joining in in_parts([*chosen, *(one for one in more if one not in joins)]) or [[]]:
                work = partial(self._polls.take_in_group, source=name, group=group, joins=joining, origin=origin)
                await self._write(name, work)

    # -- what is asked for --------------------------------------------------------------------------------------------

    def _wanted(self, name: str) -> Wanted:
        """Return which groups of a source the configuration names, and which were bound."""
        db, rules = self._store.reader(), self._rules_for(name)
        specs = [spec for rule in rules.rules for spec in rule.groups if _may_mean(spec, name)]
        bound = {
            group.external_id
            for binding in people.bindings(db)
            if binding.source == name and rules.still_names(binding.kind, binding.target, binding.spec)
            and (group := directory.group_any(db, binding.group_id)) is not None and group.external_id
        }  # fmt: skip
        return Wanted(
            frozenset(spec.name for spec in specs if spec.name is not None),
            frozenset(spec.id for spec in specs if spec.id is not None),
            frozenset(bound),
        )

    def _cursor(self, name: str) -> dict[str, Any] | None:
        known: dict[str, Any] | None = facts.get(self._store.reader(), f"polled:{name}")
        return known

    async def _write(self, name: str, work: Callable[[Db], T]) -> T:
        """Write what a poll of a source has found, as long as no other process polls it by now."""
        result: T = await asyncio.wrap_future(self._store.submit(in_turn(self._store, place_of(name), work)))
        return result


class _StoredParts:
    """Keeps what a listing has read in the store, so that it goes on after a restart."""

    def __init__(self, store: Any, source: str, since: float, clock: Clock) -> None:
        self._store, self._source, self._since, self._clock = store, source, since, clock

    def get(self, name: str) -> str | None:
        return polled.part(self._store.reader(), self._source, name, self._since)

    def put(self, name: str, text: str) -> None:
        self._store.submit(lambda db: polled.put_part(db, self._source, name, text, self._clock.now()))


class _NoParts:
    """Keeps nothing: a dry run changes nothing."""

    def get(self, _name: str) -> str | None:
        return None

    def put(self, _name: str, _text: str) -> None: ...


def _put_fact(db: Db, *, name: str, value: Any, at: float) -> None:
    facts.put(db, name, value, at)


def _joined(earlier: Outcome, later: Outcome) -> Outcome:
    return replace(
        later,
        at=earlier.at,
        listed=earlier.listed + later.listed,
        taken_in=earlier.taken_in + later.taken_in,
        joined=earlier.joined + later.joined,
        unknown=earlier.unknown | later.unknown,
        waiting=earlier.waiting + later.waiting,
        joins=earlier.joins + later.joins,
        losses=earlier.losses + later.losses,
    )


def _may_mean(spec: GroupSpec, source: str) -> bool:
    return spec.source in (None, source)


def _digest(wanted: Wanted) -> str:
    """Return a fingerprint of what the configuration asks for; what was bound follows from it."""
    text = "\n".join([*sorted(wanted.names), "", *sorted(wanted.ids)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
