"""Four ways to get it wrong, each small enough to slip into a review. The judge has to convict every one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from crash.points import Crash, Fuse, FusedStore, Program
from idsync.app import Core
from idsync.clock import Clock
from idsync.config import Config
from idsync.engine.workers import Engine
from idsync.model import Lane
from idsync.policy import Rules
from idsync.standing import People
from idsync.store.db import Db, Row
from idsync.store.jobs import Job

T = TypeVar("T")


class _Hasty(FusedStore):
    def write(self, run: Callable[[Db], T]) -> T | None:  # type: ignore[override]
        with suppress(Crash):
            return super().write(run)
        return None


class AcknowledgeFirst(Program):
    """Answers the identity provider, and commits then: whoever pushed has their 2xx, whatever becomes of the commit."""

    store = _Hasty


class _Marking(Engine):
    async def _serve(self, job: Job) -> None:
        await self._write(partial(_mark, person=job.person_id))
        await super()._serve(job)


def _mark(db: Db, person: str) -> None:
    """Write a job down as one with nothing to do any more; who does it goes on."""
    db.execute("UPDATE jobs SET run_at = :never WHERE person_id = :person", never=1e12, person=person)


class MarkFirst(Program):
    """Marks a job as done, and does it then."""

    def complete(self, core: Core) -> None:
        engine = core.engine
        core.engine = _Marking(
            engine.store, engine.gateway, engine.clock, engine.rules, engine.settings, engine.telemetry
        )
        core.intake.people.on_jobs = core.engine.wake


class _Forgetful(People):
    """Leaves the jobs that a change causes to a transaction of their own."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        super().__init__(rules, clock)
        self.later: list[tuple[str, Lane]] = []

    def open_job(self, db: Db, person_id: str, lane: Lane) -> None:
        self.later.append((person_id, lane))

    def open_later(self, db: Db) -> None:
        while self.later:
            super().open_job(db, *self.later.pop(0))


class _Twice(FusedStore):
    people: _Forgetful | None = None

    def write(self, run: Callable[[Db], T]) -> T:
        done = super().write(run)
        if self.people is not None:
            super().write(self.people.open_later)
        return done


class TwoTransactions(Program):
    """Commits a change, and the job that it causes in a second transaction."""

    store = _Twice

    def complete(self, core: Core) -> None:
        assert isinstance(core.store, _Twice)
        people = core.intake.people = core.store.people = _Forgetful(core.intake.rules, core.clock)
        people.on_jobs = core.engine.wake


class _Trusting(FusedStore):
    """Knows who had a lease when the store was opened."""

    def __init__(self, fuse: Fuse, config: Config) -> None:
        super().__init__(fuse, config)
        self.leased: list[Row] = []

    def open(self) -> None:
        super().open()
        self.leased = list(self.reader().all("SELECT person_id, owner, lease_until FROM jobs WHERE owner IS NOT NULL"))

    def give_back(self, db: Db) -> None:
        for row in self.leased:
            db.execute(
                "UPDATE jobs SET owner = :owner, lease_until = :until WHERE person_id = :person",
                owner=row["owner"],
                until=row["lease_until"],
                person=row["person_id"],
            )


class NoLeaseRecovery(Program):
    """Believes for ever that somebody is at work who had a lease and died."""

    store = _Trusting

    def complete(self, core: Core) -> None:
        assert isinstance(core.store, _Trusting)
        core.store.write(core.store.give_back)
        core.engine.settings = replace(core.engine.settings, lease=1e9)


MUTANTS: list[type[Program]] = [AcknowledgeFirst, MarkFirst, TwoTransactions, NoLeaseRecovery]
