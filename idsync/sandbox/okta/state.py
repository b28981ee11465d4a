"""The records of an org and how they change together. No HTTP."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from idsync.sandbox.idp.jsontext import millis
from idsync.sandbox.idp.shelf import Shelf

JSON = dict[str, Any]
STATUSES = (
    "STAGED",
    "PROVISIONED",
    "ACTIVE",
    "RECOVERY",
    "PASSWORD_EXPIRED",
    "LOCKED_OUT",
    "SUSPENDED",
    "DEPROVISIONED",
)


@dataclass(slots=True, eq=False)
class User:
    id: str
    login: str
    email: str
    first_name: str
    last_name: str
    status: str
    created: float
    updated: float
    activated: float | None = None
    status_changed: float | None = None
    transitioning: str | None = None
    profile: JSON = field(default_factory=dict)  # attributes beyond the usual ones
    odd: JSON = field(default_factory=dict)  # what its record shows instead, type and all
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Group:
    id: str
    name: str
    created: float
    updated: float
    membership_updated: float
    kind: str = "OKTA_GROUP"
    description: str | None = None
    members: Shelf[User] = field(default_factory=Shelf)


@dataclass(slots=True, eq=False)
class Assignment:
    user: User
    scope: str  # USER or GROUP
    created: float
    updated: float
    id: str = ""  # set so that a shelf's filters find it


@dataclass(slots=True, eq=False)
class App:
    id: str
    label: str
    created: float
    updated: float
    status: str = "ACTIVE"
    users: Shelf[Assignment] = field(default_factory=Shelf)
    groups: Shelf[Group] = field(default_factory=Shelf)


@dataclass(slots=True)
class Event:
    body: JSON
    published: float
    persisted: float


Target = tuple[str, str, str, str]  # type, id, alternateId, displayName


class Org:
    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.users: Shelf[User] = Shelf()
        self.groups: Shelf[Group] = Shelf()
        self.apps: Shelf[App] = Shelf()
        self.events: list[Event] = []
        self.deleted: set[str] = set()
        self._logins: dict[str, str] = {}
        self._made = 0
        self._random = random.Random(7)  # noqa: S311 - repeatable on purpose

    def new_id(self, kind: str) -> str:
        """`00u` and 17 more characters. Never given twice."""
        self._made += 1
        return f"{kind}{self._made:010x}x6sb5d7"

    # who is meant: an id, or a login or a name

    def user(self, ref: str) -> User:
        user = self.find_user(ref)
        if user is None:
            raise ValueError(f"no user {ref}")
        return user

    def find_user(self, ref: str) -> User | None:
        return self.users.get(ref) or self.users.get(self._logins.get(ref.lower(), ""))

    def group(self, ref: str) -> Group:
        group = self.groups.get(ref) or next((g for g in self.groups if g.name == ref), None)
        if group is None:
            raise ValueError(f"no group {ref}")
        return group

    def app(self, ref: str) -> App:
        app = self.apps.get(ref) or next((a for a in self.apps if a.label == ref), None)
        if app is None:
            raise ValueError(f"no app {ref}")
        return app

    # users

    def add_user(self, user: User) -> User:
        if user.login.lower() in self._logins:
            raise ValueError(f"login {user.login} is taken")
        if not self.users.add(user.id, user):
            raise ValueError(f"user {user.id} is there already")
        self._logins[user.login.lower()] = user.id
        return user

    def rename_login(self, user: User, login: str) -> None:
        del self._logins[user.login.lower()]
        user.login = login
        self._logins[login.lower()] = user.id

    def set_status(self, user: User, status: str) -> None:
        user.status = status
        user.status_changed = user.updated = self.now()
        user.transitioning = None
        if status == "ACTIVE" and user.activated is None:
            user.activated = user.updated

    def drop_user(self, user: User) -> None:
        """The record is gone for good; a person who comes back gets a new id."""
        for group in list(user.groups.values()):
            self.leave(group, user)
        for app in self.apps:
            app.users.remove(user.id)
        self.users.remove(user.id)
        del self._logins[user.login.lower()]
        self.deleted.add(user.id)

    # groups

    def join(self, group: Group, user: User) -> bool:
        if not group.members.add(user.id, user):
            return False
        user.groups[group.id] = group
        group.membership_updated = self.now()
        for app in self.apps:
            if group.id in app.groups:
                self.assign(app, user, "GROUP")
        return True

    def leave(self, group: Group, user: User) -> bool:
        if group.members.remove(user.id) is None:
            return False
        del user.groups[group.id]
        group.membership_updated = self.now()
        for app in self.apps:
            if group.id in app.groups:
                self.refresh(app, user)
        return True

    def drop_group(self, group: Group) -> None:
        self.groups.remove(group.id)
        for app in self.apps:
            app.groups.remove(group.id)
        for user in list(group.members):
            del user.groups[group.id]
            for app in self.apps:
                self.refresh(app, user)

    # apps

    def assign(self, app: App, user: User, scope: str = "USER") -> bool:
        """A personal assignment outweighs one through a group."""
        known = app.users.get(user.id)
        if known is not None:
            changed = known.scope != scope == "USER"
            known.scope = "USER" if changed else known.scope
            return changed
        if user.status == "DEPROVISIONED":
            return False
        now = self.now()
        return app.users.add(user.id, Assignment(user, scope, now, now, user.id))

    def unassign(self, app: App, user: User) -> bool:
        return app.users.remove(user.id) is not None

    def refresh(self, app: App, user: User) -> bool:
        """End an assignment that no group carries any more. True if it ended."""
        known = app.users.get(user.id)
        if known is None or known.scope == "USER" or any(group_id in app.groups for group_id in user.groups):
            return False
        return self.unassign(app, user)

    # the log

    def record(
        self, kind: str, targets: list[Target], message: str = "", *, result: str = "SUCCESS", at: float | None = None
    ) -> JSON:
        """Append an event; `at` is when it happened, which may lie before the ones that are there already."""
        now = self.now()
        published = now if at is None else at
        body = _event(kind, targets, message or kind, result, millis(published) or "", self._random)
        self.events.append(Event(body, published, now))
        return body


def of_user(user: User) -> Target:
    return ("User", user.id, user.login, f"{user.first_name} {user.last_name}")


def of_group(group: Group) -> Target:
    return ("UserGroup", group.id, "unknown", group.name)


def of_app(app: App) -> Target:
    return ("AppInstance", app.id, app.label, app.label)


def of_app_user(user: User) -> Target:
    return ("AppUser", f"0ua{user.id[3:]}", user.login, f"{user.first_name} {user.last_name}")


def _event(kind: str, targets: list[Target], message: str, result: str, at: str, chance: random.Random) -> JSON:
    number = uuid.UUID(int=chance.getrandbits(128), version=4)
    agent = {"rawUserAgent": "Mozilla/5.0", "os": "Mac OS X", "browser": "CHROME"}
    return {
        "actor": {
            "id": "00usandboxadmin5d7x6",
            "type": "User",
            "alternateId": "admin@example.com",
            "displayName": "Org Admin",
            "detailEntry": None,
        },
        "client": {
            "userAgent": agent,
            "zone": "null",
            "device": "Computer",
            "id": None,
            "ipAddress": "192.0.2.10",
            "geographicalContext": None,
        },
        "device": None,
        "authenticationContext": {
            "authenticationProvider": None,
            "credentialProvider": None,
            "credentialType": None,
            "issuer": None,
            "interface": None,
            "authenticationStep": 0,
            "externalSessionId": "trs5d7x6sandbox",
        },
        "displayMessage": message,
        "eventType": kind,
        "outcome": {"result": result, "reason": None},
        "published": at,
        "securityContext": {"asNumber": None, "asOrg": None, "isp": None, "domain": None, "isProxy": None},
        "severity": "INFO",
        "debugContext": {"debugData": {"requestId": number.hex[:27], "requestUri": "/api/v1/sandbox"}},
        "legacyEventType": None,
        "transaction": {"type": "WEB", "id": number.hex[:27], "detail": {}},
        "uuid": str(number),
        "version": "0",
        "request": {"ipChain": []},
        "target": [
            {"id": i, "type": t, "alternateId": a, "displayName": d, "detailEntry": None} for t, i, a, d in targets
        ],
    }
