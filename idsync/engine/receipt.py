"""The receipt: the proof of one departure, and what was left standing on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from idsync.engine.accounts import unowned
from idsync.engine.desk import Desk, every
from idsync.model import GatewayKey
from idsync.store.ledger import Departure

MOST_READ_BACKS = 20
"""Read-backs a receipt keeps: the first ones and the newest."""


def receipt_of(
    departure: Departure,
    *,
    accounts: Iterable[str],
    keys: Iterable[GatewayKey],
    teams: Iterable[str],
    ended: Mapping[str, Iterable[str]],
    features: Mapping[str, str],
    read_back: Mapping[str, Any],
    standing: Mapping[str, Any],
) -> dict[str, Any]:
    """Add what one run has done to the receipt of the runs before: what is gone, by which means, and how it was seen.

    A key that is known by its id alone does not overwrite what an earlier run knew of it. The calls themselves are
    rows of their own (`ledger.calls_of`).
    """
    earlier = departure.receipt or {}
    gone = {entry["id"]: entry for entry in earlier.get("keys", [])}
    gone |= {key.id: key_entry(key) for key in keys if key.name or key.id not in gone}
    looks = [*earlier.get("read_backs", []), dict(read_back)]
    return {
        "evidence": departure.evidence.value,
        "cause": departure.cause,
        "source": departure.source,
        "accounts": sorted({*accounts, *earlier.get("accounts", [])}),
        "keys": [gone[key_id] for key_id in sorted(gone)],
        "teams": sorted({*earlier.get("teams", []), *teams}),
        **{
            what: sorted({*earlier.get(what, []), *ended.get(what, ())})
            for what in ("roles", "invitations", "organizations", "deleted_accounts")
        },
        "features": {**earlier.get("features", {}), **features},
        "read_backs": looks if len(looks) <= MOST_READ_BACKS else [*looks[:2], *looks[-(MOST_READ_BACKS - 2) :]],
        "calls": earlier.get("calls", []),
        **({"pruned_at": earlier["pruned_at"]} if "pruned_at" in earlier else {}),
        "shared_keys": standing.get("shared_keys", earlier.get("shared_keys")),
        "other_accounts": standing.get("other_accounts", earlier.get("other_accounts")),
        "left_standing": [
            *_hidden(departure, features),
            *_still_inside(departure, features),
            "keys without an owner (shared team keys) are not touched when somebody leaves",
        ],
    }


def _hidden(departure: Departure, features: Mapping[str, str]) -> list[str]:
    """Say what is known of the keys that no listing shows."""
    used = {**(departure.receipt or {}).get("features", {}), **features}.get("sessions")
    if used == "used":
        return []
    return ["keys the API does not list (dashboard sessions) are ended by the fence alone"]


def _still_inside(departure: Departure, features: Mapping[str, str]) -> list[str]:
    """Say that memberships of organizations stay, where the gateway would not end them."""
    how = {**(departure.receipt or {}).get("features", {}), **features}.get("organization", "used")
    if how == "used":
        return []
    return [f"membership of organizations stays: the gateway's means to end it is {how}"]


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
