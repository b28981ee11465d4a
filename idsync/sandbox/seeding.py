"""Fills a sandbox: people, teams, rosters, keys and past spend."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.clock import parse_duration
from idsync.sandbox.world import World, expiry

JSON = dict[str, Any]
SECTIONS = ("users", "teams", "members", "keys", "usage")


def seed(world: World, given: JSON) -> JSON:
    """Returns the raw keys, which are shown nowhere else. Raises ValueError for what does not fit."""
    unknown = set(given) - set(SECTIONS)
    if unknown:
        raise ValueError(f"unknown in a seed: {sorted(unknown)}")
    try:
        for row in given.get("teams", []):
            _team(world, dict(row))
        for row in given.get("users", []):
            _user(world, dict(row))
        for row in given.get("members", []):
            world.join(world.state.teams[row["team_id"]], row["user_id"], row.get("role", "user"))
        world.state.usage.extend({"requests": 1, "model": "gpt-5-mini", **r} for r in given.get("usage", []))
        return {"keys": [_key(world, dict(row)) for row in given.get("keys", [])]}
    except (KeyError, TypeError) as problem:
        raise ValueError(f"cannot seed: {problem}") from None


def _team(world: World, row: JSON) -> None:
    if row.get("team_id") in world.state.teams:
        raise ValueError(f"team {row['team_id']} is there already")
    world.make_team(**row)


def _user(world: World, row: JSON) -> None:
    if row.get("user_id") in world.state.users:
        raise ValueError(f"user {row['user_id']} is there already")
    row.pop("auto_create_key", None)
    row.pop("send_invite_email", None)
    teams = row.pop("teams", [])
    user = world.make_user(row.pop("user_id", None), row.pop("user_email", None), **row)
    for team_id in teams:
        world.state.add_member(world.state.teams[team_id], user)
    if user.pending:
        world.invite(user, next(iter(user.organizations), None))


def _key(world: World, row: JSON) -> JSON:
    duration = row.pop("duration", None)
    row["expires"] = expiry(world.clock.wall(), parse_duration(duration) if duration else None)
    key, raw = world.make_key(row.pop("key", None), **row)
    return {
        "token": key.token,
        "key": raw,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "key_alias": key.key_alias,
    }
