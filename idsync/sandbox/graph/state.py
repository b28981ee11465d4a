"""The directory of a tenant and the log of its changes, from which delta queries are answered. No HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from idsync.sandbox.idp.jsontext import seconds
from idsync.sandbox.idp.shelf import Shelf

JSON = dict[str, Any]
NO_ROLE = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True, eq=False)
class User:
    id: str
    upn: str
    mail: str | None
    name: str | None
    created: str
    enabled: bool | None = True
    employee_id: str | None = None
    user_type: str | None = "Member"
    deleted: str | None = None  # when it was soft-deleted
    odd: JSON = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "user"


@dataclass(slots=True, eq=False)
class Group:
    id: str
    name: str
    created: str
    description: str | None = None
    visibility: str | None = None  # or HiddenMembership
    deleted: str | None = None
    odd: JSON = field(default_factory=dict)
    members: Shelf[User | Group] = field(default_factory=Shelf)
    groups: dict[str, Group] = field(default_factory=dict)  # those it is a member of

    @property
    def kind(self) -> str:
        return "group"


Principal = User | Group


@dataclass(slots=True, eq=False)
class Assignment:
    id: str
    principal: Principal
    created: str


@dataclass(slots=True, eq=False)
class ServicePrincipal:
    id: str
    app_id: str
    name: str
    assignments: Shelf[Assignment] = field(default_factory=Shelf)


@dataclass(frozen=True, slots=True)
class Change:
    kind: str  # "user" or "group"
    id: str
    what: str  # a property, or "all", "soft", "hard", "member"
    member: tuple[str, str, bool] | None = None  # type, id, and whether it is one now


class Tenant:
    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.users: Shelf[User] = Shelf()
        self.groups: Shelf[Group] = Shelf()
        self.deleted: Shelf[User] = Shelf()
        self.principals: Shelf[ServicePrincipal] = Shelf()
        self.changes: list[Change] = []
        self.recording = True
        self._names: dict[str, str] = {}
        self._made = 0

    def new_id(self) -> str:
        """Never given twice."""
        self._made += 1
        return str(uuid.UUID(int=(self._made * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128), version=4))

    def stamp(self) -> str:
        return seconds(self.now()) or ""

    # who is meant: an id, or a userPrincipalName or a displayName

    def find_user(self, ref: str) -> User | None:
        return self.users.get(ref) or self.users.get(self._names.get(ref.lower(), ""))

    def user(self, ref: str) -> User:
        user = self.find_user(ref)
        if user is None:
            raise ValueError(f"no user {ref}")
        return user

    def group(self, ref: str) -> Group:
        group = self.groups.get(ref) or next((g for g in self.groups if g.name == ref), None)
        if group is None:
            raise ValueError(f"no group {ref}")
        return group

    def principal(self, ref: str) -> ServicePrincipal:
        known = (p for p in self.principals if ref in (p.id, p.app_id, p.name))
        found = next(known, None)
        if found is None:
            raise ValueError(f"no service principal {ref}")
        return found

    def member(self, ref: str) -> Principal:
        return self.find_user(ref) or self.group(ref)

    # changes, each of which is written down for delta queries

    def add_user(self, user: User) -> User:
        if user.upn.lower() in self._names:
            raise ValueError(f"userPrincipalName {user.upn} is taken")
        if not self.users.add(user.id, user):
            raise ValueError(f"user {user.id} is there already")
        self._names[user.upn.lower()] = user.id
        self._changed(user, "all")
        return user

    def rename_user(self, user: User, upn: str) -> None:
        del self._names[user.upn.lower()]
        user.upn = upn
        self._names[upn.lower()] = user.id
        self._changed(user, "userPrincipalName")

    def touch(self, thing: Principal, prop: str) -> None:
        self._changed(thing, prop)

    def add_group(self, group: Group) -> Group:
        if not self.groups.add(group.id, group):
            raise ValueError(f"group {group.id} is there already")
        self._changed(group, "all")
        return group

    def soft_delete(self, user: User) -> None:
        """Memberships and assignments stay, unseen, until it is deleted for good."""
        self.users.remove(user.id)
        del self._names[user.upn.lower()]
        user.deleted = self.stamp()
        self.deleted.add(user.id, user)
        self._changed(user, "soft")

    def restore(self, user_id: str) -> User:
        user = self.deleted.remove(user_id)
        if user is None:
            raise ValueError(f"no deleted user {user_id}")
        user.deleted = None
        return self.add_user(user)

    def hard_delete(self, user_id: str) -> None:
        """Groups are not told: a group's delta does not show it."""
        user = self.deleted.remove(user_id)
        if user is None:
            raise ValueError(f"no deleted user {user_id}")
        for group in user.groups.values():
            group.members.remove(user.id)
        user.groups.clear()
        for principal in self.principals:
            self._unassign(principal, user.id)
        self._changed(user, "hard")

    def delete_group(self, group: Group) -> None:
        self.groups.remove(group.id)
        for member in list(group.members):
            del member.groups[group.id]
        for parent in list(group.groups.values()):
            parent.members.remove(group.id)
        for principal in self.principals:
            self._unassign(principal, group.id)
        self._changed(group, "hard")

    def join(self, group: Group, member: Principal) -> None:
        if group.members.add(member.id, member):
            member.groups[group.id] = group
            self._record(Change("group", group.id, "member", (member.kind, member.id, True)))

    def leave(self, group: Group, member: Principal) -> None:
        if group.members.remove(member.id) is not None:
            del member.groups[group.id]
            self._record(Change("group", group.id, "member", (member.kind, member.id, False)))

    def assign(self, principal: ServicePrincipal, who: Principal) -> None:
        if who.id not in principal.assignments:
            one = Assignment(f"{self.new_id().replace('-', '')[:22]}sandbox", who, self.stamp())
            principal.assignments.add(who.id, one)

    def unassign(self, principal: ServicePrincipal, who: Principal) -> None:
        self._unassign(principal, who.id)

    def _unassign(self, principal: ServicePrincipal, who: str) -> None:
        principal.assignments.remove(who)

    def _changed(self, thing: Principal, what: str) -> None:
        self._record(Change(thing.kind, thing.id, what))

    def _record(self, change: Change) -> None:
        if self.recording:
            self.changes.append(change)

    # nested groups

    def transitive_members(self, group: Group) -> Iterator[Principal]:
        """Each of them once, soft-deleted ones left out."""
        seen, waiting = {group.id}, [group]
        while waiting:
            for member in waiting.pop().members:
                if member.id not in seen and member.deleted is None:
                    seen.add(member.id)
                    yield member
                    if isinstance(member, Group):
                        waiting.append(member)

    def groups_of(self, who: Principal) -> dict[str, Group]:
        """Directly and through other groups."""
        found: dict[str, Group] = {}
        waiting = list(who.groups.values())
        while waiting:
            group = waiting.pop()
            if group.id not in found:
                found[group.id] = group
                waiting += group.groups.values()
        return found
