"""Entra's values: managers, roles, and two PATCH formats for one tenant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, USER, Client

from .people import name, rich_user

NEW: dict[str, Any] = {
    "an id": "next",
    "an array of a reference": [{"$ref": "../Users/next", "value": "next"}],
    "an array of an object": [{"value": "next"}],
    "an array of an id": ["next"],
    "an object": {"value": "next"},
    "an object with a name": {"value": "next", "displayName": "Next"},
    "an object with nulls": {"$ref": None, "value": "next", "displayName": None},
    "an object in another case": {"Value": "next"},
    "the name of SCIM 1.1": {"managerId": "next"},
}
NONE: dict[str, Any] = {
    "an empty text": "",
    "null": None,
    "an empty array": [],
    "an array of an empty text": [""],
    "an empty id": {"value": ""},
    "a null id": {"value": None},
}
PATHS = {"with its URN": f"{ENTERPRISE}:manager", "bare": "manager"}


def manager(client: Client, user: Any) -> str | None:
    extension = client.get(f"/Users/{user['id']}").json[ENTERPRISE]
    assert extension["department"] == "Sales"
    return str(extension["manager"]["value"]) if "manager" in extension else None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("spelling", NEW)
def test_a_manager_however_it_is_spelled(client: Client, spelling: str, path: str) -> None:
    for op in ("Add", "Replace"):
        user = rich_user(client)
        got = client.patch(f"/Users/{user['id']}", {"op": op, "path": PATHS[path], "value": NEW[spelling]})
        assert (got.status, manager(client, user)) == (200, "next")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("spelling", NONE)
def test_no_manager_however_it_is_spelled(client: Client, spelling: str, path: str) -> None:
    """Replacing by nothing removes the manager; adding nothing leaves the one there is."""
    for op, left in (("Replace", None), ("Add", "boss")):
        user = rich_user(client)
        got = client.patch(f"/Users/{user['id']}", {"op": op, "path": PATHS[path], "value": NONE[spelling]})
        assert (got.status, manager(client, user)) == (200, left)


@pytest.mark.parametrize("path", PATHS)
def test_a_manager_is_removed(client: Client, path: str) -> None:
    for removal in ({}, {"value": "boss"}, {"value": [{"value": "boss"}]}, {"value": None}):
        user = rich_user(client)
        got = client.patch(f"/Users/{user['id']}", {"op": "Remove", "path": PATHS[path], **removal})
        assert (got.status, manager(client, user)) == (200, None)


@pytest.mark.parametrize("spelling", [*NEW, *NONE])
def test_a_manager_in_a_whole_user(client: Client, spelling: str) -> None:
    value = (NEW | NONE)[spelling]
    for document in (
        {ENTERPRISE: {"department": "Sales", "manager": value}},
        {"department": "Sales", "manager": value},
    ):
        user = rich_user(client, **{ENTERPRISE: {"department": "Sales"}})
        got = client.send("PUT", f"/Users/{user['id']}", {"userName": user["userName"], **document})
        assert (got.status, manager(client, user)) == (200, "next" if spelling in NEW else None)


ADMIN = {"id": "18d14569", "value": "Admin", "displayName": "Admin"}
ROLES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "SingleAppRoleAssignment": (
        {"op": "Replace", "path": 'roles[primary eq "True"].value', "value": "Admin"},
        [{"value": "Admin", "primary": True}],
    ),
    "SingleAppRoleAssignment, added": (
        {"op": "Add", "path": 'roles[primary eq "True"].value', "value": "Admin"},
        [{"value": "Admin", "primary": True}],
    ),
    "a role that is not there yet": (
        {"op": "Add", "path": 'roles[type eq "app"].value', "value": "Admin"},
        [{"value": "reader", "primary": True}, {"value": "Admin", "type": "app"}],
    ),
    "AppRoleAssignmentsComplex": (
        {"op": "Add", "path": "roles", "value": [{"value": json.dumps(ADMIN)}]},
        [{"value": "reader", "primary": True}, {"value": "Admin"}],
    ),
    "AppRoleAssignmentsComplex, all in one text": (
        {"op": "Add", "path": "roles", "value": json.dumps([ADMIN])},
        [{"value": "reader", "primary": True}, {"value": "Admin"}],
    ),
    "AssertiveAppRoleAssignmentsComplex": (
        {"op": "Replace", "path": "roles", "value": [{"value": json.dumps(ADMIN)}]},
        [{"value": "Admin"}],
    ),
    "a boolean without quotes": (
        {"op": "Replace", "path": "roles[primary eq true].value", "value": "Admin"},
        [{"value": "Admin", "primary": True}],
    ),
    "removed by a filter": ({"op": "Remove", "path": 'roles[primary eq "True"]'}, []),
    "removed by a value list": ({"op": "Remove", "path": "roles", "value": [{"value": "reader"}]}, []),
    "removed by a value list that says more": (
        {"op": "Remove", "path": "roles", "value": [{"value": "reader", "display": "Reader"}]},
        [],
    ),
}


@pytest.mark.parametrize("mapping", ROLES)
def test_roles(client: Client, mapping: str) -> None:
    operation, left = ROLES[mapping]
    user = rich_user(client)
    got = client.patch(f"/Users/{user['id']}", operation)
    assert (got.status, client.get(f"/Users/{user['id']}").json.get("roles", [])) == (200, left)


def test_a_profile_url_as_the_validator_sends_it(client: Client) -> None:
    """Microsoft's SCIM Validator makes up twelve capitals; RFC 7643 §2.3.7 lets a reference be relative."""
    made = client.send("POST", "/Users", {"schemas": [USER], "userName": name(), "profileUrl": "BAPNQLJSRQGD"})
    assert (made.status, made.json.get("profileUrl")) == (201, "BAPNQLJSRQGD")
    for operation in (
        {"op": "replace", "path": "profileUrl", "value": "EEASFOPRMBDT"},
        {"op": "replace", "value": {"profileUrl": "EEASFOPRMBDT"}},
    ):
        user = client.user(name())
        got = client.patch(f"/Users/{user['id']}", operation)
        assert (got.status, got.json.get("profileUrl")) == (200, "EEASFOPRMBDT")


def test_one_request_may_mix_both_formats(client: Client) -> None:
    user = rich_user(client)
    got = client.patch(
        f"/Users/{user['id']}?aadOptscim062020",
        {"op": "Replace", "path": f"{USER}:title", "value": "Lead"},
        {"op": "replace", "value": {"name.givenName": "Other", f"{ENTERPRISE}:costCenter": "c1"}},
        {"op": "Replace", "path": "active", "value": "False"},
    )
    assert got.status == 200
    left = client.get(f"/Users/{user['id']}").json
    assert (left["title"], left["name"]["givenName"], left["active"]) == ("Lead", "Other", False)
    assert left[ENTERPRISE] == {"department": "Sales", "manager": {"value": "boss"}, "costCenter": "c1"}
