"""The receipt: the proof of one departure, and what was left standing on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from idsync.clock import rfc3339
from idsync.engine.accounts import unowned
from idsync.engine.desk import Desk, every
from idsync.model import Call, GatewayKey

MOST_CALLS = 500
"""Calls a receipt keeps, the newest; a departure that was tried for days has more."""


def receipt_of(
    earlier: Mapping[str, Any],
    *,
    accounts: Iterable[str],
    keys: Iterable[GatewayKey],
    teams: Iterable[str],
    calls: Sequence[Call],
    standing: Mapping[str, Any],
) -> dict[str, Any]:
    """Add what one run has done to the receipt of the runs before: calls, answers, what is gone.

    A key that is known by its id alone does not overwrite what an earlier run knew of it.
    """
    gone = {entry["id"]: entry for entry in earlier.get("keys", [])}
    gone |= {key.id: key_entry(key) for key in keys if key.name or key.id not in gone}
    return {
        "accounts": sorted({*accounts, *earlier.get("accounts", [])}),
        "keys": [gone[key_id] for key_id in sorted(gone)],
        "teams": sorted({*earlier.get("teams", []), *teams}),
        "calls": [*earlier.get("calls", []), *map(_call_entry, calls)][-MOST_CALLS:],
        "shared_keys": standing.get("shared_keys", earlier.get("shared_keys")),
        "other_accounts": standing.get("other_accounts", earlier.get("other_accounts")),
        "left_standing": [
            "keys the API does not list (dashboard sessions) are ended by the fence alone",
            "keys without an owner (shared team keys) are not touched when somebody leaves",
        ],
    }


async def left_standing(desk: Desk, teams: Iterable[str], own: Iterable[str], emails: Iterable[str]) -> dict[str, Any]:
    """Name the shared keys of the teams that were left, and further accounts with the leaver's e-mail."""
    lists = await every(desk.gateway.list_keys(team_id=team) for team in sorted(teams))
    others = {user.user_id for user in await unowned(desk, sorted(emails))} - set(own)
    return {
        "shared_keys": [key_entry(key) for keys in lists for key in keys if key.user_id is None],
        "other_accounts": sorted(others),
    }


def key_entry(key: GatewayKey) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "alias": key.alias, "team_id": key.team_id}


def _call_entry(call: Call) -> dict[str, Any]:
    return {**asdict(call), "at": rfc3339(call.at), "ms": round(call.ms, 1)}
