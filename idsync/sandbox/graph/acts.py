"""What administrators do to a tenant, and how it is filled."""

from __future__ import annotations

from functools import partial
from typing import Any

from idsync.sandbox.asked import done, fitting, rows
from idsync.sandbox.graph.state import Group, ServicePrincipal, Tenant, User

JSON = dict[str, Any]
PROPERTIES = {
    "mail": "mail",
    "displayName": "name",
    "accountEnabled": "enabled",
    "employeeId": "employee_id",
    "userType": "user_type",
}
SECTIONS = ("users", "groups", "servicePrincipals", "many")


class Acts:
    """Each public method is an act of `POST /_sandbox/graph/act`: {"do": "disable", "user": "ann@example.com"}."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def perform(self, given: JSON) -> JSON:
        name = given.pop("do", None)
        acts = [one for one in vars(type(self)) if not one.startswith("_") and one != "perform"]
        if name not in acts:
            given_name = "an act needs its name" if name is None else f"there is no act {name!r}"
            raise ValueError(f'{given_name}; write it like {{"do": "disable", ...}}: {", ".join(acts)}')
        result: JSON = done(name, getattr(self, name), given)
        return result

    # users

    def create_user(self, userPrincipalName: str, **fields: Any) -> JSON:
        return {"id": self._tenant.add_user(made_user(self._tenant, userPrincipalName, **fields)).id}

    def disable(self, user: str) -> JSON:
        return self.change_user(user, accountEnabled=False)

    def enable(self, user: str) -> JSON:
        return self.change_user(user, accountEnabled=True)

    def change_user(self, user: str, **fields: Any) -> JSON:
        found = self._tenant.user(user)
        if upn := fields.pop("userPrincipalName", None):
            self._tenant.rename_user(found, upn)
        for name, value in fitting("a user", fields, PROPERTIES).items():
            setattr(found, PROPERTIES[name], value)
            self._tenant.touch(found, name)
        return {"id": found.id}

    def odd(self, user: str, **shown: Any) -> JSON:
        """The record shows these properties instead of its own, whatever their type."""
        found = self._tenant.user(user)
        found.odd = shown
        for name in shown:
            self._tenant.touch(found, name)
        return {"id": found.id}

    def soft_delete(self, user: str) -> JSON:
        found = self._tenant.user(user)
        self._tenant.soft_delete(found)
        return {"id": found.id}

    def restore(self, user: str) -> JSON:
        return {"id": self._tenant.restore(self._deleted(user)).id}

    def hard_delete(self, user: str) -> JSON:
        """For good, whether it was soft-deleted before or not."""
        if self._tenant.find_user(user):
            self._tenant.soft_delete(self._tenant.user(user))
        found = self._deleted(user)
        self._tenant.hard_delete(found)
        return {"id": found}

    def _deleted(self, ref: str) -> str:
        found = next((u for u in self._tenant.deleted if ref in (u.id, u.upn)), None)
        if found is None:
            raise ValueError(f"no deleted user {ref}")
        return found.id

    # groups

    def create_group(self, displayName: str, members: list[str] | None = None, **fields: Any) -> JSON:
        group = self._tenant.add_group(made_group(self._tenant, displayName, **fields))
        for ref in members or []:
            self._tenant.join(group, self._tenant.member(ref))
        return {"id": group.id}

    def rename_group(self, group: str, displayName: str) -> JSON:
        found = self._tenant.group(group)
        found.name = displayName
        self._tenant.touch(found, "displayName")
        return {"id": found.id}

    def delete_group(self, group: str) -> JSON:
        found = self._tenant.group(group)
        self._tenant.delete_group(found)
        return {"id": found.id}

    def recreate_group(self, group: str) -> JSON:
        """Delete it and make one of the same name with the same members, which has another id."""
        found = self._tenant.group(group)
        members = found.members.keys()
        self._tenant.delete_group(found)
        return self.create_group(found.name, members)

    def hide_group(self, group: str) -> JSON:
        """Its members are for those with Member.Read.Hidden only."""
        found = self._tenant.group(group)
        found.visibility = "HiddenMembership"
        self._tenant.touch(found, "visibility")
        return {"id": found.id}

    def join(self, group: str, member: str) -> JSON:
        self._tenant.join(self._tenant.group(group), self._tenant.member(member))
        return {}

    def leave(self, group: str, member: str) -> JSON:
        self._tenant.leave(self._tenant.group(group), self._tenant.member(member))
        return {}

    # the enterprise app

    def assign(self, principal: str, to: str) -> JSON:
        self._tenant.assign(self._tenant.principal(principal), self._tenant.member(to))
        return {}

    def unassign(self, principal: str, to: str) -> JSON:
        self._tenant.unassign(self._tenant.principal(principal), self._tenant.member(to))
        return {}


def made_user(tenant: Tenant, upn: str, **fields: Any) -> User:
    """Not yet in the tenant."""
    name = upn.partition("@")[0].replace(".", " ").title()
    user = User(
        fields.pop("id", None) or tenant.new_id(), upn, upn, name, fields.pop("createdDateTime", tenant.stamp())
    )
    for prop, value in fitting("a user beside userPrincipalName and id", fields, PROPERTIES).items():
        setattr(user, PROPERTIES[prop], value)
    return user


def made_group(tenant: Tenant, name: str, **fields: Any) -> Group:
    group = Group(fields.pop("id", None) or tenant.new_id(), name, tenant.stamp())
    group.description, group.visibility = fields.pop("description", None), fields.pop("visibility", None)
    fitting("a group beside displayName, members, id, description and visibility", fields, ())
    return group


def seed(tenant: Tenant, given: JSON) -> JSON:
    """Return the ids by userPrincipalName and displayName. Raises ValueError for what does not fit."""
    given = fitting("a seed", given, SECTIONS)
    made: JSON = {"users": {}, "groups": {}, "servicePrincipals": {}}
    for row in rows("users", given.get("users", [])):
        row = fitting("a user", row, ("userPrincipalName", "id", "createdDateTime", *PROPERTIES), ["userPrincipalName"])
        user = tenant.add_user(made_user(tenant, row.pop("userPrincipalName"), **row))
        made["users"][user.upn] = user.id
    rosters = []
    for row in rows("groups", given.get("groups", [])):
        row = fitting("a group", row, ("displayName", "members", "id", "description", "visibility"), ["displayName"])
        members = row.pop("members", [])
        group = tenant.add_group(made_group(tenant, row.pop("displayName"), **row))
        made["groups"][group.name] = group.id
        rosters.append((group, members))
    for group, members in rosters:  # a group may be a member of a later one
        for ref in members:
            tenant.join(group, tenant.member(ref))
    for row in rows("servicePrincipals", given.get("servicePrincipals", [])):
        principal = done("a service principal", partial(_principal, tenant), row)
        made["servicePrincipals"][principal.name] = principal.id
    if many := given.get("many"):
        done("many", partial(_many, tenant, made), many)
    return made


def _principal(
    tenant: Tenant,
    displayName: str,
    id: str | None = None,
    appId: str | None = None,
    assigned: Any = (),
) -> ServicePrincipal:
    found = ServicePrincipal(id or tenant.new_id(), appId or tenant.new_id(), displayName)
    tenant.principals.add(found.id, found)
    for ref in assigned:
        tenant.assign(found, tenant.member(ref))
    return found


def _many(
    tenant: Tenant, made: JSON, users: int, groups: int = 0, memberships: int = 0, app: str | None = None
) -> None:
    """`users` people p0000001@example.com, groups team-0001, memberships spread evenly; all assigned to one app.

    A full round of a delta query shows them; a deltaLink from before does not.
    """
    tenant.recording = False
    people = [tenant.add_user(made_user(tenant, f"p{n:07d}@example.com")) for n in range(1, users + 1)]
    teams = [tenant.add_group(made_group(tenant, f"team-{n:04d}")) for n in range(1, groups + 1)]
    each = -(-memberships // groups) if groups else 0
    left = memberships
    for number, team in enumerate(teams):
        for step in range(min(each, left)):
            tenant.join(team, people[(number * each + step) % users])
        left -= min(each, left)
    made["groups"] |= {team.name: team.id for team in teams}
    made["users"] |= {user.upn: user.id for user in people[:10]}
    if app is not None:
        found = _principal(tenant, app)
        for user in people:
            tenant.assign(found, user)
        made["servicePrincipals"][app] = found.id
    tenant.recording = True
