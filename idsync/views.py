"""Departures, receipts, holds and keys as the command line, the socket and the status page show them: plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from idsync.clock import rfc3339
from idsync.engine.radius import Account, Radius
from idsync.model import GatewayKey
from idsync.store import exposure, ledger, people
from idsync.store.db import Db


def departure_view(db: Db, departure: ledger.Departure) -> dict[str, Any]:
    """Return a departure as `idsync departures --json` shows it; times in RFC 3339."""
    stages = {
        name: rfc3339(at)
        for name, at in (
            ("received", departure.received_at),
            ("accepted", departure.accepted_at),
            ("fenced", departure.fenced_at),
            ("blocked", departure.blocked_at),
            ("access_ended", departure.access_ended_at),
            ("deleted", departure.deleted_at),
            ("verified", departure.verified_at),
            ("settled", departure.settled_at),
            ("closed", departure.closed_at),
        )
        if at is not None
    }
    return {
        "id": departure.id,
        "user": departure.label,
        "gateway_user_id": departure.account_id,
        "kind": departure.kind,
        "state": departure.state.value,
        "evidence": departure.evidence.value,
        "cause": departure.cause,
        "source": departure.source,
        "stages": stages,
        "fence": departure.fence,
        "hold_id": departure.hold_id,
        "problem": departure.problem,
        "time_to_revoke_seconds": _took(departure),
        "receipt": _receipt_view(db, departure),
    }


def _receipt_view(db: Db, departure: ledger.Departure) -> dict[str, Any]:
    """Return the receipt with its calls, the middle of very many left out."""
    receipt = dict(departure.receipt or {})
    calls, made = ledger.calls_of(db, departure.id)
    if calls:
        shown = [{**asdict(call), "at": rfc3339(call.at), "ms": round(call.ms, 1)} for call in calls]
        receipt |= {"calls": [*receipt.get("calls", []), *shown], "calls_left_out": made - len(calls)}
    return receipt


def exposed_view(db: Db, key: exposure.Exposed) -> dict[str, Any]:
    """Return a key that somebody who left may know, as `idsync keys exposed --json` shows it."""
    return {
        "user": _label(db, key.person_id),
        "departed": rfc3339(key.left_at),
        "departure": key.departure_id,
        "key_id": key.key_id,
        "alias": key.alias,
        "name": key.name,
        "owner": key.owner,
        "team": key.team or key.team_id,
        "why": key.why,
        "last_used": None if key.last_used_at is None else rfc3339(key.last_used_at),
        "spend": key.spend,
        "rotation": "wanted" if key.wants == "rotate" else "not asked for",
    }


def radius_view(db: Db, found: Radius) -> dict[str, Any]:
    """Return a blast radius as `idsync revoke --dry-run --json` shows it."""
    keys = [_radius_key(account, key) for account in found.accounts for key in account.keys]
    teams = {team.alias or team.team_id for account in found.accounts for team in account.teams}
    reported = [exposed_view(db, key) for key in found.reported]
    primary = found.accounts[0].user_id if found.accounts else None
    return {
        "gateway_user_id": primary,
        "accounts": [
            {
                "gateway_user_id": account.user_id,
                "linked": account.linked,
                "role": account.user.role if account.user is not None else None,
                "fenced": account.user.fenced if account.user is not None else None,
                "keys": len(account.keys),
                "spend": _spend(account.keys),
                "teams": sorted(team.alias or team.team_id for team in account.teams),
                "organizations": list(account.organizations),
            }
            for account in found.accounts
        ],
        "keys": keys,
        "teams": sorted(teams),
        "reported": [{name: view[name] for name in REPORTED} for view in reported],
        "sums": {
            "accounts": len(found.accounts),
            "keys": len(keys),
            "spend": _spend(key for account in found.accounts for key in account.keys),
            "teams": len(teams),
            "reported": len(reported),
        },
        "deletion_waits": found.deletion_waits,
        "held": found.held,
        "conflict": found.conflict,
        "other_accounts": list(found.others),
        "left_standing": "what is reported works on: nothing of it is touched when somebody leaves",
    }


REPORTED = ("key_id", "alias", "name", "owner", "team", "why", "last_used", "spend", "rotation")
"""What of `exposed_view` counts before anybody has left."""


def _radius_key(account: Account, key: GatewayKey) -> dict[str, Any]:
    return {
        "account": account.user_id,
        "key_id": key.id,
        "alias": key.alias,
        "name": key.name,
        "team": key.team_id,
        "blocked": key.blocked,
        "last_used": key.last_used_at,
        "spend": key.spend,
    }


def _spend(keys: Iterable[GatewayKey]) -> float:
    return round(sum(key.spend or 0.0 for key in keys), 6)


def _took(departure: ledger.Departure) -> float | None:
    return None if departure.verified_at is None else round(departure.verified_at - departure.received_at, 4)


def hold_view(db: Db, hold: ledger.Hold) -> dict[str, Any]:
    """Return a hold as `idsync holds` shows it."""
    held = ledger.items(db, hold.id)
    listed = [{"user": _label(db, item.person_id), "team": _team_of(item), "cause": item.cause} for item in held]
    return {
        "id": hold.id,
        "kind": hold.kind,
        "reason": hold.reason,
        "state": hold.state,
        "created": rfc3339(hold.created_at),
        "checksum": ledger.checksum(held),
        "people": listed,
    }


def _team_of(item: ledger.HoldItem) -> str | None:
    """Return the team an item is about; None: the whole person, or what `cause` says a poll would take."""
    return item.team if item.team and not item.team.startswith("@") else None


def _label(db: Db, person_id: str) -> str:
    person = people.person(db, person_id)
    return person.label if person is not None else person_id
