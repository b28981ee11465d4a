"""/team/*member*: who is on a roster. Adding an unknown person creates them."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import TEAM_TABLE, Call, Endpoint
from idsync.sandbox.objects import Member, Team, User, member_row, membership_row, team_row, user_row
from idsync.sandbox.replies import Refusal, invalid, plain, shape_a, shape_b
from idsync.sandbox.validate import Body, choice, number, require, text

MOST_IN_BULK = 500
ROLES = ("user", "admin")


def add(call: Call) -> Any:
    entries = _entries(call.body)
    team = _team(call, 404)
    for entry in entries:
        _check(call, team, entry)
    joined = [_join(call, team, entry) for entry in entries]
    call.audit("updated", TEAM_TABLE, team.team_id, None, {"added": [m.user_id for _, m in joined]})
    return team_row(team) | {
        "updated_users": [user_row(user) for user, _ in joined],
        "updated_team_memberships": [membership_row(team, member) for _, member in joined],
    }


def bulk_add(call: Call) -> Any:
    """Answers 200 even when every row fails."""
    entries = _entries(call.body, "members")
    if len(entries) > MOST_IN_BULK:
        raise shape_b(400, f"Maximum {MOST_IN_BULK} members can be added at once")
    team = _team(call, 404)
    results = [_add_row(call, team, entry) for entry in entries]
    added = sum(row["success"] for row in results)
    return {
        "team_id": team.team_id,
        "results": results,
        "total_requested": len(entries),
        "successful_additions": added,
        "failed_additions": len(entries) - added,
    }


def _add_row(call: Call, team: Team, entry: Body) -> Body:
    row: Body = {"user_id": entry.get("user_id"), "user_email": entry.get("user_email")}
    try:
        _check(call, team, entry)
    except Refusal as refusal:
        return row | {"success": False, "error": str(refusal.reply.body)}
    user, _ = _join(call, team, entry)
    return row | {"user_id": user.user_id, "success": True}


def _entries(body: Body, name: str = "member") -> list[Body]:
    value = body.get(name)
    if value is None:
        raise invalid("missing", ["body", name], "Field required")
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, dict):
            raise invalid("model_attributes_type", ["body", name], "Input should be a valid dictionary")
        choice(entry, "role", ROLES)
        if not text(entry, "user_id") and not text(entry, "user_email"):
            raise invalid("value_error", ["body", name], "Either user_id or user_email must be provided")
    return entries


def _team(call: Call, status: int) -> Team:
    team_id = require(call.body, "team_id")
    team = call.team(team_id)
    if team is None:
        raise shape_b(status, f"Team not found for team_id={team_id}")
    return team


def _check(call: Call, team: Team, entry: Body) -> None:
    if entry.get("role") == "admin" and not (call.world.routero or call.world.settings.licence):
        raise shape_b(400, "Assigning team admins is a premium feature.")
    user = _known(call, entry)
    if user and team.member(user.user_id):
        message = f"User={user.user_id} is already in the team. TeamID={team.team_id}"
        raise shape_a(400, message, "team_member_already_in_team", "member")


def _known(call: Call, entry: Body) -> User | None:
    if entry.get("user_id"):
        return call.state.users.get(entry["user_id"])
    return call.state.user_by_email(entry["user_email"])


def _join(call: Call, team: Team, entry: Body) -> tuple[User, Member]:
    user = _known(call, entry) or call.world.make_user(
        entry.get("user_id"), entry.get("user_email"), organization_id=team.organization_id
    )
    member = call.state.add_member(team, user, entry.get("role") or "user")
    call.world.fleet.team_changed(team.team_id, call.replica)
    return user, member


def delete(call: Call) -> Any:
    team = _team(call, 400)
    user_id, email = text(call.body, "user_id"), text(call.body, "user_email")
    if not user_id and not email:
        raise shape_b(400, "Either user_id or user_email needs to be passed in")
    member = _on_roster(team, user_id, email)
    if member is None:
        raise shape_b(400, "User not found in team")
    # By an address in other letter case the call succeeds and the entry stays.
    if user_id or member.user_email == email:
        _leave(call, team, member.user_id)
    return team_row(team)


def _on_roster(team: Team, user_id: str | None, email: str | None) -> Member | None:
    if user_id:
        return team.member(user_id)
    wanted = (email or "").lower()
    return next((m for m in team.members if (m.user_email or "").lower() == wanted), None)


def _leave(call: Call, team: Team, user_id: str) -> None:
    call.state.remove_member(team, user_id)
    if call.world.settings.member_delete_keys:
        mine = [key for key in call.state.keys_of_team(team.team_id) if key.user_id == user_id]
        gone = call.state.archive_keys(mine, call.world.clock.wall(), call.actor)
        call.world.fleet.keys_changed(gone, call.replica)
    call.world.fleet.team_changed(team.team_id, call.replica)
    call.audit("updated", TEAM_TABLE, team.team_id, None, {"removed": user_id})


def update(call: Call) -> Any:
    role = choice(call.body, "role", ROLES)
    if role == "admin" and not (call.world.routero or call.world.settings.licence):
        raise plain(400, "Assigning team admins is a premium feature.")
    limit = number(call.body, "max_budget_in_team")
    team = _team(call, 400)
    member = _on_roster(team, text(call.body, "user_id"), text(call.body, "user_email"))
    if member is None:
        raise shape_b(400, "User not found in team")
    if role:
        member.role = role
        call.audit("updated", TEAM_TABLE, team.team_id, None, {"role": role, "user_id": member.user_id})
    if limit is not None:
        member.limits["max_budget_in_team"] = limit
    return {"team_id": team.team_id, **member_row(member), **member.limits}


ENDPOINTS = [
    Endpoint("POST", "/team/member_add", add, refusal=403, roster_of="team_id"),
    Endpoint("POST", "/team/bulk_member_add", bulk_add, refusal=403, roster_of="team_id"),
    Endpoint("POST", "/team/member_delete", delete, refusal=403, roster_of="team_id"),
    Endpoint("POST", "/team/member_update", update, refusal=403),
]
