"""/team/*: teams themselves. Aliases are not unique; a block is enforced only after the cache time."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import ADMIN_USER, TEAM_TABLE, Call, Endpoint, page_of, shown
from idsync.sandbox.clock import parse_duration
from idsync.sandbox.objects import Team, key_row, membership_row, team_row
from idsync.sandbox.replies import invalid, shape_a, shape_b
from idsync.sandbox.validate import Body, asked, count, mapping, number, require, text, texts, whole


def new(call: Call) -> Any:
    team_id = text(call.body, "team_id")
    fields = _fields(call.body)
    if team_id and team_id in call.state.teams:
        raise shape_a(400, f"{{'error': 'Team id = {team_id} already exists.'}}")
    organization = call.organization or text(call.body, "organization_id")
    team = call.world.make_team(team_id, organization_id=organization, **fields)
    _plan_reset(call, team)
    _admin_joins(call, team)
    _others_join(call, team)
    call.audit("created", TEAM_TABLE, team.team_id, None, team_row(team))
    return team_row(team)


def _admin_joins(call: Call, team: Team) -> None:
    """The caller is the first member."""
    user_id = call.caller.user_id or ADMIN_USER
    user = call.state.users.get(user_id) or call.world.make_user(user_id, user_role="proxy_admin")
    if team.organization_id:
        user.organizations.setdefault(team.organization_id, "org_admin")
    call.state.add_member(team, user, "admin")


def _others_join(call: Call, team: Team) -> None:
    for entry in call.body.get("members_with_roles") or []:
        user_id = require(entry, "user_id")
        if team.member(user_id) is None:
            call.world.join(team, user_id, entry.get("role") or "user", team.organization_id)


def _fields(body: Body) -> Body:
    given = {
        "team_alias": text(body, "team_alias"),
        "models": texts(body, "models"),
        "max_budget": number(body, "max_budget"),
        "soft_budget": number(body, "soft_budget"),
        "budget_duration": text(body, "budget_duration"),
        "tpm_limit": whole(body, "tpm_limit"),
        "rpm_limit": whole(body, "rpm_limit"),
        "metadata": mapping(body, "metadata"),
        "member_permissions": texts(body, "team_member_permissions"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _plan_reset(call: Call, team: Team) -> None:
    if team.budget_duration is None:
        return
    try:
        team.budget_reset_at = call.world.clock.wall() + parse_duration(team.budget_duration)
    except ValueError as problem:
        raise shape_a(400, str(problem), "bad_request_error", "budget_duration") from None


def update(call: Call) -> Any:
    fields = _fields(call.body)
    team = _named(call, require(call.body, "team_id"))
    before = team_row(team)
    for name, value in fields.items():
        setattr(team, name, value)
    _plan_reset(call, team)
    team.updated_at = call.world.clock.wall()
    call.world.fleet.team_changed(team.team_id, call.replica)
    call.audit("updated", TEAM_TABLE, team.team_id, before, team_row(team))
    return {"team_id": team.team_id, "data": team_row(team)}


def _named(call: Call, name: str) -> Team:
    """By id; routero's guide also passes an alias, which works if only one team has it."""
    team = call.team(name)
    if team is None and call.world.routero:
        namesakes = [t for t in call.state.teams.values() if t.team_alias == name and call.sees(t)]
        team = namesakes[0] if len(namesakes) == 1 else None
    if team is None:
        raise shape_a(404, f"{{'error': 'Team not found, passed team_id={name}'}}")
    return team


def info(call: Call) -> Any:
    team_id = asked(call.query, "team_id")
    team = call.team(team_id)
    if team is None:
        raise shape_a(404, f"{{'error': 'Team not found, passed team id: {team_id}.'}}")
    return {
        "team_id": team.team_id,
        "team_info": team_row(team),
        "keys": [key_row(key) for key in shown(call.state.keys_of_team(team_id))],
        "team_memberships": [membership_row(team, member) for member in team.members],
    }


def listing(call: Call) -> Any:
    user_id = call.query.get("user_id")
    teams = [team for team in call.world.listed().teams.values() if call.sees(team)]
    return [team_row(team) for team in teams if user_id is None or team.member(user_id)]


def paged(call: Call) -> Any:
    page = count(call.query, "page", 1)
    size = count(call.query, "page_size", 10, most=100)
    everything = reversed(call.world.listed().teams.values())
    matching = [team for team in everything if _matches(call, team)]
    teams, pages = page_of(matching, page, size)
    return {
        "teams": [team_row(team) for team in teams],
        "total": len(matching),
        "page": page,
        "page_size": size,
        "total_pages": pages,
    }


def _matches(call: Call, team: Team) -> bool:
    query = call.query
    if not call.sees(team):
        return False
    if (alias := query.get("team_alias")) and alias.lower() not in (team.team_alias or "").lower():
        return False
    if (team_id := query.get("team_id")) and team.team_id != team_id:
        return False
    if (organization := query.get("organization_id")) and team.organization_id != organization:
        return False
    return not (user_id := query.get("user_id")) or team.member(user_id) is not None


def block(call: Call) -> Any:
    return _set_blocked(call, True)


def unblock(call: Call) -> Any:
    return _set_blocked(call, False)


def _set_blocked(call: Call, blocked: bool) -> Any:
    team_id = require(call.body, "team_id")
    team = call.team(team_id)
    if team is None:
        raise shape_b(404, f"Team not found, passed team_id={team_id}")
    team.blocked = blocked  # nobody is told: every replica goes on with what it remembers
    call.audit("blocked" if blocked else "updated", TEAM_TABLE, team_id, None, {"blocked": blocked})
    return team_row(team)


def delete(call: Call) -> Any:
    team_ids = texts(call.body, "team_ids")
    if team_ids is None:
        raise invalid("missing", ["body", "team_ids"], "Field required")
    teams = {team_id: call.team(team_id) for team_id in team_ids}
    for team_id, team in teams.items():
        if team is None:
            raise shape_b(404, f"Team not found, passed team_id={team_id}")
    return {"deleted_teams": [_remove(call, team) for team in teams.values() if team]}


def _remove(call: Call, team: Team) -> Any:
    row = team_row(team)
    now = call.world.clock.wall()
    keys = call.state.archive_keys(call.state.keys_of_team(team.team_id), now, call.actor)
    call.state.drop_team(team)
    call.world.fleet.keys_changed(keys, call.replica)
    call.world.fleet.team_changed(team.team_id, call.replica)
    call.audit("deleted", TEAM_TABLE, team.team_id, row, None)
    return row


ENDPOINTS = [
    Endpoint("POST", "/team/new", new),
    Endpoint("POST", "/team/update", update),
    Endpoint("GET", "/team/info", info),
    Endpoint("GET", "/team/list", listing),
    Endpoint("GET", "/v2/team/list", paged),
    Endpoint("POST", "/team/block", block),
    Endpoint("POST", "/team/unblock", unblock),
    Endpoint("POST", "/team/delete", delete),
]
