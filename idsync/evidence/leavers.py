"""The population of a period: one row a departure, and what about it is an exception. Pure but for reading the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from idsync.clock import rfc3339
from idsync.model import DepartureState
from idsync.store import exposure, ledger
from idsync.store.db import Db
from idsync.store.ledger import Departure, Hold
from idsync.words import count

COLUMNS = {
    "departure": "id of the departure in idsync",
    "user": "who, as the source calls them",
    "gateway_user_id": "their account at the gateway; empty: they had none",
    "kind": "departure, or suspension (reversible: fenced and blocked, not deleted)",
    "source": "who said so: a source, or cli for a revocation by hand",
    "evidence": "what was said: scim_inactive, scim_delete, deprovisioned, deleted, disabled, group_loss, revoked ...",
    "cause": "the same in words",
    "told_at": "when the identity provider told idsync: its request came in, or a poll saw it",
    "accepted_at": "when that was on disk",
    "fenced_at": "when the account was fenced at the gateway",
    "blocked_at": "when every key was blocked",
    "access_ended_at": "when the gateway's own answers showed that access had ended",
    "deleted_at": "when keys and memberships were deleted",
    "verified_at": "when everything was read back as gone",
    "settled_at": "when it was read back again, after the gateway's cache time",
    "closed_at": "when they came back, or it was cancelled",
    "state": "accepted, fenced, blocked, deleted, verified, settled; held, parked, cancelled",
    "seconds_to_access_end": "told_at to access_ended_at",
    "seconds_to_verified": "told_at to verified_at",
    "fence": "as known at verified_at. proven: a drill had seen the gateway refuse a fenced key; assumed: none had yet; "
    "unsupported; none: no account",
    "keys_ended": "keys that were deleted (or blocked, where that is the policy)",
    "teams_left": "teams they were taken out of",
    "organizations_left": "organizations they were taken out of",
    "read_back": "the last look at the gateway: when, its verdict, keys and teams still listed",
    "hold": "the hold that keeps or kept the deletion back",
    "decided_by": "who approved or rejected that hold",
    "left_standing": "what works on, on purpose",
    "exceptions": "kinds of the rows in exceptions about this departure",
}
EXCEPTION_COLUMNS = {
    "departure": "id of the departure",
    "user": "who",
    "what": "over_threshold, not_verified, waiting, parked, held, cancelled, blocked_only, fence_assumed, "
    "fence_unsupported, came_back, other_accounts or keys_known",
    "says": "in words",
}


@dataclass(frozen=True)
class Judged:
    """What exceptions are judged by. Times are epoch seconds, `threshold` seconds from being told to access ended.

    `as_of` is the state of the store; `came_back` counts what had come back, by departure.
    """

    as_of: float
    threshold: float
    holds: Mapping[str, Hold]
    unproven: frozenset[str]
    came_back: Mapping[str, int]


def leaver(db: Db, one: Departure, by: Judged) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of a departure and its exceptions."""
    found = [
        {"departure": one.id, "user": one.label, "what": what, "says": says} for what, says in _exceptions(db, one, by)
    ]
    receipt = one.receipt or {}
    hold = by.holds.get(one.hold_id or "")
    times = {name: _time(getattr(one, name)) for name in COLUMNS if name.endswith("_at") and name != "told_at"}
    return {
        "departure": one.id,
        "user": one.label,
        "gateway_user_id": one.account_id,
        "kind": one.kind,
        "source": one.source,
        "evidence": one.evidence.value,
        "cause": one.cause,
        "told_at": _time(one.received_at),
        **times,
        "state": one.state.value,
        "seconds_to_access_end": _took(one, one.access_ended_at),
        "seconds_to_verified": _took(one, one.verified_at),
        "fence": one.fence,
        "keys_ended": len(receipt.get("keys", [])),
        "teams_left": len(receipt.get("teams", [])),
        "organizations_left": len(receipt.get("organizations", [])),
        "read_back": _read_back(receipt),
        "hold": one.hold_id,
        "decided_by": hold.decided_by if hold is not None else None,
        "left_standing": list(receipt.get("left_standing", [])),
        "exceptions": [entry["what"] for entry in found],
    }, found


def _exceptions(db: Db, one: Departure, by: Judged) -> Iterator[tuple[str, str]]:
    if one.state is DepartureState.CANCELLED:
        yield "cancelled", "they came back before anything was destroyed"
    else:
        yield from _slow(one, by)
    yield from _unfinished(one, by)
    receipt = one.receipt or {}
    if receipt.get("ended_by") == "block" and one.verified_at is not None:
        yield "blocked_only", "policy.on_departure = block: keys are blocked for good, not deleted"
    if one.fence == "assumed":
        yield (
            "fence_assumed",
            "no drill had shown that this gateway's fence ends access: keys it does not list rely on it",
        )
    if one.fence == "unsupported":
        yield "fence_unsupported", "the gateway has no fence: keys it does not list are not ended by it"
    if again := by.came_back.get(one.id, 0):
        yield "came_back", f"{count(again, 'time')} something of theirs had come back and was ended again"
    if others := receipt.get("other_accounts"):
        yield (
            "other_accounts",
            f"{count(len(others), 'other account')} with their e-mail: {', '.join(map(str, others))}",
        )
    if known := len(exposure.listed(db, one.person_id)) if one.closed_at is None else 0:
        yield (
            "keys_known",
            f"{count(known, 'key')} they may know {'works' if known == 1 else 'work'} on: idsync keys exposed",
        )


def _slow(one: Departure, by: Judged) -> Iterator[tuple[str, str]]:
    if one.fence == "none":
        return
    took = (one.access_ended_at or one.closed_at or by.as_of) - one.received_at
    if took > by.threshold:
        still = "" if one.access_ended_at else ", and it has not"
        yield "over_threshold", f"{took:.0f} s until access ended{still}; {by.threshold:.0f} s are allowed"


def _unfinished(one: Departure, by: Judged) -> Iterator[tuple[str, str]]:
    hold = by.holds.get(one.hold_id or "")
    if one.closed_at is not None or one.verified_at is not None:
        return
    if one.state is DepartureState.PARKED:
        yield "parked", one.problem or "put aside after many tries; it goes on being tried"
    if hold is not None and hold.state == "open":
        yield "held", f"deletion waits for a decision: {hold.reason}"
    if hold is not None and hold.state == "rejected":
        yield "held", f"deletion was rejected by {hold.decided_by}: {hold.reason}"
    if one.id in by.unproven:
        yield "not_verified", one.problem or "not read back as gone"
    elif hold is None and one.kind == "departure":
        yield "waiting", f"access has ended; deletion is due at {rfc3339(one.delete_at)}"


def _read_back(receipt: Mapping[str, Any]) -> str | None:
    looks = receipt.get("read_backs", [])
    if not looks:
        return None
    last = looks[-1]
    return f"{last['at']} {last['verdict']}: {count(last['keys_listed'], 'key')}, {count(last['teams'], 'team')} listed"


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


def _took(one: Departure, at: float | None) -> float | None:
    return None if at is None else round(at - one.received_at, 3)


def departures(db: Db, since: float, before: float) -> list[Departure]:
    """Return the population: everybody idsync was told of in the period."""
    return ledger.departures_between(db, since, before)
