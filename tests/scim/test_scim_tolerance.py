"""What comes in bent, and the plain RFC 7644 that is made of it."""

from __future__ import annotations

from typing import Any

import pytest
from scim2_models import PayloadTooLargeException, SCIMException

from idsync.scim import tolerance
from idsync.scim.attributes import CORE, ENTERPRISE, standard
from idsync.scim.tolerance import Notes

USER, GROUP = CORE["User"], CORE["Group"]
MANAGER = f"{ENTERPRISE}:manager"
Ops = list[dict[str, Any]]


def patch(resource: str, *ops: Any) -> Ops:
    return tolerance.patch({"schemas": ["whatever"], "Operations": list(ops)}, Notes(resource, "own-id"))


def op(name: str, path: str | None = None, value: Any = tolerance.ABSENT) -> dict[str, Any]:
    found: dict[str, Any] = {"op": name}
    if path is not None:
        found["path"] = path
    if value is not tolerance.ABSENT:
        found["value"] = value
    return found


USERS: dict[str, tuple[dict[str, Any], Ops]] = {
    "op in another case": (op("REPLACE", "Title", "x"), [op("replace", "title", "x")]),
    "stray keys": ({**op("add", "title", "x"), "name": "y"}, [op("add", "title", "x")]),
    "keys in another case": ({"OP": "add", "Path": "title", "VALUE": "x"}, [op("add", "title", "x")]),
    "core URN": (op("add", f"{USER.upper()}:title", "x"), [op("add", "title", "x")]),
    "old URN": (op("add", "urn:scim:schemas:core:1.0:title", "x"), [op("add", "title", "x")]),
    "dotted key": (op("replace", None, {"name.givenName": "G"}), [op("replace", "name.givenName", "G")]),
    "filtered key": (
        op("replace", None, {'emails[type eq "work"].value': "a@x"}),
        [op("replace", 'emails[type eq "work"].value', "a@x")],
    ),
    "URN key": (
        op("replace", None, {f"{ENTERPRISE}:department": "d"}),
        [op("replace", f"{ENTERPRISE}:department", "d")],
    ),
    "schema key": (op("replace", None, {ENTERPRISE: {"department": "d"}}), [op("replace", f"{ENTERPRISE}:department", "d")]),
    "schema path": (op("replace", ENTERPRISE, {"department": "d"}), [op("replace", f"{ENTERPRISE}:department", "d")]),
    "bare enterprise name": (op("add", "department", "d"), [op("add", f"{ENTERPRISE}:department", "d")]),
    "several keys": (
        op("Add", None, {"title": "x", "active": "True"}),
        [op("add", "title", "x"), op("add", "active", True)],
    ),
    "echoed read-only keys": (
        op("replace", None, {"id": "own-id", "meta": {}, "groups": [], "schemas": [], "title": "x"}),
        [op("replace", "title", "x")],
    ),
    "boolean text": (op("add", "active", "false"), [op("add", "active", False)]),
    "boolean text inside": (
        op("add", "emails", [{"value": "a", "primary": "True"}]),
        [op("add", "emails", [{"value": "a", "primary": True}])],
    ),
    "boolean text below": (
        op("add", 'emails[type eq "work"].primary', "True"),
        [op("add", 'emails[type eq "work"].primary', True)],
    ),
    "one object for a list": (op("replace", "emails", {"value": "a"}), [op("replace", "emails", [{"value": "a"}])]),
    "selected entry stays one": (
        op("replace", 'emails[type eq "work"]', {"value": "a", "primary": "false"}),
        [op("replace", 'emails[type eq "work"]', {"value": "a", "primary": False})],
    ),
    "manager as text": (op("Add", MANAGER, "m"), [op("add", MANAGER, {"value": "m"})]),
    "manager as a list": (
        op("Add", "manager", [{"$ref": "../Users/m", "value": "m"}]),
        [op("add", MANAGER, {"value": "m", "$ref": "../Users/m"})],
    ),
    "manager with nulls": (
        op("replace", MANAGER, {"value": "m", "$ref": None, "displayName": "M"}),
        [op("replace", MANAGER, {"value": "m"})],
    ),
    "no manager": (op("replace", MANAGER, ""), [op("remove", MANAGER)]),
    "manager object without value": (op("replace", MANAGER, {"value": ""}), [op("remove", MANAGER)]),
    "manager as an empty list": (op("replace", MANAGER, []), [op("remove", MANAGER)]),
    "manager removed with a value": (op("remove", MANAGER, "m"), [op("remove", MANAGER)]),
    "null": (op("replace", "emails", None), [op("remove", "emails")]),
    "empty text": (op("replace", "title", ""), [op("remove", "title")]),
    "nothing added": (op("add", "title", ""), []),
    "password": (op("replace", "password", "secret"), []),
    "password as a key": (op("replace", None, {"password": "secret"}), []),
    "password with its URN": (op("replace", f"{USER}:password", "secret"), []),
    "JSON text": (op("add", "roles", '{"value":"r","primary":"True"}'), [op("add", "roles", [{"value": "r", "primary": True}])]),
    "JSON texts": (op("add", "roles", ['{"value":"r"}']), [op("add", "roles", [{"value": "r"}])]),
    "JSON text in value": (op("add", "roles", [{"value": '{"value":"r","id":"1"}'}]), [op("add", "roles", [{"value": "r", "id": "1"}])]),
    "text that only looks like JSON": (op("add", "title", "{x"), [op("add", "title", "{x")]),
    "bare word in a filter": (op("remove", "emails[type eq work]"), [op("remove", 'emails[type eq "work"]')]),
    "boolean in a filter": (
        op("replace", "roles[primary eq true].value", "x"),
        [op("replace", "roles[primary eq true].value", "x")],
    ),
    "null in entries": (
        op("add", "emails", [{"value": "a", "display": None}, None, {"value": ""}]),
        [op("add", "emails", [{"value": "a"}])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", USERS)
def test_operations_on_users(what: str) -> None:
    given, expected = USERS[what]
    assert patch("User", given) == expected


def member(value: str, kind: str = "User") -> dict[str, str]:
    return {"value": value}


GROUPS: dict[str, tuple[dict[str, Any], Ops]] = {
    "Entra's removal": (
        op("Remove", "members", [{"$ref": None, "value": "a"}, {"value": 'b"'}]),
        [op("remove", 'members[value eq "a"]'), op("remove", 'members[value eq "b\\""]')],
    ),
    "removal of nobody": (op("remove", "members", []), []),
    "removal of everybody": (op("remove", "members"), [op("remove", "members")]),
    "removal with null": (op("remove", "members", None), [op("remove", "members")]),
    "Okta's addition": (op("add", "members", [{"value": "a", "display": "A"}]), [op("add", "members", [member("a")])]),
    "a nested group": (op("add", "members", [{"value": "a", "type": "Group"}]), [op("add", "members", [member("a", "Group")])]),
    "one object": (op("add", "members", {"Value": "a"}), [op("add", "members", [member("a")])]),
    "ids": (op("add", "members", ["a"]), [op("add", "members", [member("a")])]),
    "an empty list": (op("replace", "members", []), [op("replace", "members", [])]),
    "null": (op("replace", "members", None), [op("replace", "members", [])]),
    "a rename with the id": (op("replace", None, {"id": "own-id", "displayName": "n"}), [op("replace", "displayName", "n")]),
}  # fmt: skip


@pytest.mark.parametrize("what", GROUPS)
def test_operations_on_groups(what: str) -> None:
    given, expected = GROUPS[what]
    assert patch("Group", given) == expected


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown attribute": ("User", op("add", "nothing", 1), "invalidPath"),
    "unknown sub-attribute": ("User", op("add", "name.nothing", 1), "invalidPath"),
    "unknown enterprise attribute": ("User", op("add", f"{ENTERPRISE}:nothing", 1), "invalidPath"),
    "unknown schema alone": ("User", op("add", "urn:x:y:2.0:User:tag", 1), "invalidPath"),
    "unknown key alone": ("User", op("add", None, {"nothing": 1}), "invalidPath"),
    "no such op": ("User", op("delete", "title"), "invalidValue"),
    "op is no text": ("User", {"op": 1}, "invalidValue"),
    "path is no text": ("User", {"op": "add", "path": 1, "value": 1}, "invalidPath"),
    "no object without a path": ("User", op("add", None, "x"), "invalidValue"),
    "two managers": ("User", op("add", MANAGER, ["a", "b"]), "invalidValue"),
    "no boolean": ("User", op("replace", "active", "no"), "invalidValue"),
    "no boolean inside": ("User", op("add", "emails", [{"value": "a", "primary": "yes"}]), "invalidValue"),
    "active removed": ("User", op("remove", "active"), "invalidValue"),
    "active without a value": ("User", op("replace", "active", None), "invalidValue"),
    "userName without a value": ("User", op("replace", "userName", ""), "invalidValue"),
    "displayName without a value": ("Group", op("replace", "displayName", None), "invalidValue"),
    "another id": ("Group", op("replace", None, {"id": "x", "displayName": "n"}), "mutability"),
    "member without a value": ("Group", op("add", "members", [{"display": "x"}]), "invalidValue"),
    "member that is a number": ("Group", op("remove", "members", [5]), "invalidValue"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_so(what: str) -> None:
    resource, operation, scim_type = REFUSED[what]
    with pytest.raises(SCIMException) as caught:
        patch(resource, operation)
    assert (caught.value.status, caught.value.scim_type) == (400, scim_type)
    assert str(caught.value).endswith(".")


def test_unknown_names_beside_known_ones_are_noted() -> None:
    notes = Notes("User")
    document = {"Operations": [op("add", None, {"title": "x", "nothing": 1}), op("add", "urn:x:y:2.0:User:tag", 1)]}
    assert tolerance.patch(document, notes) == [op("add", "title", "x")]
    assert notes.unknown == ["nothing", "urn:x:y:2.0:User:tag"]


@pytest.mark.parametrize("document", [None, [], "x", {}, {"Operations": []}, {"Operations": {}}, {"Operations": ["x"]}])
def test_what_is_no_patch(document: Any) -> None:
    for read in (tolerance.patch, tolerance.strict_patch):
        with pytest.raises(SCIMException):
            read(document, Notes("User"))


def test_limits() -> None:
    patch("User", *[op("add", "title", "x")] * 1000)
    with pytest.raises(PayloadTooLargeException):
        patch("User", *[op("add", "title", "x")] * 1001)
    with pytest.raises(PayloadTooLargeException):
        patch("Group", op("add", "members", [{"value": str(number)} for number in range(10_001)]))


RESOURCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "old schema names": (
        {"schemas": ["urn:scim:schemas:core:1.0"], "urn:scim:schemas:extension:enterprise:1.0": {"department": "d"}},
        {"schemas": [USER, ENTERPRISE], ENTERPRISE: {"department": "d"}},
    ),
    "no schemas": ({"title": "x"}, {"schemas": [USER], "title": "x"}),
    "names in another case": ({"USERNAME": "a"}, {"schemas": [USER], "userName": "a"}),
    "nulls and empty texts": ({"title": None, "nickName": "", "emails": None, "name": {"givenName": ""}}, {"schemas": [USER]}),
    "emails as one object": ({"emails": {"value": "a"}}, {"schemas": [USER], "emails": [{"value": "a"}]}),
    "what nobody reads": ({"id": "x", "meta": {}, "groups": [], "password": "p", "Password": "p"}, {"schemas": [USER]}),
    "active as text": ({"active": "False"}, {"schemas": [USER], "active": False}),
    "active as null": ({"active": None}, {"schemas": [USER]}),
    "manager": ({ENTERPRISE: {"manager": "m"}}, {"schemas": [USER, ENTERPRISE], ENTERPRISE: {"manager": {"value": "m"}}}),
    "bare manager": ({"manager": ["m"]}, {"schemas": [USER, ENTERPRISE], ENTERPRISE: {"manager": {"value": "m"}}}),
    "core attributes under their schema": ({USER: {"title": "x"}}, {"schemas": [USER], "title": "x"}),
    "unknown attributes": ({"nothing": 1}, {"schemas": [USER]}),
}  # fmt: skip


@pytest.mark.parametrize("what", RESOURCES)
def test_whole_users(what: str) -> None:
    given, expected = RESOURCES[what]
    assert tolerance.resource(given, Notes("User"), strict=False) == expected


def test_whole_groups() -> None:
    foreign = "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"
    given = {"schemas": [GROUP, foreign], "displayName": "g", "members": [{"value": "a", "display": "A"}, "b"]}
    found = tolerance.resource(given, Notes("Group"), strict=False)
    assert found == {"schemas": [GROUP], "displayName": "g", "members": [member("a"), member("b")]}


def test_strict_changes_nothing_but_what_nobody_reads() -> None:
    given = {"schemas": [USER], "userName": "a", "nothing": 1, "emails": None, "password": "p", "id": "x"}
    expected = {"schemas": [USER], "userName": "a", "nothing": 1, "emails": None}
    assert tolerance.resource(given, Notes("User"), strict=True) == expected
    ops = [op("Add", "title", "x"), op("add", "password", "p")]
    assert tolerance.strict_patch({"Operations": ops}, Notes("User")) == [op("Add", "title", "x")]
    for bad in ({"active": "False"}, {"emails": [{"value": "a", "primary": "True"}]}):
        with pytest.raises(SCIMException):
            tolerance.resource(bad, Notes("User"), strict=True)
        with pytest.raises(SCIMException):
            tolerance.strict_patch({"Operations": [op("add", None, bad)]}, Notes("User"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("userName eq ak-user", 'userName eq "ak-user"'),
        ("userName eq a@x.test and externalId eq 123", 'userName eq "a@x.test" and externalId eq "123"'),
        ("emails[type eq work].value eq a", 'emails[type eq "work"].value eq "a"'),
        ("(userName eq a)", '(userName eq "a")'),
        ('userName eq "a eq b"', 'userName eq "a eq b"'),
        ('userName eq "a"?', 'userName eq "a"'),
        ("active eq true", "active eq true"),
        ("userName eq true", 'userName eq "true"'),
        ("title eq null", "title eq null"),
        ("title pr", "title pr"),
    ],
)
def test_bare_words_in_filters(given: str, expected: str) -> None:
    assert tolerance.filter_text(given, standard(), strict=False) == expected
    assert tolerance.filter_text(given, standard(), strict=True) == given
