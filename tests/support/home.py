"""idsync in this process: everything but the servers, on an event loop in a thread, driven from plain tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from idsync import config
from idsync.app import Core, opened
from idsync.app.parts import sources_of
from idsync.audit import AuditEvent
from idsync.clock import Clock
from idsync.control import find_person
from idsync.engine.desk import EngineSettings
from idsync.model import Person
from idsync.polling.passes import Outcome
from idsync.snapshot import PolledSource
from idsync.store import jobs, journal, ledger, people
from idsync.store.db import Db
from idsync.store.ledger import Departure
from support.directory import Directory, mail
from support.waiting import until

T = TypeVar("T")
PATIENCE = 30.0


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


class Home:
    """An opened core. `working`: its engine runs all the time; otherwise only in `work_off`.

    `hasty`: polled sources do not wait between two tries.
    """

    def __init__(
        self,
        settings: Path,
        *,
        working: bool = True,
        engine: EngineSettings | None = None,
        polled: Mapping[str, PolledSource] | None = None,
        hasty: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._polled = polled
        self._hasty = hasty
        self._clock = clock
        self._working = working
        self._engine = engine
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="idsync-home", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE), "idsync did not open"
        if self._error is not None:
            self._thread.join()
            raise self._error
        self.directory = Directory(self.core.store, self.core.intake)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            more: dict[str, Any] = {} if self._polled is None else {"sources": lambda *_: self._polled}
            if self._hasty:
                more = {"sources": partial(sources_of, sleep=_at_once)}
            made = config.load(str(self._settings), {}).config
            async with opened(made, clock=self._clock, role="all", **more) as core:
                await self._serve(core)
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self, core: Core) -> None:
        self.core = core
        if self._engine is not None:
            core.engine.settings = self._engine
        await core.reconciler.apply()
        work = (core.engine.run, core.keeper.run) if self._working else ()
        workers = [asyncio.create_task(run()) for run in work]
        self._ready.set()
        await self._stopping.wait()
        core.engine.stop()
        core.keeper.stop()
        await asyncio.gather(*workers)

    # -- doing ------------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on idsync's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    @contextmanager
    def running(self, work: Coroutine[Any, Any, T]) -> Iterator[Future[T]]:
        """Run something on idsync's own loop meanwhile; at the end it has ended."""
        going = asyncio.run_coroutine_threadsafe(work, self._loop)
        yield going
        going.result(PATIENCE)

    def write(self, work: Callable[[Db], T]) -> T:
        return self.core.store.write(work)

    def work_off(self) -> None:
        """Do what is due, once; what fails waits for its next try."""
        self.run(self.core.engine.run_until_idle())

    def reconcile(self) -> dict[str, Any]:
        return self.run(self.core.commands(alone=not self._working).reconcile())

    def poll(self, source: str, kind: str = "full", **more: Any) -> Outcome:
        """Poll a source once: everybody (full), what has changed (recent), or its event log (events)."""
        outcome: Outcome = self.run(getattr(self.core.poller, kind)(source, **more))
        return outcome

    def revoke(self, login: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"user": mail(login), "reason": "test", "by": "test", "override": False}
        return self.run(self.core.commands(alone=not self._working).revoke(**asked))

    def link(self, login: str, account_id: str) -> None:
        self.write(lambda db: self.core.control.link(db, mail(login), account_id, by="test"))

    def offboard(self, login: str) -> None:
        """Push that somebody leaves, and wait until that is verified."""
        self.directory.leave(login)
        self.wait_until_verified(login)

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def db(self) -> Db:
        return self.core.store.reader()

    def person(self, login: str) -> Person:
        found = find_person(self.db, mail(login))
        assert found is not None, f"nobody is called {login}"
        return found

    def account_of(self, login: str) -> str:
        account = self.person(login).account_id
        assert account is not None, f"{login} has no account"
        return account

    def departure(self, login: str) -> Departure:
        """Return the newest departure of a person."""
        return ledger.departures_of(self.db, self.person(login).id)[-1]

    def state(self, login: str) -> str:
        return self.departure(login).state.value

    def wait_for(self, login: str, *states: str) -> Departure:
        until(lambda: self.state(login) in states, f"{login} is {' or '.join(states)}", told=self._troubles)
        return self.departure(login)

    def wait_until_verified(self, *logins: str) -> None:
        for login in logins:
            until(partial(self._verified_at, login), f"{login} is verified", told=self._troubles)

    def _verified_at(self, login: str) -> float | None:
        return self.departure(login).verified_at

    def wait_until_quiet(self) -> None:
        until(lambda: not self.busy(), "no job is due", told=self._troubles)

    def busy(self) -> bool:
        """Tell whether somebody has something left to do now; a look or a deletion that waits does not count."""
        return any(job.leased or not job.waiting for job in jobs.all_jobs(self.db))

    def wait_until_idle(self, login: str) -> None:
        """Wait until nobody works on this person: their job is done, waits, or is to be tried again later."""

        def idle() -> bool:
            job = jobs.get(self.db, self.person(login).id)
            return job is None or (not job.leased and (job.waiting or job.attempts > 0))

        until(idle, f"nobody works on {login}", told=self._troubles)

    def failed_job(self, login: str) -> jobs.Job | None:
        """Return the job of a person once it has failed and nobody works on it."""
        job = jobs.get(self.db, self.person(login).id)
        return job if job is not None and job.attempts > 0 and not job.leased else None

    def hurry(self) -> None:
        """Try again now what failed and waits for another try."""
        self.write(lambda db: jobs.hurry(db, self.core.clock.now()))
        self.core.engine.wake()

    def _troubles(self) -> list[str | None]:
        return [job.last_error for job in jobs.all_jobs(self.db)]

    def holds(self) -> list[ledger.Hold]:
        return ledger.holds(self.db)

    def approve(self, hold: ledger.Hold) -> None:
        checksum = ledger.checksum(ledger.items(self.db, hold.id))
        self.run(self.core.commands(alone=False).approve(hold_id=hold.id, checksum=checksum, by="test"))

    def trail(self) -> list[AuditEvent]:
        """Return the audit trail, oldest entry first, once everything that was written is linked into its chain."""
        until(lambda: journal.unlinked(self.db) == 0, "the trail is linked")
        return list(journal.events(self.db))

    def told(self, action: str) -> list[dict[str, Any]]:
        """Return the details of the audit entries of an action, oldest first."""
        return [dict(entry.detail) for entry in self.trail() if entry.action == action]

    def conflicts(self) -> list[people.Conflict]:
        return people.conflicts(self.db)
