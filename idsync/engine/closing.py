"""Closing on what the gateway shows: what is written when access has ended, when all is proven, and what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from idsync.clock import rfc3339
from idsync.engine import exposed, organizations
from idsync.engine.case import Case
from idsync.engine.desk import Outcome
from idsync.engine.looking import Sight
from idsync.engine.receipt import receipt_of
from idsync.model import DepartureState
from idsync.store import journal, ledger, people, verdicts
from idsync.store.db import Db
from idsync.store.ledger import Departure

log = structlog.get_logger(__name__)


def access_ended(case: Case, sights: Sequence[Sight]) -> Outcome:
    """Access has ended and deletion waits; come back when it is due."""
    desk = case.desk
    held = ledger.hold_is_open(desk.db, case.departure.hold_id)
    now = desk.clock.now()
    waits = not held and case.departure.kind == "departure"

    def record(db: Db) -> None:
        moved = case.advance(db, DepartureState.BLOCKED, access_ended_at=now, **_times(case, sights, now))
        receipt = {**_receipt(case, moved, sights, "blocked", now), "ended_by": "block"}
        state = DepartureState.HELD if held else moved.state
        fence = _fence(case, sights)
        ledger.put_departure(db, replace(moved, state=state, problem=None, fence=fence, receipt=receipt))
        case.trace.stands(state.value, fence)
        case.add_calls(db)
        first = "access.suspended" if moved.kind == "suspension" else "access.ended"
        _tell(case, db, moved, now, first=None if case.ended_before else first)

    return Outcome(record, case.departure.delete_at if waits else None)


def in_doubt(case: Case, db: Db, sights: Sequence[Sight]) -> None:
    """Write down what was found of the accounts that are known, while another one may be theirs: nothing is closed."""
    now = case.desk.clock.now()
    state = DepartureState.DELETED if case.deleted_at else DepartureState.BLOCKED
    moved = case.advance(db, state, deleted_at=case.deleted_at, **_times(case, sights, now))
    receipt = {**(moved.receipt or {}), **_receipt(case, moved, sights, "in doubt", now)}
    fence = _fence(case, sights)
    ledger.put_departure(db, replace(moved, fence=fence, receipt=receipt))
    case.trace.stands(moved.state.value, fence)
    _tell(case, db, moved, now, first=None)


def closed(case: Case, sights: Sequence[Sight], *, ended_by: str) -> Outcome:
    """The gateway's own answers agree. After its cache time everything is looked at once more.

    `ended_by` is "delete", or "block" where policy wants keys kept.
    """
    desk, now = case.desk, case.desk.clock.now()
    already = case.departure.settled_at is not None and not case.again
    settled = already or (case.is_second_look and not case.again)
    settle_at = None if settled else now + _cache_time(case)

    def record(db: Db) -> None:
        ended = {"access_ended_at": now, "deleted_at": case.deleted_at, "verified_at": now}
        moved = case.advance(db, DepartureState.VERIFIED, **_times(case, sights, now), **ended)
        done = replace(
            moved,
            state=DepartureState.SETTLED if settled else DepartureState.VERIFIED,
            problem=None,
            fence=_fence(case, sights),
            settle_at=settle_at,
            settled_at=moved.settled_at if already else now if settled else None,
            receipt={**_receipt(case, moved, sights, "gone", now), "ended_by": ended_by},
        )
        ledger.put_departure(db, done)
        case.trace.stands(done.state.value, done.fence or "none")
        case.add_calls(db)
        organizations.record(db, case, now)
        if case.census is not None:
            exposed.note(db, case.census, now)
        if ended_by == "delete":
            people.forget_blocked(db, sorted(case.doomed))
            people.drop_grants(db, case.person.id)
        first = case.departure.verified_at is None
        new = settled and not already
        _tell(case, db, done, now, first="departure.verified" if first else "departure.settled" if new else None)
        desk.telemetry.verification("gone")
        if first:
            _time(case, done, now)

    return Outcome(record, settle_at)


def _times(case: Case, sights: Sequence[Sight], now: float) -> dict[str, float | None]:
    """Return the times of stages that were really reached; a gateway without a fence or blocks reaches none."""
    fenced = any(sight.user is not None and sight.user.fenced for sight in sights)
    keys = [key for sight in sights for key in sight.keys]
    blocked = bool(keys) and all(key.blocked for key in keys)
    return {
        "fenced_at": (case.fence_sent_at or now) if fenced else None,
        "blocked_at": now if blocked else None,
    }


def _fence(case: Case, sights: Sequence[Sight]) -> str:
    """Say how far the fence may be relied on: what a drill has shown of this gateway, if one has lately.

    What was verified keeps what was known then: a later drill proves nothing about it, but may show it wrong.
    """
    if not any(sight.user for sight in sights):
        known = case.departure.fence if case.put_outside(sight.account_id for sight in sights) else None
        return known or "none"
    shown = verdicts.fence_verdict(case.desk.db, case.desk.gateway.name, case.desk.clock.now())
    if "unsupported" in (case.fence, shown):
        return "unsupported"
    known = case.departure.fence if case.departure.verified_at is not None and not case.again else None
    return shown if known in (None, "none") else known


def _cache_time(case: Case) -> float:
    """Return how long the gateway may honour what is gone: as configured, or longer where a drill measured more."""
    measured = verdicts.cache_window(case.desk.db, case.desk.gateway.name, case.desk.clock.now())
    return max(case.desk.settings.cache_time, measured or 0.0)


def _tell(case: Case, db: Db, done: Departure, now: float, *, first: str | None) -> None:
    """Write down what was proven, and as a security event what had come back."""
    detail: dict[str, Any] = {
        "departure": done.id,
        "evidence": done.evidence.value,
        "source": done.source,
        "keys": sorted(case.doomed),
        "teams": sorted(case.left),
        "fence": done.fence,
        **{what: sorted(names) for what, names in sorted(case.ended.items())},
    }
    if case.again:
        what = sorted(case.again)
        log.warning("security.reasserted", departure=done.id, what=what)
        case.desk.telemetry.reasserted(what)
        journal.append(
            db,
            at=now,
            actor="engine",
            action="departure.reasserted",
            subject=done.label,
            detail={**detail, "what": what},
        )
    if first is not None:
        counted = {"keys": len(case.doomed), "teams": len(case.left), "seconds": round(now - done.received_at, 3)}
        log.info(first, departure=done.id, **counted)
        journal.append(db, at=now, actor="engine", action=first, subject=done.label, detail=detail)


def _time(case: Case, done: Departure, now: float) -> None:
    """Measure a departure that nothing made wait; somebody without an account at the gateway lost nothing there."""
    waited = done.hold_id is not None or done.delete_at > done.accepted_at
    if not waited and done.fence != "none":
        rules = case.desk.rules
        pushed = "push" if done.source in rules.idp_of else "manual"
        kind = "poll" if done.source in rules.polled else pushed
        case.desk.telemetry.revoked(kind, done.evidence.value, now - done.received_at)


def _receipt(case: Case, moved: Departure, sights: Sequence[Sight], verdict: str, now: float) -> dict[str, Any]:
    read_back = {
        "at": rfc3339(now),
        "verdict": verdict,
        "accounts": sum(sight.user is not None for sight in sights),
        "fenced": all(sight.fenced for sight in sights),
        "keys_listed": sum(len(sight.keys) for sight in sights),
        "keys_asked_by_id": len(case.doomed) + len(case.known_gone()),
        "teams": sum(len(sight.teams) for sight in sights),
    }
    return receipt_of(
        moved,
        accounts=[sight.account_id for sight in sights],
        keys=case.doomed.values(),
        teams=case.left,
        ended=case.ended,
        features=case.features,
        read_back=read_back,
        standing=case.standing,
    )
