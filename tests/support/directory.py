"""A directory that pushes: the same verbs straight into intake (in this process) or over SCIM (to a daemon)."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from idsync.intake import Intake
from idsync.model import Group, GroupFacts, Origin, User, UserFacts
from idsync.store import directory
from idsync.store.db import Db, Store
from support.settings import SOURCE, TOKEN

T = TypeVar("T")
SCHEMAS = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def mail(login: str) -> str:
    return login if "@" in login else f"{login}@corp.example"


class Directory:
    """Edits through `intake`, each in a transaction of its own, as the SCIM endpoint makes them."""

    def __init__(self, store: Store, intake: Intake, source: str = SOURCE) -> None:
        self._store = store
        self._intake = intake
        self.source = source

    def hire(
        self,
        login: str,
        *groups: str,
        external_id: str | None = None,
        active: bool = True,
        **facts_too: Any,
    ) -> User:
        """Create a user in these groups, in one transaction."""
        doc = {"schemas": [f"{SCHEMAS}User"], "userName": mail(login)}
        usual = UserFacts(
            mail(login), f"x-{login}" if external_id is None else external_id, active, mail(login), login, doc
        )
        facts = replace(usual, **facts_too)

        def edit(db: Db) -> User:
            user = self._intake.create_user(db, facts, self._origin())
            for name in groups:
                self._intake.change_members(db, self._group(db, name), [user.id], [], self._origin())
            return user

        return self._edit(edit)

    def set_active(self, login: str, active: bool, *, external_id: str | None = None) -> None:
        self.change(login, active=active, **({"external_id": external_id} if external_id else {}))

    def change(self, login: str, **changes: Any) -> None:
        """Give a user other facts than they have now, in one request."""

        def edit(db: Db) -> None:
            user = self._user(db, login)
            now = UserFacts(user.user_name, user.external_id, user.active, user.email, user.display_name, user.doc)
            self._intake.replace_user(db, user, replace(now, **changes), self._origin())

        self._edit(edit)

    def leave(self, login: str) -> None:
        self.set_active(login, False)

    def come_back(self, login: str) -> None:
        self.set_active(login, True)

    def delete(self, login: str) -> None:
        self._edit(lambda db: self._intake.delete_user(db, self._user(db, login), self._origin()))

    def join(self, group: str, *logins: str) -> None:
        self._change(group, add=logins)

    def part(self, group: str, *logins: str) -> None:
        self._change(group, remove=logins)

    def empty(self, group: str) -> None:
        """Replace the members by nobody, in one request."""

        def edit(db: Db) -> None:
            found = self._group(db, group)
            facts = GroupFacts(found.display_name, found.external_id, found.doc)
            self._intake.replace_group(db, found, facts, [], self._origin())

        self._edit(edit)

    def delete_group(self, group: str) -> None:
        self._edit(lambda db: self._intake.delete_group(db, self._group(db, group), self._origin()))

    def _change(self, group: str, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
        def edit(db: Db) -> None:
            found = self._group(db, group)
            wanted = [self._user(db, login).id for login in add]
            gone = [self._user(db, login).id for login in remove]
            self._intake.change_members(db, found, wanted, gone, self._origin())

        self._edit(edit)

    def _user(self, db: Db, login: str) -> User:
        found = directory.user_by_name(db, self.source, mail(login))
        assert found is not None, f"nobody is called {login}"
        return found

    def _group(self, db: Db, name: str) -> Group:
        found = directory.group_by_name(db, self.source, name)
        facts = GroupFacts(name, f"g-{name}", {"schemas": [f"{SCHEMAS}Group"], "displayName": name})
        return found or self._intake.create_group(db, facts, [], self._origin())

    def _origin(self) -> Origin:
        return Origin(self.source, "test", time.time())

    def _edit(self, work: Callable[[Db], T]) -> T:
        return self._store.write(work)


class ScimDirectory:
    """The same over HTTP: what an identity provider sends, and nothing else."""

    def __init__(self, base: str, token: str = TOKEN) -> None:
        self._address = urlsplit(base)
        self._token = token
        self.ids: dict[str, str] = {}

    def at(self, base: str) -> ScimDirectory:
        """Return the same directory, pushing to where the daemon is now."""
        moved = ScimDirectory(base, self._token)
        moved.ids = self.ids
        return moved

    def hire(self, login: str, *groups: str) -> str:
        body = {"userName": mail(login), "externalId": f"x-{login}", "active": True, "emails": [{"value": mail(login)}]}
        self.ids[login] = self.push("POST", "/Users", {"schemas": [f"{SCHEMAS}User"], **body})["id"]
        for group in groups:
            self.join(group, login)
        return self.ids[login]

    def join(self, group: str, login: str) -> None:
        if group not in self.ids:
            body = {"schemas": [f"{SCHEMAS}Group"], "displayName": group, "members": []}
            self.ids[group] = self.push("POST", "/Groups", body)["id"]
        self._patch(f"/Groups/{self.ids[group]}", "add", "members", [{"value": self.ids[login]}])

    def leave(self, login: str) -> None:
        self._patch(f"/Users/{self.ids.get(login) or self.find(login)}", "replace", "active", False)

    def come_back(self, login: str) -> None:
        self._patch(f"/Users/{self.ids[login]}", "replace", "active", True)

    def find(self, login: str) -> str:
        """Look a user up by userName, as an identity provider does."""
        found = self.push("GET", f"/Users?filter=userName%20eq%20%22{mail(login)}%22")["Resources"]
        self.ids[login] = found[0]["id"]
        return self.ids[login]

    def _patch(self, path: str, op: str, attribute: str, value: Any) -> None:
        self.push("PATCH", path, {"schemas": [PATCH], "Operations": [{"op": op, "path": attribute, "value": value}]})

    def push(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that has to be answered 2xx."""
        status, raw = self.send(method, path, body)
        assert 200 <= status < 300, (status, raw)
        return json.loads(raw) if raw else None

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/scim+json"}
        try:
            connection.request(method, self._address.path + path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
