"""Okta and Entra ID as SCIM clients: headers, encodings, and the order of their calls as they have been seen.

Okta's wizard apps look a user up, POST, and from then on GET and PUT the whole record; groups are PUT whole. Entra
looks up with `+` for spaces, creates groups empty, and PATCHes with capitalised operations, `"False"` as a string and
a value array with `$ref: null` to remove members.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

from idsync.demo.wire import Wire

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Okta:
    """An app of Okta's integration wizard: PUT only."""

    def __init__(self, base: str, token: str) -> None:
        headers = {
            "Authorization": f"Bearer {token}",
            "User-Agent": "Okta SCIM Client 1.0.0",
            "Accept": "application/scim+json",
            "Accept-Charset": "utf-8",
            "Content-Type": "application/scim+json; charset=utf-8",
        }
        self.wire = Wire(base, headers)
        self.group_ids: dict[str, str] = {}

    def assign(self, email: str, given: str, family: str) -> str:
        """Assign the app: look up, create. Returns the id Okta keeps."""
        self.wire.ok("GET", f"/Users?filter=userName%20eq%20%22{quote(email, safe='')}%22&startIndex=1&count=100")
        body = self._record(email, given, family) | {"groups": [], "password": "1mz050nq"}
        return str(self.wire.ok("POST", "/Users", body)["id"])

    @staticmethod
    def _record(email: str, given: str, family: str) -> dict[str, Any]:
        return {
            "schemas": [USER],
            "userName": email,
            "name": {"givenName": given, "familyName": family},
            "emails": [{"primary": True, "value": email, "type": "work"}],
            "displayName": f"{given} {family}",
            "locale": "en-US",
            "externalId": f"00u{given.lower()}",
            "active": True,
        }

    def push_group(self, name: str, members: list[str]) -> None:
        """Push a group whole: created empty the first time, then read and replaced."""
        if name not in self.group_ids:
            self.wire.ok("GET", f"/Groups?filter=displayName%20eq%20%22{quote(name)}%22&startIndex=1&count=100")
            made = self.wire.ok("POST", "/Groups", {"schemas": [GROUP], "displayName": name, "members": []})
            self.group_ids[name] = made["id"]
        group_id = self.group_ids[name]
        self.wire.ok("GET", f"/Groups/{group_id}")
        listed = [{"value": member, "display": "member"} for member in members]
        body = {"schemas": [GROUP], "id": group_id, "displayName": name, "members": listed}
        self.wire.ok("PUT", f"/Groups/{group_id}", body)

    def unassign(self, user_id: str) -> None:
        """Unassign the app, or deactivate the person: the server's own answer comes back with active=false."""
        record = self.wire.ok("GET", f"/Users/{user_id}")
        self.wire.ok("PUT", f"/Users/{user_id}", record | {"active": False})


class Entra:
    """Entra ID without the aadOptscim062020 flag."""

    def __init__(self, base: str, token: str) -> None:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/scim+json",
            "Content-Type": "application/scim+json; charset=utf-8",
        }
        self.wire = Wire(base, headers)
        self.group_ids: dict[str, str] = {}

    def provision(self, email: str, given: str, family: str) -> str:
        """Look up by userName, create. externalId is mapped to the objectId, as our guide says."""
        self.wire.ok("GET", f"/Users?filter=userName+eq+%22{quote_plus(email)}%22")
        body = {
            "schemas": [USER, ENTERPRISE],
            "externalId": f"7f3c1a90-0000-4000-8000-{sum(given.encode()):012d}",
            "userName": email,
            "active": True,
            "displayName": f"{given} {family}",
            "emails": [{"primary": True, "type": "work", "value": email}],
            "meta": {"resourceType": "User"},
            "name": {"formatted": f"{given} {family}", "familyName": family, "givenName": given},
            "roles": [],
        }
        return str(self.wire.ok("POST", "/Users", body)["id"])

    def add(self, name: str, members: list[str]) -> None:
        """Add members; the group is created empty first, members always follow by PATCH."""
        if name not in self.group_ids:
            self.wire.ok("GET", f"/Groups?excludedAttributes=members&filter=displayName+eq+%22{quote_plus(name)}%22")
            body = {"schemas": [GROUP], "displayName": name, "members": [], "meta": {"resourceType": "Group"}}
            self.group_ids[name] = self.wire.ok("POST", "/Groups", body)["id"]
        self._members(name, "Add", members)

    def remove(self, name: str, members: list[str]) -> None:
        """Remove members with a value array, which a literal reading of the RFC takes for "all of them"."""
        self._members(name, "Remove", members)

    def _members(self, name: str, op: str, members: list[str]) -> None:
        value = [{"$ref": None, "value": member} for member in members]
        operation = {"op": op, "path": "members", "value": value}
        self.wire.ok("PATCH", f"/Groups/{self.group_ids[name]}", {"schemas": [PATCH], "Operations": [operation]})

    def disable(self, user_id: str) -> None:
        """Block sign-in, unassign or soft-delete: all arrive as this, a string where a boolean should be."""
        operation = {"op": "Replace", "path": "active", "value": "False"}
        self.wire.ok("PATCH", f"/Users/{user_id}", {"schemas": [PATCH], "Operations": [operation]})
