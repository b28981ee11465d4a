"""What a worker has at hand while it serves one person: store, gateway, clock, settings, and the generation it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from idsync.clock import Clock
from idsync.engine.wave import Wave
from idsync.errors import Superseded
from idsync.gateway.client import Gateway
from idsync.policy import Rules
from idsync.store import canary, facts, jobs, people
from idsync.store.db import Db, Store

T = TypeVar("T")


class Telemetry(Protocol):
    """What the engine reports; `idsync.metrics` turns it into Prometheus series."""

    def stage(self, stage: str, seconds: float) -> None:
        """Note how long after the request a stage of a departure was reached."""

    def revoked(self, source_kind: str, evidence: str, seconds: float) -> None:
        """Note a verified departure and its time to revoke."""

    def reasserted(self, kinds: Sequence[str]) -> None:
        """Count what came back of a departed person and was ended again: fence, key, member, role, invitation,
        account. Or a key that nobody had asked for: unasked_key."""

    def verification(self, result: str) -> None:
        """Note a read-back: "gone" or "alive"."""


class _Silent:
    """Reports nothing."""

    def stage(self, stage: str, seconds: float) -> None: ...

    def revoked(self, source_kind: str, evidence: str, seconds: float) -> None: ...

    def reasserted(self, kinds: Sequence[str]) -> None: ...

    def verification(self, result: str) -> None: ...


@dataclass(frozen=True)
class EngineSettings:
    """How the engine works. Times in seconds. `workers` people are revoked side by side, `grants` are granted to;
    how many calls that makes at a time is the gateway client's to bound."""

    on_departure: str = "delete"
    delete_user: bool = False
    cache_time: float = 60.0
    lease: float = 60.0
    workers: int = 1024
    grants: int = 8
    slowest_retry: float = 60.0


@dataclass(frozen=True)
class Desk:
    """Everything one convergence needs. `person_id` and `generation` are those of the job."""

    store: Store
    gateway: Gateway
    clock: Clock
    rules: Rules
    settings: EngineSettings
    reports_to: Telemetry
    person_id: str
    generation: int
    wave: Wave = field(default_factory=Wave)

    @cached_property
    def telemetry(self) -> Telemetry:
        """Where to report; what becomes of a drill's canary is no figure of the company's."""
        return _Silent() if canary.is_one(self.db, self.person_id) else self.reports_to

    @property
    def db(self) -> Db:
        """Read-only rows as of the last commit."""
        return self.store.reader()

    async def write(self, work: Callable[[Db], T]) -> T:
        """Write, if nobody asked for a newer generation meanwhile, and no other process works on this person by now.

        Raises:
            Superseded: somebody did, or does; nothing was written.
        """

        def guarded(db: Db) -> T:
            self.refuse_if_superseded(db)
            if db.shared and not jobs.is_owned(db, self.person_id, self.store.name):
                raise Superseded  # a replica that gave no sign for a while has lost its jobs, and may be behind
            return work(db)

        return await asyncio.wrap_future(self.store.submit(guarded))

    def still_wanted(self) -> None:
        """Check the generation before a call that gives something.

        Raises:
            Superseded: a newer one was committed.
        """
        self.refuse_if_superseded(self.db)

    def refuse_if_superseded(self, db: Db) -> None:
        person = people.person(db, self.person_id)
        if person is None or person.generation != self.generation:
            raise Superseded

    def team_id(self, alias: str) -> str | None:
        """Return the gateway's id of a configured team that idsync has made or adopted; None: not (yet) ours."""
        known = facts.get(self.db, f"team:{alias}")
        return str(known) if known else None


@dataclass(frozen=True)
class Outcome:
    """What to write when the work is done, and when to look again (epoch seconds; None: never)."""

    record: Callable[[Db], None]
    run_at: float | None


async def every(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run calls side by side to the end; only then raise the first failure, so that one never stops the others."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
