"""What `idsync status` shows, read from the store alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from idsync.clock import rfc3339
from idsync.metrics import state_of
from idsync.polling.progress import told
from idsync.store import (
    canary,
    exposure,
    facts,
    jobs,
    journal,
    ledger,
    notices,
    people,
    refusals,
    replicas,
    spend,
    teamkeys,
    tokens,
)
from idsync.store.db import Db

WINDOW = 30 * 86400.0
"""Seconds of the past that the time to revoke is taken from."""


def status_of(db: Db, sources: Sequence[str], polled: Mapping[str, str], now: float) -> dict[str, Any]:
    """Return everything an operator looks at first; ages in seconds."""
    took = ledger.times_to_revoke(db, now - WINDOW)
    beat = facts.under(db, "pass:").get("reconcile")
    canaries = canary.persons(db)
    open_jobs = [job for job in jobs.all_jobs(db) if job.person_id not in canaries]
    return {
        "sources": [source_view(db, name, polled, now) for name in sources],
        "frozen": facts.get(db, facts.FROZEN),
        "last_pass": None if beat is None else {"age_seconds": now - beat[1], "changes": beat[0]},
        "time_to_revoke": {
            "since": rfc3339(now - WINDOW),
            "count": len(took),
            "p50": quantile(took, 0.5),
            "p99": quantile(took, 0.99),
        },
        "store": store_view(db, now),
        "retention": _retention(db),
        "unverified_departures": ledger.unverified(db, now),
        "jobs": [_job(db, job) for job in open_jobs if not job.waiting],
        "waiting_jobs": sum(1 for job in open_jobs if job.waiting),
        "holds": [
            {"id": hold.id, "reason": hold.reason, "people": len(ledger.items(db, hold.id))}
            for hold in ledger.holds(db)
        ],
        "exposed_keys": _exposed(db),
        "spend_after_departure": _spend(db, now),
        "refused": [
            {"what": refusals.WORDS[what], "why": why, "at": rfc3339(at)}
            for what, (why, at) in sorted(refusals.everything(db).items())
        ],
        "keys": _keys(db, now),
        "undelivered_notifications": [
            {
                "receiver": one.receiver,
                "waiting": one.waiting,
                "error": one.error,
                "failing_seconds": None if one.failing_since is None else now - one.failing_since,
            }
            for one in notices.undelivered(db)
        ],
        "conflicts": [
            {
                "kind": conflict.kind,
                "detail": conflict.detail,
                "remedy": conflict.remedy,
                "at": rfc3339(conflict.created_at),
            }
            for conflict in people.conflicts(db)
            if conflict.subject not in canaries
        ],
    }


def store_view(db: Db, now: float) -> dict[str, Any]:
    """Return who shares the store, who leads, and what of the audit trail is not linked yet; ages in seconds."""
    now = replicas.time_of(db, now)
    tail, leader = replicas.tail(db), replicas.leader(db, now)
    return {
        "shared": db.shared,
        "replicas": [
            {
                "id": one.id,
                "host": one.host,
                "role": one.role,
                "release": one.release,
                "age_seconds": round(now - one.started_at, 1),
                "leads": one.id == leader,
            }
            for one in replicas.present(db, now)
        ],
        "leader": leader,
        "audit_unlinked": tail.entries,
        "audit_unlinked_seconds": round(tail.age(now), 1),
    }


def _retention(db: Db) -> dict[str, Any]:
    """Return since when the trail is in the store, and how the last turn of retention went."""
    done, under_way = facts.get(db, "retention:done"), facts.get(db, "retention:under_way")
    first = journal.first_kept(db)
    return {
        "audit_first_entry": None if first is None else first.seq,
        "audit_since": None if first is None else rfc3339(first.at),
        "last_turn": None if done is None else rfc3339(done["at"]),
        "under_way": under_way is not None or journal.left_to_take(db) > 0,
    }


def _spend(db: Db, now: float) -> dict[str, Any]:
    found = spend.after_since(db, now - spend.SHOWN)
    look = facts.get(db, spend.LOOKED) or {}
    return {
        "people": spend.spenders(found),
        "spend": round(sum(one.spend for one in found), 6),
        "not_told": look.get("untold", []),
    }


def _exposed(db: Db) -> dict[str, int]:
    found = exposure.tally(db)
    return {"keys": sum(found.values()), "rotation_wanted": found["rotate"]}


def _keys(db: Db, now: float) -> dict[str, Any]:
    """Return how the shared keys of teams are."""
    known = teamkeys.every(db)
    return {
        "managed": sum(1 for key in known if key.key_id is not None),
        "expiring": sum(1 for key in known if key.rotate_at is not None and key.rotate_at <= now),
        "undelivered": len(teamkeys.undelivered(db)),
        "ending": len(teamkeys.ending(db)),
        "failing": [
            {
                "alias": key.alias,
                "team": key.team,
                "error": key.error,
                "attempts": key.attempts,
                "since": None if key.failing_since is None else rfc3339(key.failing_since),
                "next_try": None if key.next_try_at is None else rfc3339(key.next_try_at),
            }
            for key in known
            if key.error is not None
        ],
    }


def source_view(db: Db, name: str, polled: Mapping[str, str], now: float) -> dict[str, Any]:
    """Return how fresh a source is, and what is wrong with it; ages in seconds."""
    seen = facts.get(db, f"source_success:{name}")
    age = None if seen is None else now - float(seen)
    if name in polled:
        known = facts.get(db, f"polled:{name}")
        return {
            "name": name,
            "age_seconds": age,
            "polled": polled[name],
            "full_age_seconds": None if known is None else now - float(known["full_at"]),
            "errors": int(facts.get(db, f"source_errors:{name}") or 0),
            "problem": facts.get(db, f"source_problem:{name}"),
            "under_way": told(db, name),
        }
    live = [token for token in tokens.all_tokens(db) if (token.kind, token.name) == ("source", name)]
    live = [token for token in live if token.state(now) == "live"]
    return {"name": name, "age_seconds": age, "live_tokens": len(live)}


def _job(db: Db, job: jobs.Job) -> dict[str, Any]:
    person = people.person(db, job.person_id)
    return {
        "user": person.label if person is not None else job.person_id,
        "lane": job.lane.value,
        "state": state_of(job),
        "attempts": job.attempts,
        "error": job.last_error,
    }


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """Return the nearest-rank quantile of sorted values, None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
