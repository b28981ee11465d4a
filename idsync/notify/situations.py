"""What is true now that somebody should know, read from the store alone.

event                  | is true                                          | until
-----------------------+--------------------------------------------------+----------------------------------------------
verification_failed    | the gateway shows what it said was gone, or      | it is read back as gone
                       | access is not proven to have ended after 5 min   |
audit_broken           | the trail does not fit together                  | it does (a restored store)
security_event         | something of a departed person had come back     | nothing did for 24 h
spend_after_departure  | something was spent after access had ended       | nothing was for 24 h
hold_opened            | a hold waits                                     | somebody decides, or nothing is left in it
source_failing         | three polls in a row failed, nothing whole came  | a whole poll; a request of the source
                       | for three intervals, or a source is silent       |
rotation_failed        | a shared key could not be renewed for 15 min      | it is
credential_expiring    | a certificate or token ends within 14 days, or   | another one is in its place, or it is revoked
                       | has ended                                        |
conflict_opened        | a conflict is open                               | it is settled
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from idsync.clock import rfc3339
from idsync.logs import mask
from idsync.model import Event, Lane
from idsync.polling.progress import told as under_way
from idsync.store import canary, facts, jobs, journal, ledger, notices, people, teamkeys, tokens
from idsync.store.db import Db

DAY = 86400.0
PROVEN_WITHIN = 300.0
"""Seconds after which access that is not proven to have ended is told."""
FAILURES = 3
"""Polls of a source that fail in a row before it is told."""
SHORTEST_SILENCE = 900.0
"""Seconds without a whole poll that are never told, however often a source is polled."""
RENEWED_WITHIN = 900.0
"""Seconds in which a shared key may fail to be renewed before it is told."""
EXPIRES_WITHIN = 14 * DAY
LONGEST = 500
"""Characters of a summary; errors of others are quoted in some."""


@dataclass(frozen=True)
class Situation:
    """Something that is true since an epoch second, what it is about, in words, and what to do. Never a secret."""

    event: Event
    subject: str
    summary: str
    remedy: str
    since: float


@dataclass(frozen=True)
class Ending:
    """A credential that ends by itself: what it is, and when (epoch seconds)."""

    what: str
    at: float
    remedy: str


@dataclass(frozen=True)
class Watched:
    """What the configuration says of what is looked at. `up_since`: nothing was late before (epoch seconds).

    `polled` is the seconds between polls of a source, `pushed` the seconds of silence that are told; 0.0: none are.
    """

    polled: Mapping[str, float]
    pushed: Mapping[str, float]
    up_since: float
    endings: Sequence[Ending] = field(default_factory=tuple)


def situations(db: Db, watched: Watched, now: float) -> list[Situation]:
    """Return what is true now, each event and subject once, the most urgent first."""
    found = [
        *_unproven(db, now),
        *_trail(db),
        *_told_in_the_trail(db, now),
        *_holds(db),
        *_polled(db, watched, now),
        *_pushed(db, watched, now),
        *_rotations(db, now),
        *_endings([*watched.endings, *_tokens(db)], now),
        *_conflicts(db),
    ]
    order = list(Event)
    return sorted(found, key=lambda one: (order.index(one.event), one.since, one.subject))


def _situation(event: Event, subject: str, summary: str, remedy: str, since: float) -> Situation:
    """Make one; what looks like a secret in words of others is masked."""
    said = mask(summary)
    short = said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."
    return Situation(event, mask(subject), short, mask(remedy), since)


def _unproven(db: Db, now: float) -> Iterator[Situation]:
    """Once told it stays true until it is proven: a gateway that is down later on has proven nothing."""
    told = notices.subjects(db, Event.VERIFICATION_FAILED)
    canaries = canary.persons(db)
    late = {one.person_id: one for one in ledger.unproven(db, now)}
    at_work = {job.person_id: job for job in jobs.all_jobs(db) if job.lane is Lane.REVOKE and not job.waiting}
    for person_id in sorted((late.keys() | at_work.keys()) - canaries):
        job, departure = at_work.get(person_id), late.get(person_id)
        alive = job is not None and job.alive
        overdue = departure is not None and now - departure.received_at > PROVEN_WITHIN
        failing = job is not None and job.last_error is not None
        if not (alive or overdue or (person_id in told and (failing or departure is not None))):
            continue
        person = people.person(db, person_id) if departure is None else None
        name = departure.label if departure is not None else person.label if person is not None else person_id
        what = "the gateway still shows what it said was gone" if alive else "access is not proven to have ended"
        why = (job.last_error if job is not None else None) or (departure.problem if departure is not None else None)
        since = departure.received_at if departure is not None else job.created_at if job is not None else now
        summary = f"{name}: {what}" + (f" ({why})" if why else "")
        yield _situation(
            Event.VERIFICATION_FAILED, person_id, summary, f"idsync departures {name}; idsync verify {name}", since
        )


def _trail(db: Db) -> Iterator[Situation]:
    broken = facts.get(db, journal.BROKEN)
    if broken is not None:
        summary = f"the audit trail breaks at entry {broken['entry']}: it was altered, removed or inserted"
        yield _situation(
            Event.AUDIT_BROKEN, "audit", summary, "idsync audit verify; compare with a backup", broken["at"]
        )


def _told_in_the_trail(db: Db, now: float) -> Iterator[Situation]:
    """What has happened is true for a day after it last did."""
    of = {"departure.reasserted": Event.SECURITY_EVENT, "spend.after_departure": Event.SPEND_AFTER_DEPARTURE}
    entries: dict[tuple[Event, str], list[tuple[float, str]]] = {}
    for entry in journal.told_since(db, now - DAY):
        event = of[entry.action]
        what = entry.detail.get("what")
        parts = ", ".join(sorted(map(str, what))) if isinstance(what, list) else ""
        entries.setdefault((event, entry.subject), []).append((entry.at, parts))
    for (event, subject), seen in entries.items():
        if event is Event.SECURITY_EVENT:
            parts = ", ".join(sorted({part for _, part in seen if part}))
            summary = f"{subject} has left, and something of theirs had come back and was ended again: {parts}"
            remedy = f"idsync departures {subject}; ask who has the gateway's admin key"
        else:
            summary = f"something was spent in the name of {subject} after their access had ended"
            remedy = "idsync spend; idsync verify"
        yield _situation(event, subject, summary, remedy, min(at for at, _ in seen))


def _holds(db: Db) -> Iterator[Situation]:
    for hold in ledger.holds(db):
        count = len({item.person_id for item in ledger.items(db, hold.id)})
        summary = f"a hold waits for a decision: {hold.reason} ({count} person{'s' if count != 1 else ''})"
        yield _situation(Event.HOLD_OPENED, hold.id, summary, f"idsync holds show {hold.id}", hold.created_at)


def _polled(db: Db, watched: Watched, now: float) -> Iterator[Situation]:
    for name, every in sorted(watched.polled.items()):
        errors = int(facts.get(db, f"source_errors:{name}") or 0)
        whole = facts.get(db, f"source_success:{name}")
        last = max(float(whole or 0.0), watched.up_since)
        late = now - last > max(3 * every, SHORTEST_SILENCE) and under_way(db, name) is None
        if errors < FAILURES and not late:
            continue
        problem = facts.get(db, f"source_problem:{name}")
        seen = f"since {rfc3339(float(whole))}" if whole else "ever"
        summary = f"source {name}: no whole poll {seen}" + (f"; {errors} failed in a row: {problem}" if errors else "")
        yield _situation(Event.SOURCE_FAILING, name, summary, "idsync status; idsync doctor", float(whole or last))


def _pushed(db: Db, watched: Watched, now: float) -> Iterator[Situation]:
    live = tokens.live_tokens(db)
    for name, silence in sorted(watched.pushed.items()):
        used = [token.used_at for token in live if (token.kind, token.name) == ("source", name) and token.used_at]
        last = max([float(facts.get(db, f"source_success:{name}") or 0.0), *used])
        if not silence or not last or now - max(last, watched.up_since) <= silence:
            continue  # one that never came is still being set up
        summary = f"source {name}: nothing was heard of it since {rfc3339(last)}"
        remedy = "does the identity provider still push? its own provisioning log says; idsync status"
        yield _situation(Event.SOURCE_FAILING, name, summary, remedy, last)


def _rotations(db: Db, now: float) -> Iterator[Situation]:
    for key in teamkeys.every(db):
        if key.error is None or key.failing_since is None or now - key.failing_since < RENEWED_WITHIN:
            continue
        summary = (
            f"the key {key.alias} of team {key.team} is not renewed since {rfc3339(key.failing_since)}: {key.error}"
        )
        yield _situation(
            Event.ROTATION_FAILED, key.alias, summary, "idsync sinks check; idsync status", key.failing_since
        )


def _tokens(db: Db) -> Iterator[Ending]:
    """Yield the tokens that end by themselves, but those that another one of the same name outlives already."""
    live = tokens.live_tokens(db)
    for token in live:
        ends = token.expires_at
        same = [other for other in live if (other.kind, other.name) == (token.kind, token.name)]
        if ends is None or any(other.expires_at is None or other.expires_at > ends for other in same):
            continue
        make = f"idsync token new {token.name if token.kind == 'source' else f'--operator {token.name}'}"
        remedy = f"{make}; then idsync token revoke {token.id}"
        yield Ending(f"the token {token.id} of {token.kind} {token.name}", ends, remedy)


def _endings(endings: Sequence[Ending], now: float) -> Iterator[Situation]:
    for one in endings:
        if one.at - now <= EXPIRES_WITHIN:
            verb = "has ended" if one.at <= now else "ends"
            summary = f"{one.what} {verb} at {rfc3339(one.at)}"
            yield _situation(Event.CREDENTIAL_EXPIRING, one.what, summary, one.remedy, one.at - EXPIRES_WITHIN)


def _conflicts(db: Db) -> Iterator[Situation]:
    canaries = canary.persons(db)
    for one in people.conflicts(db):
        if one.subject not in canaries:
            yield _situation(Event.CONFLICT_OPENED, one.id, one.detail, one.remedy, one.created_at)
