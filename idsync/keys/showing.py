"""What `idsync keys list` shows: every key of the gateway, and of those that idsync keeps how their rotation goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from idsync.clock import epoch_of, rfc3339
from idsync.keys.due import WantedKey
from idsync.model import GatewayKey, GatewayTeam, GatewayUser
from idsync.store import teamkeys
from idsync.store.db import Db
from idsync.store.teamkeys import Ending, TeamKey, Undelivered


def keys_view(
    db: Db | None,
    wanted: Mapping[str, WantedKey],
    keys: Iterable[GatewayKey],
    users: Iterable[GatewayUser],
    teams: Iterable[GatewayTeam],
) -> list[dict[str, Any]]:
    """Return every key, sorted by team and alias, and the wanted ones that are not there yet. `db` None: no store yet."""
    names = {user.user_id: user.email or user.user_id for user in users}
    aliases = {team.team_id: team.alias or team.team_id for team in teams}
    ours = {key.key_id: key for key in teamkeys.every(db) if key.key_id is not None} if db is not None else {}
    ending = {key.key_id: key for key in teamkeys.ending(db)} if db is not None else {}
    undelivered = {key.called: key for key in teamkeys.undelivered(db)} if db is not None else {}
    listed = [
        {
            "alias": key.alias,
            "name": key.name,
            "key_id": key.id,
            "team": aliases.get(key.team_id or "", key.team_id),
            "owner": names.get(key.user_id or "", key.user_id),
            "created": key.created_at,
            "last_used": key.last_used_at,
            "expires": key.expires,
            "blocked": key.blocked,
            "spend": key.spend,
            **_kept(key, ours.get(key.id), ending.get(key.id), undelivered.get(key.alias or ""), wanted),
        }
        for key in keys
    ]
    known = {row["managed"] for row in listed}
    failing = {key.alias: key for key in teamkeys.every(db)} if db is not None else {}
    missing = [_missing(one, failing.get(one.alias)) for one in wanted.values() if one.alias not in known]
    return sorted([*listed, *missing], key=lambda row: (row["team"] or "", row["alias"] or "", row["key_id"] or ""))


def _kept(
    key: GatewayKey,
    ours: TeamKey | None,
    ending: Ending | None,
    undelivered: Undelivered | None,
    wanted: Mapping[str, WantedKey],
) -> dict[str, Any]:
    """Say whether idsync keeps a key, and what is to become of it. `managed` is the alias in the configuration."""
    if ending is not None:
        return {"managed": None, "rotation": f"replaced; ends {rfc3339(ending.end_at)}", "error": None}
    if undelivered is not None:
        return {"managed": None, "rotation": "not delivered yet", "error": None}
    if ours is None:
        return {"managed": None, "rotation": None, "error": None}
    if ours.alias not in wanted:
        return {"managed": None, "rotation": "not in the configuration any more: left alone", "error": None}
    expires = epoch_of(key.expires)
    at = None if expires is None else expires - wanted[ours.alias].rotate_before
    state = "asked for" if ours.asked else "at the next pass" if at is None else f"after {rfc3339(at)}"
    if ours.error is not None:
        state = f"FAILING: {ours.error}"
    return {"managed": ours.alias, "rotation": state, "error": ours.error}


def _missing(wanted: WantedKey, known: TeamKey | None) -> dict[str, Any]:
    error = known.error if known is not None else None
    bare = dict.fromkeys(("name", "key_id", "owner", "created", "last_used", "expires", "spend"))
    state = f"FAILING: {error}" if error else "to be made"
    told = {"alias": wanted.alias, "team": wanted.team, "managed": wanted.alias, "rotation": state, "error": error}
    return {**bare, "blocked": False, **told}
