"""What administrators and users do to an org, with the events each of it leaves in the System Log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from idsync.sandbox.asked import done, fitting
from idsync.sandbox.okta.state import App, Assignment, Group, Org, User, of_app, of_app_user, of_group, of_user

JSON = dict[str, Any]


class Acts:
    """Each public method is an act of `POST /_sandbox/okta/act`: {"do": "suspend", "user": "ann@example.com"}."""

    def __init__(self, org: Org, keeps_groups: Callable[[], bool]) -> None:
        self._org = org
        self._keeps_groups = keeps_groups  # of people who are deactivated

    def perform(self, given: JSON) -> JSON:
        name = given.pop("do", None)
        acts = [one for one in vars(type(self)) if not one.startswith("_") and one != "perform"]
        if name not in acts:
            given_name = "an act needs its name" if name is None else f"there is no act {name!r}"
            raise ValueError(f'{given_name}; write it like {{"do": "suspend", ...}}: {", ".join(acts)}')
        result: JSON = done(name, getattr(self, name), given)
        return result

    # users

    def create_user(self, login: str, status: str = "ACTIVE", **fields: Any) -> JSON:
        user = self._org.add_user(made_user(self._org, login, "STAGED", **fields))
        self._log("user.lifecycle.create", "Create Okta user", of_user(user))
        if status != "STAGED":
            self._become(user, status, "user.lifecycle.activate", "Activate Okta user")
        return {"id": user.id}

    def activate(self, user: str) -> JSON:
        found = self._org.user(user)
        kind = "reactivate" if found.status == "DEPROVISIONED" else "activate"
        return self._become(found, "ACTIVE", f"user.lifecycle.{kind}", f"{kind.capitalize()} Okta user")

    def suspend(self, user: str) -> JSON:
        return self._become(self._org.user(user), "SUSPENDED", "user.lifecycle.suspend", "Suspend Okta user")

    def unsuspend(self, user: str) -> JSON:
        return self._become(self._org.user(user), "ACTIVE", "user.lifecycle.unsuspend", "Unsuspend Okta user")

    def lock(self, user: str) -> JSON:
        return self._become(self._org.user(user), "LOCKED_OUT", "user.account.lock", "Max sign in attempts exceeded")

    def unlock(self, user: str) -> JSON:
        return self._become(self._org.user(user), "ACTIVE", "user.account.unlock", "Unlock user account")

    def status(self, user: str, status: str) -> JSON:
        """Any status at all, without an event."""
        found = self._org.user(user)
        self._org.set_status(found, status)
        return {"id": found.id}

    def deactivate(self, user: str, slow: bool = False) -> JSON:
        """With `slow`, the status stays and only `transitioningToStatus` tells, until `settle`."""
        found = self._org.user(user)
        if slow:
            found.transitioning, found.updated = "DEPROVISIONED", self._org.now()
            return {"id": found.id}
        return self._deactivated(found)

    def settle(self, user: str) -> JSON:
        found = self._org.user(user)
        return self._deactivated(found) if found.transitioning == "DEPROVISIONED" else {"id": found.id}

    def delete(self, user: str) -> JSON:
        """The whole way, whatever the status was."""
        found = self._org.user(user)
        if found.status != "DEPROVISIONED":
            self._deactivated(found)
        self._log("user.lifecycle.delete.initiated", "Delete Okta user initiated", of_user(found))
        self._org.drop_user(found)
        self._log("user.lifecycle.delete.completed", "Delete Okta user completed", of_user(found))
        return {"id": found.id}

    def change_profile(self, user: str, **fields: Any) -> JSON:
        """login, email, firstName, lastName or any other attribute."""
        found = self._org.user(user)
        if login := fields.pop("login", None):
            self._org.rename_login(found, login)
        found.email = fields.pop("email", found.email)
        found.first_name = fields.pop("firstName", found.first_name)
        found.last_name = fields.pop("lastName", found.last_name)
        found.profile |= fields
        found.updated = self._org.now()
        self._log("user.account.update_profile", "Update user profile for Okta", of_user(found))
        return {"id": found.id}

    def touch(self, user: str, age: float = 0.0) -> JSON:
        """The record says it was changed so many seconds ago, or, below zero, in the future."""
        found = self._org.user(user)
        found.updated = self._org.now() - age
        return {"id": found.id}

    def log_out(self, user: str, everywhere: bool = False) -> JSON:
        """Changes nothing; `everywhere` is universal logout."""
        kind = "user.authentication.universal_logout" if everywhere else "user.session.end"
        self._log(kind, "User logout", of_user(self._org.user(user)))
        return {}

    def import_users(self, create: list[str] | None = None, deactivate: list[str] | None = None) -> JSON:
        """Many at once, of which the log tells with one event only."""
        for login in create or []:
            self._org.add_user(made_user(self._org, login))
        for ref in deactivate or []:
            found = self._org.user(ref)
            for app in self._org.apps:
                self._org.unassign(app, found)
            self._org.set_status(found, "DEPROVISIONED")
        self._log("system.import.complete", "Complete user import")
        return {}

    def odd(self, user: str, **shown: Any) -> JSON:
        """The record shows these members instead of its own, whatever their type."""
        found = self._org.user(user)
        found.odd = shown
        return {"id": found.id}

    # groups

    def create_group(self, name: str, members: list[str] | None = None, **fields: Any) -> JSON:
        group = made_group(self._org, name, **fields)
        self._log("group.lifecycle.create", "Create Okta group", of_group(group))
        for ref in members or []:
            self.join(group.id, ref)
        return {"id": group.id}

    def rename_group(self, group: str, name: str) -> JSON:
        found = self._org.group(group)
        found.name, found.updated = name, self._org.now()
        self._log("group.profile.update", "Okta group profile updated", of_group(found))
        return {"id": found.id}

    def delete_group(self, group: str) -> JSON:
        found = self._org.group(group)
        self._org.drop_group(found)
        self._log("group.lifecycle.delete", "Delete Okta group", of_group(found))
        return {"id": found.id}

    def recreate_group(self, group: str) -> JSON:
        """Delete it and make one of the same name with the same members, which has another id."""
        found = self._org.group(group)
        members = found.members.keys()
        self.delete_group(found.id)
        return self.create_group(found.name, members)

    def join(self, group: str, user: str) -> JSON:
        found, who = self._org.group(group), self._org.user(user)
        before = {app.id for app in self._org.apps if who.id in app.users}
        if self._org.join(found, who):
            self._log("group.user_membership.add", "Add user to group membership", of_user(who), of_group(found))
            for app in self._org.apps:
                if who.id in app.users and app.id not in before:
                    self._assigned(app, who)
        return {"group": found.id, "user": who.id}

    def leave(self, group: str, user: str) -> JSON:
        found, who = self._org.group(group), self._org.user(user)
        before = {app.id for app in self._org.apps if who.id in app.users}
        if self._org.leave(found, who):
            said = "Remove user from group membership"
            self._log("group.user_membership.remove", said, of_user(who), of_group(found))
            for app in self._org.apps:
                if app.id in before and who.id not in app.users:
                    self._unassigned(app, who)
        return {"group": found.id, "user": who.id}

    # apps

    def assign(self, app: str, user: str | None = None, group: str | None = None) -> JSON:
        found = self._org.app(app)
        if user is not None:
            who = self._org.user(user)
            if self._org.assign(found, who):
                self._assigned(found, who)
        if group is not None:
            team = self._org.group(group)
            assign_group(self._org, found, team)
            self._log("group.application_assignment.add", "Assign group to app", of_group(team), of_app(found))
        return {"app": found.id}

    def unassign(self, app: str, user: str | None = None, group: str | None = None, how: str = "remove") -> JSON:
        """`how` may also be deprovision or revoke, which are other events of the same outcome."""
        found = self._org.app(app)
        if user is not None:
            who = self._org.user(user)
            if self._org.unassign(found, who):
                self._unassigned(found, who, how)
        if group is not None:
            team = self._org.group(group)
            found.groups.remove(team.id)
            self._log("group.application_assignment.remove", "Remove group from app", of_group(team), of_app(found))
            for who in list(team.members):
                if self._org.refresh(found, who):
                    self._unassigned(found, who)
        return {"app": found.id}

    def update_assignment(self, app: str, group: str) -> JSON:
        """Its priority or its profile: who is assigned stays the same."""
        found, team = self._org.app(app), self._org.group(group)
        said = "Update group's application assignment"
        self._log("group.application_assignment.update", said, of_group(team), of_app(found))
        return {"app": found.id}

    def deactivate_app(self, app: str) -> JSON:
        found = self._org.app(app)
        found.status = "INACTIVE"
        self._log("application.lifecycle.deactivate", "Deactivate application", of_app(found))
        return {"id": found.id}

    def delete_app(self, app: str) -> JSON:
        found = self._org.app(app)
        self._org.apps.remove(found.id)
        self._log("application.lifecycle.delete", "Delete application", of_app(found))
        return {"id": found.id}

    # the log

    def log(
        self,
        event: str,
        user: str | None = None,
        group: str | None = None,
        app: str | None = None,
        result: str = "SUCCESS",
        age: float = 0.0,
    ) -> JSON:
        """Any event; `age` is how many seconds ago it was published, so that it comes late and out of order."""
        targets = [of_user(self._org.user(user))] if user else []
        targets += [of_group(self._org.group(group))] if group else []
        targets += [of_app(self._org.app(app))] if app else []
        made = self._org.record(event, targets, result=result, at=self._org.now() - age)
        return {"uuid": made["uuid"]}

    def repeat_event(self, uuid: str) -> JSON:
        """The same event once more, under the same uuid."""
        event = next((e for e in self._org.events if e.body["uuid"] == uuid), None)
        if event is None:
            raise ValueError(f"no event {uuid}")
        self._org.events.append(event)
        return {"uuid": uuid}

    def _become(self, user: User, status: str, event: str, said: str) -> JSON:
        self._org.set_status(user, status)
        self._log(event, said, of_user(user))
        return {"id": user.id}

    def _deactivated(self, user: User) -> JSON:
        for app in self._org.apps:
            if self._org.unassign(app, user):
                self._unassigned(app, user)
        if not self._keeps_groups():
            for group in list(user.groups.values()):
                self.leave(group.id, user.id)
        return self._become(user, "DEPROVISIONED", "user.lifecycle.deactivate", "Deactivate Okta user")

    def _assigned(self, app: App, user: User) -> None:
        targets = (of_app_user(user), of_app(app), of_user(user))
        self._log("application.user_membership.add", "Add user to application membership", *targets)

    def _unassigned(self, app: App, user: User, how: str = "remove") -> None:
        targets = (of_app_user(user), of_app(app), of_user(user))
        self._log(f"application.user_membership.{how}", "Remove user's application membership", *targets)

    def _log(self, event: str, said: str, *targets: tuple[str, str, str, str]) -> None:
        self._org.record(event, list(targets), said)


def made_user(org: Org, login: str, status: str = "ACTIVE", **fields: Any) -> User:
    """Not yet in the org."""
    now = org.now()
    first, _, last = login.partition("@")[0].replace(".", " ").title().partition(" ")
    return User(
        fields.pop("id", None) or org.new_id("00u"),
        login,
        fields.pop("email", login),
        fields.pop("firstName", first),
        fields.pop("lastName", last or "Example"),
        status,
        now,
        now,
        activated=None if status in ("STAGED", "PROVISIONED") else now,
        status_changed=None if status == "STAGED" else now,
        profile=fields,
    )


def made_group(org: Org, name: str, **fields: Any) -> Group:
    now = org.now()
    fields = fitting("a group beside its name", fields, ("id", "type", "description"))
    kind, description = fields.pop("type", "OKTA_GROUP"), fields.pop("description", None)
    group = Group(fields.pop("id", None) or org.new_id("00g"), name, now, now, now, kind, description)
    if not org.groups.add(group.id, group):
        raise ValueError(f"group {group.id} is there already")
    return group


def assign_group(org: Org, app: App, group: Group) -> None:
    app.groups.add(group.id, group)
    now = org.now()
    for user in group.members:
        if user.status != "DEPROVISIONED":
            app.users.add(user.id, Assignment(user, "GROUP", now, now, user.id))
