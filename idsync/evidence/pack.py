"""Everything for one period, gathered in one reading of the store: the same store gives the same pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from idsync import __version__
from idsync.audit import AuditEvent, Verdict, judge
from idsync.clock import rfc3339
from idsync.evidence import leavers
from idsync.evidence.leavers import Judged, leaver
from idsync.evidence.sheets import Sheet, text
from idsync.status import quantile
from idsync.store import facts, journal, ledger, people
from idsync.store.db import Db
from idsync.store.ledger import Hold

ACTS = (
    *("ban.made", "ban.lifted", "hold.opened", "hold.approved", "hold.rejected", "hold.dropped"),
    *("account.linked", "account.unlinked", "binding.made", "binding.undone", "frozen", "thawed"),
    *("token.made", "token.revoked", "configuration.changed", "role.set", "team.retired", "member.removed"),
    *("key.made", "key.rotated", "key.ended", "key.issued", "key.rotation_asked"),
    *("departure.reasserted", "spend.after_departure", "drill.done"),
)
"""Entries of the trail that an auditor reads one by one; the whole trail is `idsync audit export`."""
HOLD_COLUMNS = {
    "hold": "id of the hold",
    "kind": "which guard",
    "reason": "why, in words",
    "people": "who is in it",
    "opened_at": "since when",
    "state": "open, approved, rejected, or emptied: all it kept back came back",
    "decided_at": "when it was decided",
    "decided_by": "by whom",
    "checksum": "fingerprint of what was decided: people, causes, versions of the evidence",
}
BAN_COLUMNS = {
    "user": "who was revoked by hand",
    "reason": "why",
    "override": "whether a protection was overridden",
    "made_at": "when",
    "made_by": "by whom",
    "lifted_at": "when it was lifted; empty: it stands",
    "lifted_why": "why it was lifted",
}
ACT_COLUMNS = {
    "entry": "number in the audit trail",
    "at": "when",
    "actor": "who: source/token, cli/local user, or a part of idsync",
    "action": "what",
    "subject": "of whom or what",
    "detail": "more, as it was sealed",
    "hash": "the entry's seal",
}
CONFIGURATION_COLUMNS = {
    "from": "in force from; empty: from before the trail says",
    "until": "in force until; empty: still",
    "fingerprint": "of groups, teams, roles, protections and policy: what decides about people",
}


@dataclass(frozen=True)
class Asked:
    """A period in epoch seconds, its end not in it; `threshold` seconds in which access has to end.

    `days` is how it was asked for, `configuration` the SHA-256 of the configuration file, None: there is none.
    """

    since: float
    before: float
    threshold: float
    days: tuple[str, str]
    configuration: str | None


@dataclass(frozen=True)
class Pack:
    """`summary` is what to read first; `chain` the verdict on the audit trail, `unproven` counts who may still get in."""

    summary: dict[str, Any]
    sheets: tuple[Sheet, ...]
    chain: Verdict
    unproven: int

    def as_json(self) -> dict[str, Any]:
        return {**self.summary, **{sheet.name: list(sheet.rows) for sheet in self.sheets}}


def gather(db: Db, asked: Asked) -> Pack:
    """Read the store, in one transaction, and the whole audit trail with it."""
    with db.snapshot() as then:
        return _gather(then, asked)


def _gather(db: Db, asked: Asked) -> Pack:
    acts: list[AuditEvent] = []
    changes: list[AuditEvent] = []
    chain = judge(_kept(journal.kept(db), asked, acts, changes), start=journal.start(db))
    entries, head = journal.head(db)
    newest = journal.last(db, 1)
    as_of = newest[0].at if newest and isinstance(newest[0].at, float) else 0.0
    holds = {hold.id: hold for hold in ledger.holds(db, only_open=False)}
    judged = Judged(
        as_of,
        asked.threshold,
        holds,
        frozenset(one.id for one in ledger.unproven(db, as_of)),
        _came_back(acts),
    )
    rows = [leaver(db, one, judged) for one in leavers.departures(db, asked.since, asked.before)]
    people_rows, exceptions = [row for row, _ in rows], [entry for _, found in rows for entry in found]
    sheets = (
        Sheet("leavers", "Leavers", "Everybody idsync was told of in the period.", leavers.COLUMNS, people_rows),
        Sheet("exceptions", "Exceptions", "What deserves a look.", leavers.EXCEPTION_COLUMNS, exceptions),
        Sheet("holds", "Holds", "What waited for a person, and who decided.", HOLD_COLUMNS, _holds(db, holds, asked)),
        Sheet("bans", "Revocations by hand", "Bans made or lifted.", BAN_COLUMNS, _bans(db, asked)),
        Sheet("acts", "Acts", "Entries of the audit trail.", ACT_COLUMNS, [_act(event) for event in acts]),
        Sheet(
            "configuration",
            "Configuration in force",
            "What decided.",
            CONFIGURATION_COLUMNS,
            _configurations(db, changes, asked),
        ),
    )
    unproven = sum(entry["what"] == "not_verified" for entry in exceptions)
    trail = {
        "first": journal.start(db)[0] + 1,
        "entries": entries,
        "head": head,
        "whole": chain.whole,
        "breaks_at": chain.breaks_at,
    }
    summary = {
        "period": {"from": asked.days[0], "to": asked.days[1], "time_zone": "UTC"},
        "population": _population(people_rows, exceptions, asked),
        "audit": trail,
        "produced": _produced(asked, as_of),
    }
    return Pack(summary, sheets, chain, unproven)


def _kept(
    events: Iterable[AuditEvent], asked: Asked, acts: list[AuditEvent], changes: list[AuditEvent]
) -> Iterator[AuditEvent]:
    """Hand every entry on, and keep those the pack shows."""
    for event in events:
        if event.action == "configuration.changed":
            changes.append(event)
        if event.action in ACTS and isinstance(event.at, float) and asked.since <= event.at < asked.before:
            acts.append(event)
        yield event


def _came_back(acts: Iterable[AuditEvent]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in acts:
        if event.action == "departure.reasserted":
            departure = str(event.detail.get("departure"))
            counts[departure] = counts.get(departure, 0) + 1
    return counts


def _population(rows: list[dict[str, Any]], exceptions: list[dict[str, Any]], asked: Asked) -> dict[str, Any]:
    took = sorted(row["seconds_to_access_end"] for row in rows if row["seconds_to_access_end"] is not None)
    kinds = sorted({entry["what"] for entry in exceptions})
    return {
        "leavers": sum(row["kind"] == "departure" for row in rows),
        "suspensions": sum(row["kind"] == "suspension" for row in rows),
        "access_ended": len(took),
        "verified": sum(row["verified_at"] is not None for row in rows),
        "settled": sum(row["settled_at"] is not None for row in rows),
        "without_account": sum(row["fence"] == "none" for row in rows),
        "threshold_seconds": asked.threshold,
        "seconds_to_access_end": {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "max": quantile(took, 1.0)},
        "exceptions": {what: sum(entry["what"] == what for entry in exceptions) for what in kinds},
    }


def _produced(asked: Asked, as_of: float) -> dict[str, Any]:
    first, last = asked.days
    return {
        "idsync": __version__,
        "command": f"idsync evidence --from {first} --to {last} --threshold {asked.threshold:g}s",
        "store_as_of": rfc3339(as_of),
        "configuration_file_sha256": asked.configuration,
        "how": "read from idsync's store in one transaction; the audit trail was checked from its first entry to the head",
    }


def _holds(db: Db, holds: dict[str, Hold], asked: Asked) -> list[dict[str, Any]]:
    """Return the holds that were open at some time of the period."""
    there = [
        hold
        for hold in holds.values()
        if hold.created_at < asked.before and (hold.decided_at or asked.since) >= asked.since
    ]
    return [_hold(db, hold) for hold in there]


def _hold(db: Db, hold: Hold) -> dict[str, Any]:
    held = ledger.items(db, hold.id)
    known = [(item, people.person(db, item.person_id)) for item in held]
    return {
        "hold": hold.id,
        "kind": hold.kind,
        "reason": hold.reason,
        "people": sorted({person.label if person is not None else item.person_id for item, person in known}),
        "opened_at": rfc3339(hold.created_at),
        "state": hold.state,
        "decided_at": None if hold.decided_at is None else rfc3339(hold.decided_at),
        "decided_by": hold.decided_by,
        "checksum": ledger.checksum(held),
    }


def _bans(db: Db, asked: Asked) -> list[dict[str, Any]]:
    return [
        {
            "user": ban.label,
            "reason": ban.reason,
            "override": ban.override,
            "made_at": rfc3339(ban.created_at),
            "made_by": ban.created_by,
            "lifted_at": None if lifted_at is None else rfc3339(lifted_at),
            "lifted_why": why,
        }
        for ban, lifted_at, why in people.bans_between(db, asked.since, asked.before)
    ]


def _act(event: AuditEvent) -> dict[str, Any]:
    detail = [f"{name}={text(value)}" for name, value in sorted(event.detail.items())]
    return {
        "entry": event.seq,
        "at": rfc3339(event.at),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "detail": detail,
        "hash": event.hash,
    }


def _configurations(db: Db, changes: list[AuditEvent], asked: Asked) -> list[dict[str, Any]]:
    """Return the fingerprints that were in force in the period; before the first change it is what that one replaced."""
    first = changes[0].detail.get("was") if changes else facts.get(db, "configuration")
    spans = [(None, first), *[(change.at, change.detail.get("is")) for change in changes]]
    ends = [*[start for start, _ in spans[1:]], None]
    return [
        {
            "from": None if start is None else rfc3339(start),
            "until": None if end is None else rfc3339(end),
            "fingerprint": fingerprint,
        }
        for (start, fingerprint), end in zip(spans, ends, strict=True)
        if (start is None or start < asked.before) and (end is None or end >= asked.since)
    ]
