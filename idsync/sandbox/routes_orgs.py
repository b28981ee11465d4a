"""/organization/*: memberships. Ending one deletes neither the person nor a single key."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import ROUTERO, USER_TABLE, Call, Endpoint
from idsync.sandbox.objects import User, user_row
from idsync.sandbox.replies import invalid, shape_a, shape_b
from idsync.sandbox.routes_users import role_in
from idsync.sandbox.validate import Body, require, text
from idsync.sandbox.world import DEFAULT_ORGANIZATION

ROLES_WITHIN = ("org_admin", "internal_user", "internal_user_viewer")


def _licensed(call: Call) -> None:
    if not call.world.routero and not call.world.settings.licence:
        raise shape_b(403, "You must be a LiteLLM Enterprise user to use this feature.")


def permission_update(call: Call) -> Any:
    """The organization role of a person, or with team_id their role in that team."""
    email = require(call.body, "user_email")
    role = role_in(call, call.body) or require(call.body, "user_role")
    team_id = text(call.body, "team_id")
    user = call.state.user_by_email(email)
    if user is None or not call.sees_user(user):
        raise shape_a(404, f"{{'error': 'User not found: {email}'}}", param="user_email")
    organization = call.organization or next(iter(user.organizations), DEFAULT_ORGANIZATION)
    before = user_row(user)
    reply = {"user_id": user.user_id, "user_email": user.user_email, "user_role": role}
    reply["organization_id"] = organization
    if team_id:
        _require_member(call, team_id, user)
        reply["team_id"] = team_id
    user.organizations[organization] = role
    if role != "org_admin":
        user.user_role = role
    call.world.fleet.user_changed(user.user_id, call.replica)
    call.audit("updated", USER_TABLE, user.user_id, before, user_row(user))
    return reply


def _require_member(call: Call, team_id: str, user: User) -> None:
    team = call.team(team_id)
    if team is None or team.member(user.user_id) is None:
        raise shape_a(404, f"{{'error': 'User not found in team {team_id}'}}", param="team_id")


def member_add(call: Call) -> Any:
    _licensed(call)
    organization = require(call.body, "organization_id")
    value: Any = call.body.get("member")
    entries: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict) for entry in entries):
        raise invalid("model_attributes_type", ["body", "member"], "Input should be a valid dictionary")
    users = [_join(call, organization, entry) for entry in entries]
    return {
        "organization_id": organization,
        "updated_users": [user_row(user) for user in users],
        "updated_organization_memberships": [_membership(organization, user) for user in users],
    }


def _join(call: Call, organization: str, entry: Body) -> User:
    role = role_in(call, entry, "role") or "internal_user"
    user_id, email = text(entry, "user_id"), text(entry, "user_email")
    if not user_id and not email:
        raise invalid("value_error", ["body", "member"], "Either user_id or user_email must be provided")
    known = call.state.users.get(user_id) if user_id else call.state.user_by_email(email or "")
    if known and organization in known.organizations:
        raise shape_a(500, f"Authentication Error, Error adding member to organization={organization}")
    user = known or call.world.make_user(user_id, email, organization_id=organization)
    user.organizations[organization] = role
    return user


def _membership(organization: str, user: User) -> Body:
    return {
        "organization_id": organization,
        "user_id": user.user_id,
        "user_role": user.organizations.get(organization),
    }


def member_update(call: Call) -> Any:
    _licensed(call)
    organization = require(call.body, "organization_id")
    role = role_in(call, call.body, "role") or require(call.body, "role")
    if role not in ROLES_WITHIN:
        raise invalid("value_error", ["body", "role"], f"Invalid role. Must be one of: {list(ROLES_WITHIN)}")
    user = _member(call, organization)
    if user is None:
        raise shape_b(404, f"Member not found in organization for user_id={call.body.get('user_id')}")
    user.organizations[organization] = role
    return _membership(organization, user)


def member_delete(call: Call) -> Any:
    """null for somebody who is not a member."""
    _licensed(call)
    organization = require(call.body, "organization_id")
    user = _member(call, organization)
    if user is None:
        return None
    row = _membership(organization, user)
    del user.organizations[organization]
    call.audit("updated", USER_TABLE, user.user_id, row, None)
    return row


def _member(call: Call, organization: str) -> User | None:
    user_id, email = text(call.body, "user_id"), text(call.body, "user_email")
    user = call.state.users.get(user_id) if user_id else call.state.user_by_email(email or "")
    return user if user and organization in user.organizations else None


ENDPOINTS = [
    Endpoint("POST", "/organization/member_permission_update", permission_update, dialects=ROUTERO),
    Endpoint("POST", "/organization/member_add", member_add),
    Endpoint("PATCH", "/organization/member_update", member_update),
    Endpoint("DELETE", "/organization/member_delete", member_delete),
]
