"""Fills a sandbox: people, teams, rosters, keys and past spend."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from idsync.sandbox.asked import fitting, rows
from idsync.sandbox.clock import parse_duration
from idsync.sandbox.objects import Key, Team, User
from idsync.sandbox.world import World, expiry

JSON = dict[str, Any]
SECTIONS = ("users", "teams", "members", "keys", "usage")


def _settable(kind: type[Any], *but: str) -> tuple[str, ...]:
    """Return the names of what a seed may set: what the sandbox sets itself is left out."""
    return tuple(one.name for one in fields(kind) if one.name not in but)


USER = (*_settable(User, "created_at", "updated_at"), "organization_id", "auto_create_key", "send_invite_email")
TEAM = _settable(Team, "team_id", "created_at", "updated_at", "members")
KEY = _settable(Key, "token", "digest", "key_name", "created_at", "updated_at", "expires", "deleted_at", "deleted_by")


def seed(world: World, given: JSON) -> JSON:
    """Returns the raw keys, which are shown nowhere else. Raises ValueError for what does not fit."""
    given = fitting("a seed", given, SECTIONS)
    listed = {name: rows(name, given.get(name, [])) for name in SECTIONS}
    for row in listed["teams"]:
        _team(world, fitting("a team", row, ("team_id", *TEAM)))
    for row in listed["users"]:
        _user(world, fitting("a user", row, USER))
    for row in listed["members"]:
        _member(world, fitting("a member", row, ("team_id", "user_id", "role"), ("team_id", "user_id")))
    booked = [fitting("a row of usage", row, (), anything=True) for row in listed["usage"]]
    world.state.usage.extend({"requests": 1, "model": "gpt-5-mini", **row} for row in booked)
    return {"keys": [made_key(world, fitting("a key", row, ("key", "duration", *KEY))) for row in listed["keys"]]}


def _member(world: World, row: JSON) -> None:
    if row["team_id"] not in world.state.teams:
        raise ValueError(f"there is no team {row['team_id']!r}; name it under teams, in this seed or before")
    world.join(world.state.teams[row["team_id"]], row["user_id"], row.get("role", "user"))


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
        _member(world, {"team_id": team_id, "user_id": user.user_id})
    if user.pending:
        world.invite(user, next(iter(user.organizations), None))


def made_key(world: World, row: JSON) -> JSON:
    """Make a key of a row of a seed; return it with its secret, which is shown nowhere else."""
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
