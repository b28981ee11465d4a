"""Fills an org: single people and groups by name, or very many at once."""

from __future__ import annotations

from functools import partial
from typing import Any

from idsync.sandbox.asked import done, fitting, rows
from idsync.sandbox.okta.acts import assign_group, made_group, made_user
from idsync.sandbox.okta.state import App, Org

JSON = dict[str, Any]
SECTIONS = ("users", "groups", "apps", "many")


def seed(org: Org, given: JSON) -> JSON:
    """Return the ids by login, name and label. No events are written. Raises ValueError for what does not fit."""
    given = fitting("a seed", given, SECTIONS)
    made: JSON = {"users": {}, "groups": {}, "apps": {}}
    for row in rows("users", given.get("users", [])):
        user = org.add_user(done("a user", partial(made_user, org), row))
        made["users"][user.login] = user.id
    for row in rows("groups", given.get("groups", [])):
        row = fitting("a group", row, ("name", "members", "id", "type", "description"), ["name"])
        members = row.pop("members", [])
        group = made_group(org, **row)
        for ref in members:
            org.join(group, org.user(ref))
        made["groups"][group.name] = group.id
    for row in rows("apps", given.get("apps", [])):
        app = done("an app", partial(_app, org), row)
        made["apps"][app.label] = app.id
    if many := given.get("many"):
        done("many", partial(_many, org, made), many)
    return made


def _app(org: Org, label: str, id: str | None = None, users: Any = (), groups: Any = ()) -> App:
    now = org.now()
    app = App(id or org.new_id("0oa"), label, now, now)
    org.apps.add(app.id, app)
    for ref in users:
        org.assign(app, org.user(ref))
    for ref in groups:
        assign_group(org, app, org.group(ref))
    return app


def _many(org: Org, made: JSON, users: int, groups: int = 0, memberships: int = 0, app: str | None = None) -> None:
    """`users` people p0000001@example.com, groups team-0001, memberships spread evenly; all of them in one app."""
    people = [org.add_user(made_user(org, f"p{n:07d}@example.com")) for n in range(1, users + 1)]
    teams = [made_group(org, f"team-{n:04d}") for n in range(1, groups + 1)]
    each = -(-memberships // groups) if groups else 0
    left = memberships
    for number, team in enumerate(teams):
        for step in range(min(each, left)):
            org.join(team, people[(number * each + step) % users])
        left -= min(each, left)
    made["groups"] |= {team.name: team.id for team in teams}
    made["users"] |= {user.login: user.id for user in people[:10]}
    if app is not None:
        found = _app(org, app)
        for user in people:
            org.assign(found, user)
        made["apps"][app] = found.id
