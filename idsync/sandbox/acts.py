"""What happens behind the caller's back: a person acts between two calls of the client.

Used by the `then` of a fault rule and by `POST /_sandbox/act`. Other replicas hear of it as of any call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from idsync.sandbox.asked import fitting
from idsync.sandbox.objects import Key
from idsync.sandbox.seeding import KEY, TEAM, made_key
from idsync.sandbox.usage import book
from idsync.sandbox.world import World

JSON = dict[str, Any]
T = TypeVar("T")


def perform(world: World, act: JSON) -> JSON:
    """`act` is {name: arguments}. Raises ValueError for an unknown name or missing thing."""
    if not isinstance(act, dict) or (unknown := sorted(set(act) - set(ACTS))):
        what = f"there is no act {unknown[0]!r}" if isinstance(act, dict) else "an act is an object"
        raise ValueError(f'{what}; write it like {{"unblock": {{"user_id": "u-ann"}}}}: {", ".join(ACTS)}')
    return {name: ACTS[name](world, _arguments(name, given)) for name, given in act.items()}


def _arguments(name: str, given: Any) -> JSON:
    takes, needs = ARGUMENTS[name]
    return fitting(name, given, takes, needs)


def _there(kind: str, things: Mapping[str, T], name: str) -> T:
    if name not in things:
        raise ValueError(f"there is no {kind} {name!r}")
    return things[name]


def _generate_key(world: World, given: JSON) -> JSON:
    raw = given.pop("raw", None)
    return made_key(world, given | {"key": raw} if raw else given)


def _member_add(world: World, given: JSON) -> JSON:
    team = _there("team", world.state.teams, given["team_id"])
    if team.member(given["user_id"]) is None:
        world.join(team, given["user_id"], given.get("role", "user"))
    return {"team_id": team.team_id, "members": len(team.members)}


def _unblock(world: World, given: JSON) -> JSON:
    keys = _keys(world, given)
    for key in keys:
        world.set_blocked(key, False, key.user_id, 0)
    return {"keys": [key.token for key in keys]}


def _keys(world: World, given: JSON) -> list[Key]:
    if "user_id" in given:
        return world.state.keys_of_user(given["user_id"])
    if "key" not in given:
        raise ValueError("unblock needs user_id, or the id of a key")
    return [_there("key", world.state.keys, given["key"])]


def _set_metadata(world: World, given: JSON) -> JSON:
    user = _there("user", world.state.users, given["user_id"])
    world.set_metadata(user, given["metadata"], 0)
    return {"user_id": user.user_id}


def _set_team(world: World, given: JSON) -> JSON:
    team = _there("team", world.state.teams, given.pop("team_id"))
    for name, value in given.items():
        setattr(team, name, value)
    return {"team_id": team.team_id}


def _accept_invitation(world: World, given: JSON) -> JSON:
    invitations = world.state.invitations_of(given["user_id"])
    if not invitations:
        raise ValueError(f"no invitation for {given['user_id']}")
    world.accept(invitations[-1])
    return {"invitation_id": invitations[-1].invitation_id}


def _book_spend(world: World, given: JSON) -> JSON:
    """A key is used, or its use is booked, whether it should be dead or not. `at`: when the request began (now)."""
    key = world.state.keys.get(given["key"]) or _there("key", world.state.archive, given["key"])
    at = datetime.fromisoformat(given["at"]) if "at" in given else None
    use = book(world, key, given.get("model", "gpt-5-mini"), float(given["spend"]), at)
    if key.deleted_at and given.get("in_archive"):
        key.spend += use["spend"]
    return {"date": use["date"], "spend": use["spend"]}


ACTS: dict[str, Callable[[World, JSON], JSON]] = {
    "generate_key": _generate_key,
    "member_add": _member_add,
    "unblock": _unblock,
    "set_metadata": _set_metadata,
    "set_team": _set_team,
    "accept_invitation": _accept_invitation,
    "book_spend": _book_spend,
}
ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "generate_key": (("raw", "key", "duration", *KEY), ()),
    "member_add": (("team_id", "user_id", "role"), ("team_id", "user_id")),
    "unblock": (("user_id", "key"), ()),
    "set_metadata": (("user_id", "metadata"), ("user_id", "metadata")),
    "set_team": (("team_id", *TEAM), ("team_id",)),
    "accept_invitation": (("user_id",), ("user_id",)),
    "book_spend": (("key", "spend", "at", "model", "in_archive"), ("key", "spend")),
}
"""What each act takes, and what it needs."""
