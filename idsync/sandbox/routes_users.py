"""/user/*: people. An update of an unknown id creates; a deletion is all or nothing."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import USER_TABLE, Call, Endpoint, page_of, shown
from idsync.sandbox.objects import DASHBOARD_TEAM, User, key_row, team_row, user_row
from idsync.sandbox.replies import invalid, shape_a, shape_b
from idsync.sandbox.validate import Body, choice, count, flag, mapping, number, text, texts

ROLES = (
    "proxy_admin",
    "proxy_admin_viewer",
    "org_admin",
    "internal_user",
    "internal_user_viewer",
    "team",
    "customer",
)
SORTABLE = ("user_id", "user_email", "user_alias", "user_role", "created_at")
ROLE_ALIASES = {"internal_viewer": "internal_user_viewer"}  # routero's guide


def role_in(call: Call, body: Body, name: str = "user_role") -> str | None:
    if not call.world.routero:
        return choice(body, name, ROLES)
    role = choice(body, name, (*ROLES, *ROLE_ALIASES))
    return ROLE_ALIASES.get(role or "", role)


def new(call: Call) -> Any:
    body = call.body
    user_id, email = text(body, "user_id"), text(body, "user_email")
    fields = _fields(call)
    wanted = texts(body, "teams") or []
    make_key = flag(body, "auto_create_key") is not False or call.world.settings.mints_keys
    _refuse_duplicate(call, user_id, email, fields.get("sso_user_id"))
    teams = [call.team(team_id) for team_id in wanted]
    if None in teams:
        raise shape_b(404, f"Team not found, team_id={wanted[teams.index(None)]}")
    user = call.world.make_user(user_id, email, organization_id=call.organization, **fields)
    for team in teams:
        if team:
            call.state.add_member(team, user)
    if call.world.routero and call.world.settings.invite_only:
        user.pending = True
        call.world.invite(user, call.organization or call.world.default_organization)
    call.audit("created", USER_TABLE, user.user_id, None, user_row(user))
    return user_row(user) | (_first_key(call, user) if make_key else {})


def _first_key(call: Call, user: User) -> Body:
    key, raw = call.world.make_key(user_id=user.user_id, organization_id=call.organization, created_by=call.actor)
    return {"key": raw, "token": key.token, "token_id": key.token, "key_name": key.key_name}


def _refuse_duplicate(call: Call, user_id: str | None, email: str | None, sso_user_id: str | None) -> None:
    # Looked up past the organization: ids and addresses are unique in the whole installation.
    if user_id is not None and user_id in call.state.users:
        raise shape_a(409, f"{{'error': 'User with id {user_id} already exists'}}")
    if email and call.state.user_by_email(email):
        raise shape_a(409, f"{{'error': 'User with email {email} already exists'}}")
    if sso_user_id and any(user.sso_user_id == sso_user_id for user in call.state.users.values()):
        raise shape_a(500, "{'error': 'Internal Server Error.'}")  # the database's own refusal, passed on


def _fields(call: Call) -> Body:
    """The given and non-empty fields of a user. An empty metadata counts as not given."""
    body = call.body
    given = {
        "user_alias": text(body, "user_alias"),
        "user_role": role_in(call, body),
        "sso_user_id": text(body, "sso_user_id"),
        "max_budget": number(body, "max_budget"),
        "metadata": mapping(body, "metadata") or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def update(call: Call) -> Any:
    user_id, email = text(call.body, "user_id"), text(call.body, "user_email")
    if not user_id and not email:
        raise invalid("value_error", ["body"], "Either user_id or user_email must be provided")
    fields = _fields(call)
    user = _addressed(call, user_id, email)
    before = user_row(user)
    if user_id and email and email != user.user_email:
        call.state.change_email(user, email)
    for name, value in fields.items():
        setattr(user, name, value)
    if text(call.body, "password"):
        _end_sessions(call, user)
    user.updated_at = call.world.clock.wall()
    call.world.fleet.user_changed(user.user_id, call.replica)
    call.audit("updated", USER_TABLE, user.user_id, before, user_row(user))
    return {"user_id": user.user_id, "data": user_row(user)}


def _end_sessions(call: Call, user: User) -> None:
    """A new password deletes the dashboard's session keys of a user."""
    sessions = [key for key in call.state.keys_of_user(user.user_id) if key.team_id == DASHBOARD_TEAM]
    gone = call.state.archive_keys(sessions, call.world.clock.wall(), call.actor)
    call.world.fleet.keys_deleted(gone, call.replica)


def _addressed(call: Call, user_id: str | None, email: str | None) -> User:
    """The person meant by an update, who is created if nobody has that id or address."""
    known = call.state.users.get(user_id) if user_id else call.state.user_by_email(email or "")
    if known is None:
        return call.world.make_user(user_id, email, organization_id=call.organization)
    if not call.sees_user(known):
        raise shape_a(404, "{'error': 'User not found'}")
    return known


def delete(call: Call) -> Any:
    user_ids = texts(call.body, "user_ids")
    if user_ids is None:
        raise invalid("missing", ["body", "user_ids"], "Field required")
    users = {user_id: call.user(user_id) for user_id in user_ids}
    for user_id, user in users.items():
        if user is None:
            raise shape_b(404, f"User not found, passed user_id={user_id}")
    for user in users.values():
        if user:
            _remove(call, user)
    return len(users)


def _remove(call: Call, user: User) -> None:
    call.audit("deleted", USER_TABLE, user.user_id, user_row(user), None)
    keys = call.state.drop_user(user, rosters=call.world.settings.user_delete_rosters)
    call.world.fleet.keys_changed(keys, call.replica)
    call.world.fleet.user_changed(user.user_id, call.replica)


def info(call: Call) -> Any:
    user_id = _asked_user(call)
    user = call.user(user_id)
    if user is None:
        raise shape_a(404, f"{{'error': 'User {user_id} not found'}}")
    keys = shown([key for key in call.state.keys_of_user(user_id) if call.sees(key)])
    teams = [team for team_id in user.teams if (team := call.team(team_id))]
    return {
        "user_id": user_id,
        "user_info": user_row(user),
        "keys": [key_row(key) for key in keys],
        "teams": [team_row(team) for team in teams],
    }


def info_light(call: Call) -> Any:
    user_id = _asked_user(call)
    user = call.user(user_id)
    if user is None:
        raise shape_a(404, f"{{'error': 'User {user_id} not found'}}")
    return _short_row(call, user)


def _short_row(call: Call, user: User) -> Body:
    """A row as the light read and the listing have it: LiteLLM shows organizations in /user/info alone."""
    row = user_row(user)
    if not call.world.routero:
        row.pop("organization_memberships", None)
    return row


def _asked_user(call: Call) -> str:
    own = call.caller.user_id or ""
    # An id with a space can be made and not read back: the space arrives as a plus sign.
    wanted = call.query.get("user_id", own).replace(" ", "+")
    if not call.is_admin and not call.caller.organization and wanted != own:
        raise shape_a(403, "key not allowed to access this user's info", "auth_error")
    return wanted


def listing(call: Call) -> Any:
    page = count(call.query, "page", 1)
    size = count(call.query, "page_size", 25, most=100)
    state = call.world.listed()
    matching = _sorted(call, _selected(call, list(reversed(state.users.values()))))
    users, pages = page_of(matching, page, size)
    rows = [_short_row(call, user) | {"key_count": len(state.keys_of_user(user.user_id))} for user in users]
    return {
        "users": rows,
        "total": len(matching),
        "page": page,
        "page_size": size,
        "total_pages": pages,
    }


def _sorted(call: Call, users: list[User]) -> list[User]:
    """Newest first unless told otherwise."""
    column = call.query.get("sort_by")
    if column is None:
        return users
    if column not in SORTABLE:
        raise shape_b(400, f"Invalid sort column: {column}")
    falling = call.query.get("sort_order", "asc").lower() == "desc"
    users = users if falling else users[::-1]
    return sorted(users, key=lambda user: str(getattr(user, column) or ""), reverse=falling)


def _selected(call: Call, users: list[User]) -> list[User]:
    """The filters are settled once, not for each of many thousand people."""
    query = call.query
    if call.organization is not None:
        users = [user for user in users if call.sees_user(user)]
    if ids := query.get("user_ids"):
        wanted = set(ids.split(","))
        users = [user for user in users if user.user_id in wanted]
    if part := query.get("user_email", "").lower():
        users = [user for user in users if part in (user.user_email or "").lower()]
    if sso := query.get("sso_user_ids"):
        subjects = set(sso.split(","))
        users = [user for user in users if user.sso_user_id in subjects]
    if role := query.get("role"):
        named = ROLE_ALIASES.get(role, role)
        users = [user for user in users if user.user_role == named]
    if team := query.get("team"):
        users = [user for user in users if team in user.teams]
    return users


ENDPOINTS = [
    Endpoint("POST", "/user/new", new),
    Endpoint("POST", "/user/update", update),
    Endpoint("POST", "/user/delete", delete),
    Endpoint("GET", "/user/info", info, access="person"),
    Endpoint("GET", "/v2/user/info", info_light, access="person"),
    Endpoint("GET", "/user/list", listing),
]
