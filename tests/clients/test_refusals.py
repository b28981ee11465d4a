"""Never a silent 2xx: what is not understood is a 400 that says why in plain words, and changes nothing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import ENTERPRISE, PATCH_OP, Client, Got

from .people import name, rich_user


def op(kind: str, path: str | None = None, **value: Any) -> list[dict[str, Any]]:
    return [{"op": kind, **({"path": path} if path else {}), **value}]


USERS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a role that is broken JSON text": (op("Add", "roles", value='{"value":"Admin"'), "roles"),
    "a role that is JSON text of nothing known": (op("Add", "roles", value='{"id":"18d14569"}'), "roles"),
    "a role that is a word": (op("Add", "roles", value="Admin"), "roles"),
    "roles that are words": (op("Add", "roles", value=["Admin"]), "roles"),
    "primary compared with no boolean": (op("Add", 'roles[primary eq "maybe"].value', value="x"), "maybe"),
    "a manager that is a number": (op("Add", "manager", value=5), "manager"),
    "a manager that is true": (op("Add", f"{ENTERPRISE}:manager", value=True), "manager"),
    "an added manager that names nobody": (op("Add", "manager", value={"name": "Next"}), "manager"),
    "a manager replaced by one that names nobody": (op("Replace", "manager", value=[{"name": "Next"}]), "manager"),
    "two managers": (op("Replace", "manager", value=["a", "b"]), "manager"),
    "added addresses of which nothing is known": (op("Add", "emails", value=[{"address": "a@example.com"}]), "emails"),
    "addresses replaced by such": (op("Replace", "emails", value=[{"address": "a@example.com"}]), "emails"),
    "a name of which nothing is known": (op("Replace", "name", value={"first": "A"}), "name"),
    "the same without a path": (op("Replace", value={"name": {"first": "A"}}), "name"),
    "an address that is a text": (op("Replace", "emails", value="a@example.com"), "emails"),
    "one address that is a text": (op("Replace", 'emails[type eq "work"]', value="a@example.com"), "emails"),
    "a name that is a text": (op("Replace", "name", value="A B"), "name"),
    "a title that is an object": (op("Replace", "title", value={"value": "x"}), "title"),
    "a title that is a list": (op("Replace", "title", value=["x"]), "title"),
    "an extension that is a text": (op("Add", ENTERPRISE, value="x"), "enterprise"),
    "a filter that matches nothing and describes nothing": (
        op("Add", 'emails[value ew "x"].type', value="y"),
        "emails",
    ),
    "a JSON pointer": (op("replace", "/active", value=False), "syntax"),
    "a subscript": (op("replace", "emails[0].value", value="x"), "syntax"),
    "an attribute nobody knows": (op("replace", "shoeSize", value=1), "shoeSize"),
    "the same without a path, as JSON false": (op("replace", value={"enabled": False}), "enabled"),
    "the status of SCIM 1.1": (op("replace", "status", value="inactive"), "status"),
    "another op": (op("delete", "title"), "op"),
    "the op of JSON Patch": (op("test", "active", value=True), "op"),
    "no op": ([{"path": "active", "value": False}], "op"),
    "no value": (op("replace", "active"), "value"),
    "a removal without a path": (op("remove", value={"title": "Clerk"}), "path"),
    "a text without a path": (op("replace", value='{"active":false}'), "path"),
    "a list without a path": (op("replace", value=[{"active": False}]), "path"),
    "groups, which are derived": (op("add", "groups", value=[{"value": "x"}]), "groups"),
    "groups and nothing else, without a path": (op("add", value={"groups": [{"value": "x"}]}), "groups"),
    "another id": (op("replace", value={"id": "another", "title": "x"}), "id"),
    "a value list for what holds one value": (op("remove", "title", value=["Clerk"]), "remove"),
}
GROUPS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a member by reference alone": (op("add", "members", value=[{"$ref": "https://example.com/Users/W"}]), "member"),
    "a member that is null": (op("add", "members", value=[None]), "member"),
    "a member in a list in the list": (op("add", "members", value=[[{"value": "W"}]]), "member"),
    "no members at all": (op("add", "members"), "value"),
    "replaced by an empty object": (op("replace", "members", value={}), "member"),
    "removed: an empty object": (op("remove", "members", value={}), "member"),
    "removed: an empty text": (op("remove", "members", value=""), "member"),
    "removed: false": (op("remove", "members", value=False), "member"),
    "removed: one without a value": (op("remove", "members", value=[{"value": "U"}, {"display": "V"}]), "member"),
    "removed: a filter and a value": (op("remove", 'members[value eq "U"]', value=[{"value": "V"}]), "filter"),
    "removed: by reference": (op("remove", 'members[$ref eq "https://example.com/Users/U"]'), "$ref"),
    "removed: their ids": (op("remove", "members.value"), "value"),
    "removed: without a path": (op("remove", value={"members": [{"value": "U"}]}), "path"),
    "one member turned into another": (op("replace", 'members[value eq "U"].value', value="W"), "value"),
    "an unfinished filter": (op("remove", 'members[value eq "U"'), "syntax"),
    "an attribute of members nobody knows": (op("remove", 'members[id eq "U"]'), "id"),
    "an attribute nobody knows": (op("replace", "description", value="x"), "description"),
    "active": (op("replace", "active", value=False), "active"),
    "no name": (op("replace", "displayName", value=""), "displayName"),
}


def said(got: Got, why: str) -> None:
    """Check that an answer is a SCIM error whose detail says `why`."""
    assert got.status == 400, got.raw
    assert got.is_scim_error(400, got.json["scimType"])
    assert why.lower() in got.json["detail"].lower(), got.json["detail"]


@pytest.mark.parametrize("beside", ["alone", "after a good one"])
@pytest.mark.parametrize("what", USERS)
def test_a_patch_of_a_user(client: Client, what: str, beside: str) -> None:
    operations, why = USERS[what]
    user = rich_user(client)
    good = op("replace", "displayName", value="half done") if beside != "alone" else []
    got = client.patch(f"/Users/{user['id']}", *good, *operations)
    assert client.get(f"/Users/{user['id']}").json == user
    said(got, why)


@pytest.mark.parametrize("what", USERS)
def test_the_reason_is_one_plain_sentence(client: Client, what: str) -> None:
    """An administrator reads it in the log of the identity provider; what made it is nobody's business."""
    operations, _ = USERS[what]
    detail = client.patch(f"/Users/{rich_user(client)['id']}", *operations).json.get("detail", "")
    assert [part for part in ("\n", "pydantic", "EnterpriseUser]", "model_type") if part in detail] == []


@pytest.mark.parametrize("what", GROUPS)
def test_a_patch_of_a_group(client: Client, what: str) -> None:
    operations, why = GROUPS[what]
    people = {key: client.user(name(key))["id"] for key in "UVW"}
    group = client.group(name("group"), people["U"], people["V"])
    text = json.dumps(operations)
    for key, one in people.items():
        text = (
            text.replace(f'"{key}"', f'"{one}"').replace(f'\\"{key}\\"', f'\\"{one}\\"').replace(f"/{key}", f"/{one}")
        )
    got = client.patch(f"/Groups/{group['id']}", *json.loads(text))
    assert client.get(f"/Groups/{group['id']}").json == group
    said(got, why)


BODIES: dict[str, tuple[Any, str]] = {
    "the PATCH of SCIM 1.1": ({"schemas": ["urn:scim:schemas:core:1.0"], "active": False}, "Operations"),
    "JSON Patch": ([{"op": "replace", "path": "/active", "value": False}], "Operations"),
    "a merge": ({"active": False}, "Operations"),
    "an operation that is not in a list": (
        {"schemas": [PATCH_OP], "Operations": {"op": "replace", "path": "active", "value": False}},
        "Operations",
    ),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_patch_that_is_none(client: Client, what: str) -> None:
    body, why = BODIES[what]
    user = rich_user(client)
    said(client.send("PATCH", f"/Users/{user['id']}", body), why)
    assert client.get(f"/Users/{user['id']}").json == user


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "two managers": ({ENTERPRISE: {"manager": ["a", "b"]}}, "manager"),
    "an address that is a text": ({"emails": "a@example.com"}, "emails"),
    "a name that is a text": ({"name": "A B"}, "name"),
    "active in a list": ({"active": ["False"]}, "active"),
    "an address marked primary with a word": ({"emails": [{"value": "a@example.com", "primary": "yes"}]}, "primary"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_whole_user(client: Client, what: str) -> None:
    document, why = WHOLE[what]
    user, login = rich_user(client), name()
    put = client.send("PUT", f"/Users/{user['id']}", {"userName": user["userName"], **document})
    post = client.send("POST", "/Users", {"userName": login, **document})
    assert client.get(f"/Users/{user['id']}").json == user
    assert client.get(f"/Users?filter=userName+eq+%22{login}%22").json["totalResults"] == 0
    said(put, why)
    said(post, why)


@pytest.mark.parametrize(
    "text",
    [
        "userName eq ak user",
        "userName eq 'ak-user'",
        'userName = "ak-user"',
        'userName == "ak-user"',
        'username:"ak-user"',
        'userName eq "ak-user" && active eq true',
        'userName in ("ak-user")',
        'userName eq ["ak-user"]',
        'login eq "ak-user"',
    ],
)
def test_a_filter_that_is_none(client: Client, text: str) -> None:
    """An empty list would be believed: the client creates, is refused with 409, and asks again."""
    got = client.get(f"/Users?filter={quote(text)}")
    assert (got.status, got.json.get("scimType")) == (400, "invalidFilter"), got.raw


@pytest.mark.parametrize("kind", ["the list", "each entry"])
def test_members_as_json_text(client: Client, kind: str) -> None:
    """JSON in a text is read wherever Entra puts it for roles; for members it is read too, or refused."""
    user = client.user(name())["id"]
    entry = json.dumps({"value": user})
    value = json.dumps([{"value": user}]) if kind == "the list" else [entry]
    for operation in ("add", "replace"):
        group = client.group(name("group"))
        got = client.patch(f"/Groups/{group['id']}", {"op": operation, "path": "members", "value": value})
        assert got.status == 400 or client.members(group["id"]) == {user}
