"""One poll of one source, as a few sentences: listen, compare, look up, weigh, hold or do.

Whoever moves from one group to another gains before they lose, so that nobody is fenced in between; everybody else
loses before anybody gains.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from idsync.clock import Clock
from idsync.errors import CursorLost, IdsyncError, IncompleteSource
from idsync.intake.polls import DENIALS, Effect, Loss, Polls
from idsync.model import Observation, Origin
from idsync.plan import Limits, Toll, over_limits
from idsync.policy import GroupSpec, Rules
from idsync.polling.compare import Findings, compare
from idsync.polling.progress import Told
from idsync.snapshot import Changes, Look, PolledSource, Progress, Seen, Snapshot, Wanted
from idsync.store import directory, facts, ledger, people, polled
from idsync.store.db import Db

T = TypeVar("T")
DAY = 86400.0
AT_A_TIME = 200
"""Rows written in one transaction: a push that arrives meanwhile waits for one of them."""
LOOKS = 4
"""Looks by id that are under way at the same time; the source's own limits go before this."""
CONTRADICTIONS = 3
"""Looks that contradict a listing, and are most of them, from which on it is taken for one that was narrowed."""
PART_LIVES = 6 * 3600.0
"""Seconds for which what a listing under way has read is still used after a restart."""

log = structlog.get_logger(__name__)


class Telemetry(Protocol):
    """What is counted of polls."""

    def polled(self, source: str, kind: str, result: str, seconds: float) -> None: ...


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


@dataclass
class _Looked:
    """What the looks by id have shown."""

    losses: list[Loss] = field(default_factory=list)
    back: dict[str, Seen] = field(default_factory=dict)
    joins: dict[str, set[str]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


class Undone(Exception):
    """Ends a trial: what was written is undone."""

    def __init__(self, effects: list[Effect]) -> None:
        self.effects = effects
        super().__init__()


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
    ) -> None:
        """`accounts` returns the SSO ids of gateway accounts that nobody is linked to (awaited at full polls)."""
        self._store = store
        self._polls = polls
        self._rules = rules
        self._limits = limits
        self.sources = sources
        self._clock = clock
        self._telemetry = telemetry
        self._accounts = accounts
        self._turns = {name: asyncio.Lock() for name in sources}

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
        async with self._turns[name]:
            return await self._measured(name, "full", lambda: self._full(self.sources[name], dry_run), dry_run)

    async def recent(self, name: str) -> Outcome:
        """Take in what has changed since the last poll; everything, when there is nothing to go on from.

        Raises:
            IncompleteSource: the source did not answer in full; nothing was removed.
        """
        async with self._turns[name]:
            return await self._measured(name, "changes", lambda: self._recent(self.sources[name]))

    async def events(self, name: str) -> Outcome | None:
        """Take in what the event log tells; None before the first full poll.

        Raises:
            IncompleteSource: the source did not answer in full; nothing was removed.
        """
        async with self._turns[name]:
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
            await self._write(lambda db: self._keep(db, source.name, known, start.cursor))
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
            await self._write(lambda db: facts.put(db, f"polled:{source.name}", moved, self._clock.now()))
        return outcome

    async def _events(self, source: PolledSource) -> Outcome:
        cursor = facts.get(self._store.reader(), f"polled_events:{source.name}") or ""
        more, outcome = True, Outcome(source.name, "events", self._clock.now())
        while more and not outcome.frozen:
            try:
                changes = await source.events(cursor)
            except CursorLost:
                log.warning("source.cursor_lost", source=source.name, note="listing everybody anew")
                return await self._full(source, False)
            outcome = _joined(outcome, await self._take(source, changes, "events", ()))
            cursor, more = changes.cursor, changes.more
            if not outcome.frozen:
                await self._write(
                    partial(_put_fact, name=f"polled_events:{source.name}", value=cursor, at=self._clock.now())
                )
        return outcome

    async def _measured(self, name: str, kind: str, poll: Callable[[], Any], dry_run: bool = False) -> Outcome:
        """Run a poll; note when it last succeeded, or how often in a row it has not and why."""
        began = self._clock.monotonic()
        try:
            outcome: Outcome = await poll()
        except IdsyncError as error:
            why = str(error)
            self._telemetry.polled(name, kind, type(error).__name__, self._clock.monotonic() - began)
            log.error("source.failed", source=name, poll=kind, error=why, note="nothing was removed")
            if not dry_run:
                await self._write(lambda db: self._note_failure(db, name, why))
            raise
        self._telemetry.polled(name, kind, "ok", self._clock.monotonic() - began)
        if not dry_run:
            await self._write(lambda db: self._note_success(db, name, outcome))
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
        found = await asyncio.to_thread(lambda: compare(self._store.reader(), self._rules, listing, accounts))
        looked = await self._look_up(source, found, dry_run)
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
        looked: _Looked,
        outcome: Outcome,
        *,
        act: bool,
    ) -> None:
        """Gains of those who move, then losses, then all other gains; without `act`, only say what would be."""
        origin = Origin(name, "poll", listing.at)
        movers = {loss.user.external_id for loss in looked.losses} & (found.joiners | looked.joins.keys())
        if act:
            await self._gain(name, found, looked, origin, only=movers)
        outcome.losses = await self._lose(name, looked, origin, act=act)
        if act:
            await self._gain(name, found, looked, origin, only=None)
        names = {user.external_id: user.user_name for user in listing.users.values()}
        outcome.joins = sorted(
            (names.get(one, one), group.display_name) for group, joins in found.groups for one in joins
        )

    # -- looking up -------------------------------------------------------------------------------------------------

    async def _look_up(self, source: PolledSource, found: Findings, dry_run: bool) -> _Looked:
        """Read everybody who may lose something by id.

        Raises:
            IncompleteSource: most looks contradict the listing, so it was not whole.
        """
        looked = _Looked()
        against = Counter[bool]()
        turn = asyncio.Semaphore(LOOKS)

        async def one(external_id: str, groups: Collection[str]) -> None:
            async with turn:
                _refuse_a_narrowed_listing(source.name, against)
                look = await source.look_up(external_id, sorted(groups))
            against[self._sort(look, groups, looked)] += external_id in found.absent
            if external_id in looked.waiting:
                await self._wait_for_another_word(source, look, looked, dry_run)

        await _all(one(external_id, groups) for external_id, groups in sorted(found.nominated.items()))
        _refuse_a_narrowed_listing(source.name, against)
        return looked

    @staticmethod
    def _sort(look: Look, groups: Collection[str], looked: _Looked) -> bool:
        """Put a look where it belongs; return whether it contradicts what nominated the user."""
        user = look.user
        if user.observation is Observation.UNKNOWN:
            looked.unknown[user.external_id] = user.why
        elif user.observation is Observation.ABSENT:
            looked.waiting.append(user.external_id)
        elif user.observation in DENIALS:
            looked.losses.append(Loss(user))
        else:
            looked.back[user.external_id] = user
            ended = sorted(set(groups) - look.groups) if look.groups is not None else []
            if look.groups:
                looked.joins[user.external_id] = set(look.groups)
            if ended:
                looked.losses.append(Loss(user, tuple(ended)))
            else:
                looked.kept.add(user.external_id)
                return True
        return False

    async def _wait_for_another_word(self, source: PolledSource, look: Look, looked: _Looked, dry_run: bool) -> None:
        """Believe that somebody is gone: at once, or when the source has said so as often as it has to."""
        external_id = look.user.external_id
        before = polled.known_users(self._store.reader(), source.name, [external_id]).get(external_id)
        times = source.patience
        if source.patience > 1 and (before is None or before.observation is Observation.PRESENT) and not dry_run:
            times = await self._write(lambda db: polled.note_absent(db, source.name, external_id, look.user.at))
        if times >= source.patience:
            looked.waiting.remove(external_id)
            looked.losses.append(Loss(look.user))

    # -- losses -----------------------------------------------------------------------------------------------------

    async def _lose(self, name: str, looked: _Looked, origin: Origin, *, act: bool) -> list[Taken]:
        losses = sorted(looked.losses, key=lambda loss: loss.user.external_id)
        effects = [effect for some in _some(losses) for effect in await self._try(name, some, origin)]
        weighed = await self._write(lambda db: self._weigh(db, name, losses, effects, origin, looked.kept, act))
        if act:
            doing = [loss for loss, taken in zip(losses, weighed, strict=True) if taken.state == "done"]
            for some in _some(doing):
                await self._write(partial(self._do, name=name, losses=some, origin=origin))
        return sorted((t for t in weighed if t.departs or t.teams), key=lambda taken: (taken.user, taken.external_id))

    async def _try(self, name: str, losses: Sequence[Loss], origin: Origin) -> list[Effect]:
        """Find out what losses take by writing them down and undoing it: there is no second way to decide."""

        def trial(db: Db) -> None:
            raise Undone([self._polls.lose(db, name, loss, origin) for loss in losses])

        try:
            await self._write(trial)
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

    # -- gains ------------------------------------------------------------------------------------------------------

    async def _gain(
        self, name: str, found: Findings, looked: _Looked, origin: Origin, *, only: Collection[str] | None
    ) -> None:
        """Take in who is new, back, or in another group; `only` these, or everybody (None)."""
        users = [*found.users.values(), *looked.back.values()]
        for some in _some([user for user in users if only is None or user.external_id in only]):
            await self._write(partial(self._polls.take_in, source=name, users=some, origin=origin))
        for group, joins in found.groups:
            chosen = sorted(joins if only is None else joins & set(only))
            more = sorted(
                one
                for one, groups in looked.joins.items()
                if group.external_id in groups and one in group.members and (only is None or one in only)
            )
            if only is not None and not chosen and not more:
                continue
            for joining in _some([*chosen, *(one for one in more if one not in joins)]) or [[]]:
                work = partial(self._polls.take_in_group, source=name, group=group, joins=joining, origin=origin)
                await self._write(work)

    # -- what is asked for --------------------------------------------------------------------------------------------

    def _wanted(self, name: str) -> Wanted:
        """Return which groups of a source the configuration names, and which were bound."""
        db = self._store.reader()
        specs = [spec for rule in self._rules.rules for spec in rule.groups if _may_mean(spec, name)]
        bound = {
            group.external_id
            for binding in people.bindings(db)
            if binding.source == name and self._rules.still_names(binding.kind, binding.target, binding.spec)
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

    async def _write(self, work: Callable[[Db], T]) -> T:
        result: T = await asyncio.wrap_future(self._store.submit(work))
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


def _refuse_a_narrowed_listing(name: str, against: Counter[bool]) -> None:
    if against[True] >= CONTRADICTIONS and against[True] > against[False]:
        msg = (
            f"{name}: {against[True]} of {against.total()} people who were missing from its listing are there when looked"
            " up by id; the listing was not whole (was the role of idsync's service app narrowed?)"
        )
        raise IncompleteSource(msg)


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first error ends the others and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _put_fact(db: Db, *, name: str, value: Any, at: float) -> None:
    facts.put(db, name, value, at)


def _some(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return [items[start : start + AT_A_TIME] for start in range(0, len(items), AT_A_TIME)]


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
