"""docs/scim.md says what the endpoint does: its examples, filters and errors, its extension, what strict refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import ENTERPRISE, PATCH_OP, USER, Client, Served, serving

from idsync.scim.extensions import BadExtension, Extension, read
from idsync.scim.provider import MAX_BODY
from idsync.web.auth import ScimSource
from idsync.web.scim_storage import SCAN

from .docs_curl import examples
from .docs_pages import ROOT, fences, text_of

PAGE = ROOT / "docs/scim.md"
ACME = "urn:example:params:scim:schemas:extension:acme:2.0:User"


def document() -> Any:
    """Return the schema document that the page prints."""
    return next(found for block in fences("json") if block.page == PAGE for found in [json.loads(block.text)])


@pytest.fixture(scope="module")
def extension() -> Extension:
    return read(json.dumps(document()), "User")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, extension: Extension) -> Iterator[Served]:
    sources = (ScimSource("okta"), ScimSource("examples"), ScimSource("large"), ScimSource("exact", strict=True))
    with serving(tmp_path_factory.mktemp("scim"), *sources, extensions=[extension]) as running:
        yield running


@pytest.fixture(scope="module")
def ids(served: Served) -> dict[str, str]:
    """Return the ids of a user and of a group that has it as its member, in another group."""
    client = served.clients["okta"]
    user = client.user("ada@example.com", title="Clerk", emails=[{"value": "ada@example.com", "type": "work"}])
    group = client.group("Data Science", user["id"])
    return {"user": user["id"], "group": group["id"], "outer": client.group("Everybody", group["id"])["id"]}


def test_every_example_does_what_it_says(served: Served) -> None:
    told, got, variables = [], [], dict[str, str]()
    for example in examples(PAGE):
        answer = example.send(served.clients["examples"], variables)
        told.append((example.says, example.status))
        got.append((example.says, answer.status))
        if example.keeps:
            variables[example.keeps] = answer.json["id"]
        if example.says.startswith("find"):
            assert answer.json["totalResults"] == 1, example
    assert len(told) > 5
    assert got == told


# -- errors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A request that is refused; {user} and {group} in it are ids."""

    status: int
    kind: str | None
    method: str
    path: str
    body: Any = None
    headers: dict[str, str | None] = field(default_factory=dict)
    source: str = "okta"


def change(path: str, *operations: Any, **more: Any) -> dict[str, Any]:
    return {"method": "PATCH", "path": path, "body": {"schemas": [PATCH_OP], "Operations": list(operations)}, **more}


WRONG = {
    "no JSON": Wrong(400, "invalidSyntax", "POST", "/Users", b"{"),
    "a name twice": Wrong(400, "invalidSyntax", "POST", "/Users", b'{"userName": "a", "username": "b"}'),
    "no resource": Wrong(400, "invalidSyntax", "POST", "/Users", []),
    "too deep": Wrong(400, "invalidSyntax", "POST", "/Users", b"[" * 40 + b"]" * 40),
    "an unknown attribute, strict": Wrong(400, "invalidSyntax", "POST", "/Users", {"userName": "a", "x": 1}, source="exact"),
    "no userName": Wrong(400, "invalidValue", "POST", "/Users", {"schemas": [USER]}),
    "active is no boolean": Wrong(400, "invalidValue", **change("/Users/{user}", {"op": "replace", "path": "active", "value": "no"})),
    "active removed": Wrong(400, "invalidValue", **change("/Users/{user}", {"op": "remove", "path": "active"})),
    "an unknown op": Wrong(400, "invalidValue", **change("/Users/{user}", {"op": "set", "path": "title", "value": "x"})),
    "a parameter twice": Wrong(400, "invalidValue", "GET", "/Users?count=1&count=2"),
    "both projections": Wrong(400, "invalidValue", "GET", "/Users?attributes=userName&excludedAttributes=title"),
    "a cursor and a number": Wrong(400, "invalidValue", "GET", "/Users?cursor=&startIndex=1"),
    "an unknown path": Wrong(400, "invalidPath", **change("/Users/{user}", {"op": "replace", "path": "shoeSize", "value": 9})),
    "nothing but an unknown key": Wrong(400, "invalidPath", **change("/Users/{user}", {"op": "replace", "value": {"shoeSize": 9}})),
    "sorted by nothing we know": Wrong(400, "invalidPath", "GET", "/Users?sortBy=shoeSize"),
    "removal without a path": Wrong(400, "noTarget", **change("/Users/{user}", {"op": "remove"})),
    "nothing there, strict": Wrong(400, "noTarget", **change("/Users/{strict}", {"op": "replace", "path": 'emails[type eq "home"].value', "value": "x"}, source="exact")),
    "a read-only attribute": Wrong(400, "mutability", **change("/Users/{user}", {"op": "add", "path": "groups", "value": []})),
    "a required one removed": Wrong(400, "mutability", **change("/Users/{user}", {"op": "remove", "path": "userName"})),
    "no filter": Wrong(400, "invalidFilter", "GET", "/Users?filter=userName+eq"),
    "a filter on the password": Wrong(400, "invalidFilter", "GET", "/Users?filter=password+pr"),
    "a long filter": Wrong(400, "invalidFilter", "GET", f"/Users?filter=userName+eq+%22{'x' * 4096}%22"),
    "too many to look at": Wrong(400, "tooMany", "GET", "/Users?filter=title+pr", source="large"),
    "no cursor of ours": Wrong(400, "invalidCursor", "GET", "/Users?cursor=abc"),
    "another count": Wrong(400, "invalidCount", "GET", "/Users?cursor={cursor}&count=2", source="large"),
    "no token": Wrong(401, None, "GET", "/ServiceProviderConfig", headers={"Authorization": None}),
    "a filter on discovery": Wrong(403, None, "GET", "/Schemas?filter=id+pr"),
    "nobody": Wrong(404, None, "GET", "/Users/nobody"),
    "nowhere": Wrong(404, None, "GET", "/Nowhere"),
    "a method that is not served": Wrong(405, None, "DELETE", "/Users"),
    "a userName in use": Wrong(409, "uniqueness", "POST", "/Users", {"userName": "ADA@example.com"}),
    "a displayName in use": Wrong(409, "uniqueness", "POST", "/Groups", {"displayName": "data science"}),
    "a version of before": Wrong(412, None, "DELETE", "/Users/{user}", headers={"If-Match": 'W/"99"'}),
    "a large body": Wrong(413, None, "POST", "/Users", b" " * (MAX_BODY + 1)),
    "many operations": Wrong(413, None, **change("/Users/{user}", *[{"op": "add", "path": "title", "value": "x"}] * 1001)),
    "a form": Wrong(415, None, "POST", "/Users", b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}),
    "me": Wrong(501, None, "GET", "/Me"),
}  # fmt: skip
SHOWN_ELSEWHERE = {
    (400, "expiredCursor"): "scim2-server's own tests; it takes an hour",
    (408, None): "tests/http/test_scim_http.py",
    (409, None): "test_a_bulk_id_that_was_never_made, here",
    (429, None): "tests/http/test_scim_flood.py",
    (500, None): "tests/http/test_scim_http.py",
    (503, None): "tests/http/test_scim_http.py",
}


@pytest.fixture(scope="module")
def named(served: Served, ids: dict[str, str], large: Client) -> dict[str, str]:
    cursor = large.get("/Users?cursor=&count=1").json["nextCursor"]
    return {**ids, "strict": served.clients["exact"].user("eve@example.com")["id"], "cursor": cursor}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_error_is_the_one_the_page_names(served: Served, named: dict[str, str], wrong: Wrong) -> None:
    path = wrong.path.format(**named)
    got = served.clients[wrong.source].send(wrong.method, path, wrong.body, wrong.headers)
    assert got.is_scim_error(wrong.status, wrong.kind), got.raw


def test_a_bulk_id_that_was_never_made(served: Served) -> None:
    data = {"displayName": "Orphans", "members": [{"value": "bulkId:nobody"}]}
    operation = {"method": "POST", "path": "/Groups", "bulkId": "orphans", "data": data}
    got = served.clients["okta"].send("POST", "/Bulk", {"Operations": [operation]})
    assert [(one["status"], one["response"].get("scimType")) for one in got.json["Operations"]] == [("409", None)]


def test_the_page_names_every_error_and_no_other() -> None:
    section = text_of(PAGE).partition("\n## Errors\n")[2].partition("\n## ")[0]
    told = set()
    for status, kinds in re.findall(r"^\| (\d{3}) \|([^|]*)\|", section, re.MULTILINE):
        told |= {(int(status), kind) for kind in re.findall(r"`(\w+)`", kinds) or [None]}
    assert told == {(one.status, one.kind) for one in WRONG.values()} | SHOWN_ELSEWHERE.keys()


# -- searching ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(served: Served) -> Client:
    """A source with more users than are looked at one by one."""
    client = served.clients["large"]
    people = [
        {"method": "POST", "path": "/Users", "bulkId": str(number), "data": person(number)}
        for number in range(SCAN + 1)
    ]
    assert client.send("POST", "/Bulk", {"Operations": people}).status == 200
    return client


def person(number: int) -> dict[str, Any]:
    address = f"user-{number:04}@example.com"
    emails = [{"value": address, "type": "work", "primary": True}]
    return {
        "userName": address,
        "externalId": f"x{number}",
        "displayName": f"User {number}",
        "title": "T",
        "emails": emails,
    }


BY_THE_DATABASE = {
    "userName sw": ('userName sw "USER-000"', 10),
    "userName, combined": ('userName sw "user-000" and not (userName ew "3@example.com")', 9),
    "displayName co": ('displayName co "USER 50"', 2),
    "externalId eq": ('externalId eq "x7"', 1),
    "externalId in another case": ('externalId eq "X7"', 0),
    "active eq": ("active eq true", SCAN + 1),
    "meta.created gt": ('meta.created gt "2001-01-01T00:00:00Z"', SCAN + 1),
    "emails eq": ('emails eq "USER-0007@example.com"', 1),
    "emails.value eq": ('emails.value eq "user-0007@example.com"', 1),
    "emails of a type": ('emails[type eq "home"].value eq "user-0007@example.com"', 0),
    "emails of a type and value": ('emails[type eq "work" and value eq "user-0007@example.com"]', 1),
    "groups eq": ('groups eq "nothing"', 0),
    "groups ne": ('groups.value ne "nothing"', SCAN + 1),
    "one by one after the database": ('userName sw "user-000" and title eq "T"', 10),
    "one by one, a rare text": ('title eq "none"', 0),
}
ONE_BY_ONE = ['title eq "T"', 'emails.value co "user"', "name.familyName pr", f'{ENTERPRISE}:department ne "x"']


@pytest.mark.parametrize(("text", "total"), BY_THE_DATABASE.values(), ids=BY_THE_DATABASE)
def test_the_database_answers_for_any_number_of_records(large: Client, text: str, total: int) -> None:
    got = large.get(f"/Users?count=1&filter={quote(text)}")
    assert (got.status, got.json.get("totalResults")) == (200, total), got.raw


@pytest.mark.parametrize("query", [*(f"filter={quote(one)}" for one in ONE_BY_ONE), "sortBy=title"])
def test_more_than_500_records_are_not_looked_at_one_by_one(large: Client, query: str) -> None:
    assert large.get(f"/Users?{query}").is_scim_error(400, "tooMany")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Groups", 'members eq "{user}"'),
        ("Groups", 'members[value eq "{user}" and type eq "User"]'),
        ("Groups", 'members.display eq "ada@example.com"'),
        ("Users", 'groups eq "{outer}"'),
        ("Users", 'groups.display eq "Everybody"'),
        ("Users", 'groups[value eq "{group}" and type eq "direct"]'),
        ("Groups", 'displayName eq "Everybody" and meta.version eq "W/\\"1\\""'),
    ],
)
def test_what_is_derived_can_be_searched(served: Served, ids: dict[str, str], kind: str, text: str) -> None:
    found = served.clients["okta"].get(f"/{kind}?filter={quote(text.format(**ids))}").json
    assert found["totalResults"] == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH"])
def test_every_request_that_answers_with_a_resource_projects_it(served: Served, method: str) -> None:
    client = served.clients["okta"]
    body = {"userName": f"{method.lower()}@example.com", "title": "Clerk"}
    place = "/Users" if method == "POST" else f"/Users/{client.user(body['userName'])['id']}"
    sent: Any = {"GET": None, "PATCH": {"Operations": [{"op": "add", "path": "title", "value": "x"}]}}.get(method, body)
    got = client.send(method, f"{place}?attributes=userName", sent)
    assert got.json.keys() == {"schemas", "id", "userName"}


# -- what strict switches off -------------------------------------------------------------------------------------

BENT = {
    "a boolean as text": {"op": "replace", "path": "active", "value": "False"},
    "an enterprise name without its URN": {"op": "replace", "path": "department", "value": "R"},
    "a URN from before the RFC": {"op": "replace", "path": "urn:scim:schemas:core:1.0:title", "value": "x"},
    "an entry that is not there": {"op": "replace", "path": 'emails[type eq "home"].value', "value": "x"},
    "a filtered key": {"op": "replace", "value": {'emails[type eq "home"].value': "x"}},
    "an unknown key beside a known one": {"op": "replace", "value": {"title": "x", "shoeSize": 9}},
    "a manager as text": {"op": "replace", "path": f"{ENTERPRISE}:manager", "value": "26118915"},
    "an operation with a name": {"op": "replace", "path": "title", "value": "x", "name": "change"},
}


@pytest.mark.parametrize("operation", BENT.values(), ids=BENT)
def test_what_is_forgiven_is_refused_by_a_strict_source(
    served: Served, named: dict[str, str], operation: dict[str, Any]
) -> None:
    assert served.clients["okta"].patch(f"/Users/{named['user']}", operation).status == 200
    assert served.clients["exact"].patch(f"/Users/{named['strict']}", operation).status == 400


def test_wrong_schemas_are_refused_by_a_strict_source(served: Served, named: dict[str, str]) -> None:
    body = {"schemas": ["urn:example:other"], "Operations": [{"op": "replace", "path": "title", "value": "x"}]}
    assert served.clients["okta"].send("PATCH", f"/Users/{named['user']}", body).status == 200
    assert served.clients["exact"].send("PATCH", f"/Users/{named['strict']}", body).status == 400


# -- extensions, and what is known not to work ----------------------------------------------------------------------


def without(name: str) -> Any:
    return {key: value for key, value in document().items() if key != name}


def with_attributes(*attributes: Any) -> Any:
    return {**document(), "attributes": list(attributes)}


TEXT = {"type": "string", "multiValued": False}
UNKEPT = {
    "no name": without("name"),
    "an empty name": {**document(), "name": ""},
    "no attributes": without("attributes"),
    "no type": with_attributes({"name": "badge"}),
    "a sub-attribute twice": with_attributes(
        {"name": "desk", "type": "complex", "subAttributes": [{"name": "value", **TEXT}, {"name": "Value", **TEXT}]}
    ),
    "an id of IETF's": {**document(), "id": ENTERPRISE},
    "a name of the enterprise schema": with_attributes({"name": "manager", **TEXT}),
}


@pytest.mark.parametrize("schema", UNKEPT.values(), ids=UNKEPT)
def test_a_schema_that_the_page_says_is_refused(schema: Any) -> None:
    with pytest.raises(BadExtension):
        read(json.dumps(schema), "User")


def test_an_etag_says_what_the_record_says(served: Served) -> None:
    client = served.clients["okta"]
    user = client.user("fay@example.com")
    group = client.group("Late", user["id"])
    tag = user["meta"]["version"]
    assert client.get(f"/Users/{user['id']}").json["groups"][0]["value"] == group["id"]
    assert client.get(f"/Users/{user['id']}", If_None_Match=tag).status == 304
