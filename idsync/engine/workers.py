"""Claims jobs, converges one person at a time, closes a job only when the gateway agrees, and retries the rest.

Lanes: revocations are claimed first and are never kept waiting by grants, which have only a few places of their own.
A job is never dropped: after a failure it is due again, later and later, and `idsync status` shows why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from idsync.clock import EvenClock
from idsync.engine.accounts import remember
from idsync.engine.desk import Desk, EngineSettings, Outcome, Telemetry
from idsync.engine.leaver import leave
from idsync.engine.member import converge_member
from idsync.engine.wave import Wave
from idsync.errors import AdminKeyRefused, IdsyncError, NeedsPerson, StillAlive, StoreError, Superseded, Throttled
from idsync.gateway.client import Gateway
from idsync.model import DRILL, DepartureState, Lane
from idsync.policy import Rules
from idsync.store import facts, jobs, ledger, people
from idsync.store.db import Db, Store
from idsync.store.jobs import Job
from idsync.store.shift import shift, shift_look
from idsync.traces import UNTRACED, Tracer

IDLE = 5.0
"""Seconds after which the store is asked again although nobody called."""
SHARED_IDLE = 0.5
"""The same where other processes open jobs as well, who may not be able to call."""
FROZEN_PAUSE = 1.0
"""Seconds between two looks for work while grants are frozen: those that are due stay due."""
PARKED_AFTER = 900.0
"""Seconds between tries of a job that only a person can unblock."""
AT_A_TIME = 8
"""Jobs that begin before the event loop turns to requests again."""
ADMIN_KEY_PAUSE = 60.0
STORE_PAUSE = 1.0
CLOCK_STEP = 2.0
"""Seconds by which the wall clock may part from the monotonic one before it counts as set."""
ADMIN_KEY_REMEDY = "put a valid admin key into routero.admin_key_file; it is read again at every try"

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Engine:
    """Runs on one event loop. `wake` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        clock: EvenClock,
        rules: Rules,
        settings: EngineSettings,
        telemetry: Telemetry,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self.store = store
        self.gateway = gateway
        self.clock = clock
        self.rules = rules
        self.settings = settings
        self.telemetry = telemetry
        self.tracer = tracer
        self.on_revoked: Callable[[], None] = lambda: None
        """Called when somebody who was taken something from has been converged."""
        self.owner = store.name
        self._running: dict[Lane, set[asyncio.Task[None]]] = {Lane.REVOKE: set(), Lane.GRANT: set()}
        self._serving: set[str] = set()
        self._again: dict[str, tuple[Lane, Job]] = {}
        """Jobs claimed anew while an earlier run of theirs was ending; they begin when it has ended."""
        self._wanted = asyncio.Event()
        self._progress = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._renewed = clock.monotonic()
        self._wave = Wave()
        self._stopping = False
        self._alarmed = False
        self._unsure = False
        """The store refused, or never said that it had taken: there may be leases of ours that nobody serves."""

    # -- life -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Say that there may be work; safe from the writer thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wanted.set)

    async def run(self) -> None:
        """Work until `stop`; then finish the steps under way."""
        self._loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wanted.clear()
            try:
                await self._mind_the_clock()
                await self._claim_all()
                await self._rest()
            except StoreError as error:  # a full disk, or a database that is away: go on when it is back
                self._unsure = True
                log.error("engine.store_refused", error=str(error))
                await self.progress(STORE_PAUSE)
        await asyncio.gather(*self._running[Lane.REVOKE], *self._running[Lane.GRANT])

    def stop(self) -> None:
        self._stopping = True
        self._wanted.set()

    async def run_until_idle(self, *, tick: Callable[[], None] | None = None) -> None:
        """Work until no job has anything left to do now: `reconcile` and `revoke` without a daemon.

        A job that failed and waits for its next try counts as idle; the caller shows it.
        """
        self._loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            await self._claim_all()
            under_way = self._running[Lane.REVOKE] | self._running[Lane.GRANT]
            if not under_way:
                return
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if tick is not None:
                tick()

    async def progress(self, seconds: float) -> None:
        """Wait until a job has ended, at most so long."""
        try:
            await asyncio.wait_for(self._progress.wait(), seconds)
        except TimeoutError:
            return

    async def _mind_the_clock(self) -> None:
        """Waits are written as wall times; when that clock is set by more than a moment, they are moved with it."""
        step, before = self.clock.strayed(), self.clock.now()
        if abs(step) <= CLOCK_STEP:
            self.clock.follow(step)
            return
        log.warning("clock.set_back" if step < 0 else "clock.set_forward", seconds=round(abs(step), 1))
        if self.store.shared and not self.store.leads:
            self.clock.follow(step)  # whoever leads moves what waits for everybody, once
            return
        moved = self.store.submit(lambda db: shift(db, step, before))
        self.clock.follow(step)  # whatever is written from now on comes after the move, and in the new time
        try:
            await asyncio.wrap_future(moved)
        except StoreError:
            self.clock.follow(-step)
            raise

    async def _rest(self) -> None:
        due = jobs.next_due(self.store.reader())
        longest = SHARED_IDLE if self.store.shared else IDLE
        pause = longest if due is None else min(longest, max(0.0, due - self.clock.now()))
        if self._is_full(Lane.REVOKE) or (self.gateway.probing and self._serving):
            pause = IDLE  # whoever ends calls
        pause = max(pause, min(IDLE, self.gateway.closed_for()), FROZEN_PAUSE if self._is_frozen() else 0.0)
        try:
            await asyncio.wait_for(self._wanted.wait(), pause or 0.05)
        except TimeoutError:
            return

    def _is_frozen(self) -> bool:
        """Tell whether grants wait until somebody says `idsync thaw`."""
        return facts.get(self.store.reader(), facts.FROZEN) is not None

    def _is_full(self, lane: Lane) -> bool:
        return len(self._running[lane]) >= (self.settings.workers if lane is Lane.REVOKE else self.settings.grants)

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def _claim_all(self) -> None:
        await self._renew()
        await self._give_back_the_lost()
        for lane, places in ((Lane.REVOKE, self.settings.workers), (Lane.GRANT, self.settings.grants)):
            if lane is Lane.GRANT and self._is_frozen():
                continue
            free = min(places - len(self._running[lane]), self._room())
            if free > 0 and not self._stopping:
                await self._begin_all(lane, await self._claim(lane, free))

    async def _begin_all(self, lane: Lane, claimed: Sequence[Job]) -> None:
        """Begin jobs a few at a time: each reads the store first, and pushes are answered on the same loop."""
        for number, job in enumerate(claimed, 1):
            if job.person_id in self._serving:
                self._again[job.person_id] = (lane, job)
            else:
                self._begin(lane, job)
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _begin(self, lane: Lane, job: Job) -> None:
        self._serving.add(job.person_id)
        task = asyncio.create_task(self._serve(job))
        self._running[lane].add(task)
        task.add_done_callback(self._finished(lane, job.person_id))

    def _finished(self, lane: Lane, person_id: str) -> Callable[[asyncio.Task[None]], None]:
        def done(task: asyncio.Task[None]) -> None:
            self._running[lane].discard(task)
            self._serving.discard(person_id)
            again = self._again.pop(person_id, None)
            if again is not None and not self._stopping:
                self._begin(*again)
            self._wanted.set()
            self._progress.set()
            self._progress = asyncio.Event()

        return done

    def _room(self) -> int:
        """Return how many jobs may begin now: none while the gateway is not to be called, one to see if it is back.

        Jobs that are not begun stay due, so that all of them go on the moment it answers.
        """
        if self.gateway.closed_for() > 0:
            return 0
        if self.gateway.probing:
            return 0 if self._serving else 1
        return self.settings.workers

    async def _renew(self) -> None:
        """Renew the leases of those who are being served: nobody is claimed again while somebody is at it."""
        now = self.clock.monotonic()
        if not self._serving or now - self._renewed < self.settings.lease / 3:
            return
        serving, until = tuple(self._serving), self.clock.now() + self.settings.lease
        await self._write(lambda db: jobs.renew(db, serving, self.owner, until))
        self._renewed = now

    async def _give_back_the_lost(self) -> None:
        """Free what was leased by a commit whose answer was lost: else it would wait for the whole lease."""
        if self._unsure:
            serving = tuple(self._serving)
            await self._write(lambda db: jobs.release_others(db, self.owner, serving))
            self._unsure = False

    async def _claim(self, lane: Lane, limit: int) -> list[Job]:
        """Lease due jobs; asks with a read first, so that an idle engine writes nothing."""
        now = self.clock.now()
        due = jobs.next_due(self.store.reader())
        if due is None or due > now:
            return []
        lease = self.settings.lease
        return await self._write(lambda db: jobs.claim(db, lane, self.owner, now, lease, limit))

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self.store.submit(work))

    async def _serve(self, job: Job) -> None:
        """Converge one person; whatever happens, the job ends up closed, waiting, or due again.

        A run knows when things are due from its beginning; so its clock is not set until it ends.
        """
        clock = self.clock.held()
        desk = Desk(
            self.store,
            self.gateway,
            clock,
            self.rules,
            self.settings,
            self.telemetry,
            job.person_id,
            job.wanted,
            self._wave,
        )
        try:
            await self._converge(desk, job, clock)
            self._alarmed = False
            if job.lane is Lane.REVOKE:
                self.on_revoked()
        except Superseded:
            await self._give_back(job)
        except StoreError as error:
            log.error("engine.store_refused", error=str(error))
            await self._give_back(job)
        except Exception as error:
            await self._fail(desk, job, error)

    async def _converge(self, desk: Desk, job: Job, clock: EvenClock) -> None:
        person = people.person(desk.db, desk.person_id)
        if person is None or person.generation != desk.generation:
            raise Superseded
        departure = ledger.open_departure(desk.db, person.id)
        if departure is None:
            return await self._end(desk, job, clock, await converge_member(desk, person))
        drill, evidence = departure.source == DRILL, departure.evidence.value
        with self.tracer.departure(departure.id, evidence, drill=drill) as trace:
            return await self._end(desk, job, clock, await leave(desk, person, departure, trace))

    async def _end(self, desk: Desk, job: Job, clock: EvenClock, outcome: Outcome) -> None:
        moved = _moved(outcome, job.person_id, self.clock.ahead_of(clock))
        await desk.write(lambda db: self._close(db, job, moved))

    def _close(self, db: Db, job: Job, outcome: Outcome) -> None:
        outcome.record(db)
        people.resolve_conflicts(db, "account", job.person_id, self.clock.now())
        if outcome.run_at is None:
            jobs.close(db, job.person_id, self.owner, job.wanted)
        else:
            jobs.wait(db, job.person_id, self.owner, job.wanted, outcome.run_at)

    async def _give_back(self, job: Job) -> None:
        """Make a job due again as soon as the store takes a write; in the end its lease runs out by itself."""
        until = self.clock.monotonic() + self.settings.lease
        while True:
            try:
                await self._write(lambda db: self._let_go(db, job))
            except StoreError:
                if self._stopping or self.clock.monotonic() > until:
                    self._unsure = True
                    return
                await asyncio.sleep(STORE_PAUSE)
            else:
                return

    def _let_go(self, db: Db, job: Job) -> None:
        """Release a job. One that another replica has by now may be done there, before our last call arrived: looked at again."""
        if db.shared and not jobs.is_owned(db, job.person_id, self.owner):
            departure = ledger.open_departure(db, job.person_id)
            if departure is not None:
                generation = people.bump_generation(db, job.person_id)
                jobs.open_job(db, job.person_id, Lane.REVOKE, generation, self.clock.now())
        jobs.release(db, job.person_id, self.owner, self.clock.now())

    # -- failures -------------------------------------------------------------------------------------------------

    async def _fail(self, desk: Desk, job: Job, error: Exception) -> None:
        delay = self._delay(job, error)
        self._tell(job, error, delay)
        text = str(error) if isinstance(error, IdsyncError) else f"unexpected {type(error).__name__}"

        def write(db: Db) -> None:
            if isinstance(error, NeedsPerson):
                person = people.person(db, job.person_id)
                if person is not None:
                    remember(db, desk, person, error)
            departure = ledger.open_departure(db, job.person_id)
            if departure is not None:  # what is proven stays proven, and says what keeps it from being looked at again
                parks = isinstance(error, NeedsPerson) and departure.verified_at is None
                ledger.put_problem(db, departure.id, DepartureState.PARKED if parks else departure.state, text)
            again, alive = self.clock.now() + delay, isinstance(error, StillAlive)
            jobs.retry(db, job.person_id, self.owner, job.wanted, again, text, alive=alive)

        try:
            if isinstance(error, StillAlive):
                desk.telemetry.verification("alive")
            await self._write(write)
        except StoreError as failure:
            self._unsure = True
            log.error("engine.store_refused", error=str(failure))

    def _delay(self, job: Job, error: Exception) -> float:
        """Return the seconds until the next try: growing, jittered, never past what a waiting key allows."""
        if isinstance(error, AdminKeyRefused):
            return ADMIN_KEY_PAUSE
        if isinstance(error, NeedsPerson):
            return PARKED_AFTER
        slowest = self.settings.slowest_retry
        backoff = min(slowest, 2.0 ** min(job.attempts, 16)) * (0.5 + self.clock.jitter() / 2)
        if isinstance(error, Throttled) and error.retry_after is not None:
            return max(error.retry_after, backoff)
        return backoff

    def _tell(self, job: Job, error: Exception, delay: float) -> None:
        tried = {"person": job.person_id, "lane": job.lane.value, "attempt": job.attempts + 1}
        again = {"retry_in": round(delay, 1)}
        if isinstance(error, AdminKeyRefused):
            if not self._alarmed:
                log.critical("gateway.admin_key_refused", error=str(error), remedy=ADMIN_KEY_REMEDY)
            self._alarmed = True
        elif isinstance(error, StillAlive):
            log.error("revocation.not_effective", error=str(error), **tried, **again)
        elif isinstance(error, IdsyncError):
            log.warning("job.failed", error=str(error), **tried, **again)
        else:
            log.exception("job.crashed", **tried, **again)


def _moved(outcome: Outcome, person_id: str, step: float) -> Outcome:
    """Return what a run wants written, in the time the clock was set to while it went on."""
    at = outcome.run_at
    if at is None or abs(step) <= CLOCK_STEP:
        return outcome

    def record(db: Db) -> None:
        outcome.record(db)
        shift_look(db, person_id, at, step)

    return Outcome(record, at + step)
