"""/health: every component with its state and age. What is wrong with an IdP or the gateway never makes us not ready."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import TimeoutError as TooLate
from dataclasses import asdict, dataclass
from typing import Any, Literal

from idsync import __version__
from idsync.clock import rfc3339
from idsync.config import Config
from idsync.errors import StoreError
from idsync.metrics import state_of
from idsync.pulse import Beat, Pulse
from idsync.status import source_view, store_view
from idsync.store import canary, directory, facts, glance, jobs, ledger, tokens
from idsync.store.db import Db, Store
from idsync.store.replicas import UNLINKED_LATE
from idsync.words import count, duration

State = Literal["ok", "degraded", "failed", "unknown"]
ORDER: tuple[State, ...] = ("ok", "unknown", "degraded", "failed")
"""From good to bad; the whole is as bad as its worst part, where `unknown` counts as ok."""
SLOW_JOB = 300.0
"""Seconds after which a job that does not wait on purpose is late."""
STALE = 3
"""Intervals without a whole poll after which a polled source is stale."""
WRITER = 2.0
"""Seconds that the writer may take to turn to us."""
SOON = 14 * 86400.0
"""Seconds before its end from which on a token is worth a word."""


@dataclass(frozen=True)
class Component:
    """`age_seconds` is how long ago it was last seen at work, None: not yet, or nothing to see."""

    name: str
    state: State
    detail: str
    age_seconds: float | None = None
    expires: str | None = None


def health(store: Store, config: Config, pulse: Pulse, now: float) -> dict[str, Any]:
    """Return what /health answers: of a store that cannot be read, that, and what this process knows by itself.

    Not for an event loop: it asks the writer for a turn.
    """
    try:
        db = store.reader()
        parts, numbers = list(components(store, db, config, pulse, now)), sums(db, now)
    except StoreError as error:
        mine = (_gateway(pulse, now), _chain(pulse, now), *(_beat(beat, now) for beat in pulse.beats.values()))
        parts, numbers = [Component("store", "failed", str(error)), *mine], {}
    worst = max((part.state for part in parts), key=ORDER.index)
    return {
        "state": "ok" if worst == "unknown" else worst,
        "version": __version__,
        "started_at": rfc3339(pulse.started_at),
        "components": [asdict(part) for part in parts],
        **numbers,
    }


def components(store: Store, db: Db, config: Config, pulse: Pulse, now: float) -> Iterator[Component]:
    yield _store(store)
    if store.shared:
        yield _replicas(db, now)
    yield _engine(db, now)
    yield _gateway(pulse, now)
    for name in sorted(config.source_names):
        yield _source(db, config, name, now)
    yield _chain(pulse, now)
    for beat in pulse.beats.values():
        yield _beat(beat, now)
    yield _drills(db, config, now)
    yield from _tokens(db, now)


def sums(db: Db, now: float) -> dict[str, Any]:
    """Return what is open, in numbers."""
    canaries = canary.persons(db)
    open_jobs = [job for job in jobs.all_jobs(db) if job.person_id not in canaries]
    late = [job for job in open_jobs if not job.waiting]
    beat = facts.under(db, "pass:").get("reconcile")
    states = [state_of(job) for job in open_jobs]
    return {
        "unverified_departures": ledger.unverified(db, now),
        "open_holds": glance.counted_holds(db, only_open=True),
        "conflicts": glance.counted_conflicts(db),
        "pending_members": directory.count_pending(db),
        "jobs": {state: states.count(state) for state in sorted(set(states))},
        "oldest_job_seconds": round(max((now - job.created_at for job in late), default=0.0), 1),
        "last_pass": None if beat is None else {"at": rfc3339(beat[1]), "age_seconds": round(now - beat[1], 1)},
        **({"store": store_view(db, now)} if db.shared else {}),
        "sources": {
            name: {"last_change_at": rfc3339(at), "age_seconds": round(now - at, 1)}
            for name, (_, at) in sorted(facts.under(db, "source_success:").items())
        },
    }


# -- one by one ---------------------------------------------------------------------------------------------------


def _store(store: Store) -> Component:
    try:
        store.submit(lambda db: db.one("SELECT 1 AS one"), urgent=True).result(WRITER)
    except TooLate:
        return Component("store", "degraded", f"the writer did not turn to us within {WRITER:g} s")
    except StoreError as error:
        return Component("store", "failed", str(error))
    return Component("store", "ok", "reads, and takes writes", 0.0)


def _replicas(db: Db, now: float) -> Component:
    view = store_view(db, now)
    serving = [one for one in view["replicas"] if one["role"] != "command"]
    led = next((one["host"] for one in serving if one["leads"]), None)
    told = (
        ", ".join(f"{one['host']} ({one['role']}, {one['release']})" for one in serving) or "nobody gave a sign of life"
    )
    if view["audit_unlinked_seconds"] > UNLINKED_LATE:
        return Component(
            "replicas",
            "degraded",
            f"{told}; {count(view['audit_unlinked'], 'audit entry is', 'audit entries are')} not linked",
            0.0,
        )
    if led is None:
        return Component("replicas", "degraded", f"{told}; nobody leads", 0.0)
    return Component("replicas", "ok", f"{told}; {led} leads", 0.0)


def _engine(db: Db, now: float) -> Component:
    found = glance.counted_jobs(db)
    age = None if found.oldest_at is None else round(now - found.oldest_at, 1)
    told = f"{count(found.due, 'job')} to do, {found.failing} of them failing, {found.waiting} waiting on purpose"
    if found.alive:
        return Component("engine", "failed", f"{told}; {found.alive} ended with a credential that still works", age)
    late = age is not None and age > SLOW_JOB
    return Component("engine", "degraded" if late else "ok", told, age)


def _gateway(pulse: Pulse, now: float) -> Component:
    seen = pulse.gateway_answered_at
    age = None if seen is None else round(now - seen, 1)
    if pulse.gateway_failed is None:
        state: State = "unknown" if seen is None else "ok"
        return Component("gateway", state, "not called yet" if seen is None else "answers", age)
    at, code = pulse.gateway_failed
    what = "refuses the admin key" if code in {"401", "403"} else "gave no usable answer"
    return Component("gateway", "degraded", f"{what} {now - at:.0f} s ago ({code})", age)


def _source(db: Db, config: Config, name: str, now: float) -> Component:
    view = source_view(db, name, config.polled, now)
    age = view["age_seconds"]
    seen = None if age is None else round(age, 1)
    part = f"source:{name}"
    if "polled" not in view:
        if not view["live_tokens"]:
            return Component(part, "failed", f"no live token; idsync token new {name}", seen)
        told = "has pushed nothing yet" if age is None else "pushes"
        return Component(part, "unknown" if age is None else "ok", told, seen)
    if view["errors"]:
        return Component(
            part, "degraded", f"incomplete {count(view['errors'], 'time')} in a row: {view['problem']}", seen
        )
    if age is None:
        return Component(part, "unknown", "not polled yet")
    pace = next(source.every for source in config.sources.every if source.name == name)
    stale = age > STALE * pace + 60
    return Component(part, "degraded" if stale else "ok", "stale" if stale else "polled in full", seen)


def _chain(pulse: Pulse, now: float) -> Component:
    if pulse.chain is None:
        return Component("audit", "unknown", "not checked yet")
    at, whole = pulse.chain
    told = "whole when last checked" if whole else "broken; idsync audit verify says where"
    return Component("audit", "ok" if whole else "failed", told, round(now - at, 1))


def _beat(beat: Beat, now: float) -> Component:
    age = None if beat.ended_at is None else round(now - beat.ended_at, 1)
    if beat.is_late(now):
        return Component(f"beat:{beat.name}", "degraded", f"late: due every {duration(beat.pace())}", age)
    return Component(f"beat:{beat.name}", "unknown" if age is None else "ok", f"every {duration(beat.pace())}", age)


def _drills(db: Db, config: Config, now: float) -> Component:
    last: Any = facts.get(db, "drill:last")
    if last is None:
        return Component("drills", "unknown", "none yet; idsync drill")
    age = round(now - last["at"], 1)
    if not last["ok"]:
        return Component("drills", "failed", f"the last one failed: {'; '.join(last['problems'])}", age)
    late = bool(config.drill.every) and age > 2 * config.drill.every
    return Component("drills", "degraded" if late else "ok", "late" if late else "the last one went well", age)


def _tokens(db: Db, now: float) -> Iterator[Component]:
    """Name the tokens that end soon."""
    for token in tokens.live_tokens(db):
        if token.expires_at is None or token.expires_at - now > SOON:
            continue
        over = token.expires_at <= now
        told = f"the token of {token.name} " + ("has ended; revoke it" if over else "ends soon; make the next one")
        yield Component(f"token:{token.id}", "degraded", told, expires=rfc3339(token.expires_at))
