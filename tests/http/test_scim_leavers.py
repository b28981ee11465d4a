"""Every spelling of a departure sets active to false; what is not understood is refused and changes nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, USER, Client

CORE_ACTIVE = f"{USER}:active"
SPELLINGS: dict[str, list[dict[str, Any]]] = {
    "Okta OIN": [{"op": "replace", "value": {"active": False}}],
    "Entra": [{"op": "Replace", "path": "active", "value": "False"}],
    "Entra, lower case": [{"op": "Replace", "path": "active", "value": "false"}],
    "Entra with its flag": [{"op": "replace", "path": "active", "value": False}],
    "text without a path": [{"op": "Replace", "value": {"active": "False"}}],
    "among others": [{"op": "replace", "value": {"displayName": "Gone", "active": False, "name.givenName": "G"}}],
    "in capitals": [{"op": "REPLACE", "path": "Active", "value": False}],
    "with its URN": [{"op": "replace", "path": CORE_ACTIVE, "value": False}],
    "URN as a key": [{"op": "replace", "value": {CORE_ACTIVE: "False"}}],
    "schema as a key": [{"op": "replace", "value": {USER: {"active": "False"}}}],
    "Add": [{"op": "Add", "path": "active", "value": "False"}],
    "after an unknown extension": [
        {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:Custom:2.0:User:tag", "value": "1"},
        {"op": "Replace", "path": "active", "value": "False"},
    ],
    "with stray keys": [{"op": "Replace", "path": "active", "value": "False", "name": "deactivate"}],
    "last word": [{"op": "replace", "value": {"active": True}}, {"op": "replace", "value": {"active": False}}],
}
NOT_BOOLEANS = ["no", "yes", "0", "FALSE", "", None, 0, 1, 0.0, [False], ["False"], {"value": False}, {}]


def name() -> str:
    return f"leaver-{uuid.uuid4().hex[:10]}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_patch_that_says_inactive_makes_inactive(okta: Client, spelling: str) -> None:
    user = okta.user(name())
    got = okta.patch(f"/Users/{user['id']}", *SPELLINGS[spelling])
    assert (got.status, got.json["active"]) == (200, False)
    assert okta.get(f"/Users/{user['id']}").json["active"] is False


def test_a_put_that_says_inactive_makes_inactive(okta: Client) -> None:
    user = okta.user(name())
    for value in (False, "False", "false"):
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": True})
        got = okta.send("PUT", f"/Users/{user['id']}", {**user, "active": value})
        assert (got.status, got.json["active"]) == (200, False)


@pytest.mark.parametrize("active", [True, False])
def test_a_put_without_active_keeps_it(okta: Client, active: bool) -> None:
    user = okta.user(name(), active=active)
    for more in ({}, {"active": None}, {"active": ""}):
        bare = {"schemas": [USER], "userName": user["userName"], "title": str(more), **more}
        assert okta.send("PUT", f"/Users/{user['id']}", bare).json["active"] is active
        assert okta.send("PUT", f"/Users/{user['id']}?attributes=active", bare).json["active"] is active


def test_a_post_without_active_is_active(okta: Client) -> None:
    assert okta.user(name())["active"] is True
    assert okta.user(name(), active="True")["active"] is True
    assert okta.user(name(), active="False")["active"] is False


@pytest.mark.parametrize("value", NOT_BOOLEANS)
@pytest.mark.parametrize("source", ["okta", "exact"])
def test_what_is_no_boolean_is_refused(request: pytest.FixtureRequest, source: str, value: Any) -> None:
    client: Client = request.getfixturevalue(source)
    user = client.user(name())
    path = f"/Users/{user['id']}"
    for operation in ({"path": "active", "value": value}, {"value": {"active": value}}):
        assert client.patch(path, {"op": "replace", **operation}).is_scim_error(400, "invalidValue")
    if value not in ("", None):
        assert client.send("PUT", path, {**user, "active": value}).is_scim_error(400, "invalidValue")
        refused = client.send("POST", "/Users", {"schemas": [USER], "userName": name(), "active": value})
        assert refused.is_scim_error(400, "invalidValue")
    assert client.get(path).json["active"] is True


@pytest.mark.parametrize("value", ["False", "false", "True"])
def test_a_strict_source_takes_json_booleans_only(exact: Client, value: str) -> None:
    user = exact.user(name())
    got = exact.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": value})
    assert got.is_scim_error(400, "invalidValue")


def test_active_is_never_removed(okta: Client, exact: Client) -> None:
    for client in (okta, exact):
        user = client.user(name())
        assert client.patch(f"/Users/{user['id']}", {"op": "remove", "path": "active"}).is_scim_error(
            400, "invalidValue"
        )


def test_a_deleted_user_is_in_no_group_and_their_name_is_free(okta: Client) -> None:
    user = okta.user(name())
    group = okta.group(name(), user["id"])
    assert okta.send("DELETE", f"/Users/{user['id']}").status == 204
    assert okta.members(group["id"]) == set()
    assert okta.get(f"/Users/{user['id']}").is_scim_error(404)
    assert okta.user(user["userName"])["id"] != user["id"]


def test_nothing_of_a_patch_is_applied_when_one_operation_is_bad(okta: Client, exact: Client) -> None:
    good = {"op": "replace", "path": "displayName", "value": "half"}
    bad: list[dict[str, Any]] = [
        {"op": "replace", "path": "emails[type eq", "value": "x"},
        {"op": "replace", "path": "noSuchAttribute", "value": "x"},
        {"op": "replace", "path": f"{ENTERPRISE}:nothing", "value": "x"},
        {"op": "replace", "path": "active", "value": "no"},
        {"op": "replace", "path": "id", "value": "x"},
        {"op": "replace", "path": "userName", "value": None},
        {"op": "remove"},
        {"op": "delete", "path": "title"},
        {"op": "add", "path": "emails", "value": "not-an-object"},
        {"op": "replace", "path": 5, "value": "x"},
        {"op": "replace", "value": "x"},
    ]
    for client in (okta, exact):
        user = client.user(name(), displayName="whole")
        for operation in bad:
            got = client.patch(f"/Users/{user['id']}", good, operation)
            assert (got.status, operation) == (400, operation)
            assert got.json["scimType"]
        after = client.get(f"/Users/{user['id']}")
        assert (after.json["displayName"], after.headers["etag"]) == ("whole", 'W/"1"')


def test_what_nobody_knows_is_not_answered_as_done(okta: Client) -> None:
    user = okta.user(name())
    foreign = {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:Custom:2.0:User:tag", "value": "1"}
    assert okta.patch(f"/Users/{user['id']}", foreign).is_scim_error(400, "invalidPath")
    assert okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": {"nothing": 1}}).is_scim_error(
        400, "invalidPath"
    )
