"""Attributes of the operator's own, described by a schema document (RFC 7643 §7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import USER, Client, serving

from idsync.scim.extensions import BadExtension, read
from idsync.web.auth import ScimSource

ACME = "urn:example:params:scim:schemas:extension:acme:2.0:User"
SCHEMA: dict[str, Any] = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
    "id": ACME,
    "name": "Acme",
    "attributes": [
        {"name": "badge", "type": "string", "multiValued": False, "caseExact": True},
        {"name": "contractor", "type": "boolean", "multiValued": False},
        {"name": "level", "type": "integer", "multiValued": False},
        {
            "name": "desks",
            "type": "complex",
            "multiValued": True,
            "subAttributes": [{"name": "value", "type": "string"}, {"name": "primary", "type": "boolean"}],
        },
    ],
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    extension = read(json.dumps(SCHEMA), "User")
    sources = (ScimSource("okta"), ScimSource("exact", strict=True))
    with serving(tmp_path, *sources, extensions=[extension]) as served:
        yield served.clients["okta"]


def own(got: Any) -> Any:
    return got.json.get(ACME)


def test_an_extension_is_kept_searched_patched_and_described(client: Client) -> None:
    user = client.user("ann@example.com", **{ACME: {"badge": "B-1", "contractor": "True", "unknown": 1}})
    path = f"/Users/{user['id']}"
    assert own(client.get(path)) == {"badge": "B-1", "contractor": True}
    assert ACME in client.get(path).json["schemas"]
    assert client.patch(path, {"op": "Add", "path": f"{ACME}:level", "value": 7}).status == 200
    assert client.patch(path, {"op": "replace", "value": {f"{ACME}:badge": "B-2"}}).status == 200
    assert client.patch(path, {"op": "add", "path": ACME, "value": {"desks": [{"value": "d1"}]}}).status == 200
    expected = {"badge": "B-2", "contractor": True, "level": 7, "desks": [{"value": "d1"}]}
    assert own(client.get(path)) == expected
    for text in (f"{ACME}:level gt 5", f'{ACME}:badge eq "B-2"', f"{ACME}:contractor eq true"):
        found = client.get(f"/Users?filter={quote(text)}").json["Resources"]
        assert [one["id"] for one in found] == [user["id"]], text
    assert own(client.get(f"{path}?attributes={ACME}:badge")) == {"badge": "B-2"}
    without = client.get(f"{path}?attributes=userName").json
    assert without["schemas"] == [USER]
    assert client.patch(path, {"op": "remove", "path": f"{ACME}:desks"}).status == 200
    assert "desks" not in own(client.get(path))
    assert client.send("PUT", path, {"schemas": [USER], "userName": "ann@example.com"}).status == 200
    assert own(client.get(path)) is None
    assert client.get(f"/Schemas/{ACME}").json["name"] == "Acme"
    types = {one["name"]: one for one in client.get("/ResourceTypes").json["Resources"]}
    assert ACME in [one["schema"] for one in types["User"]["schemaExtensions"]]
    assert "schemaExtensions" not in types["Group"]


def test_what_an_extension_holds_is_checked(client: Client) -> None:
    user = client.user("ann@example.com")
    path = f"/Users/{user['id']}"
    for value in ({"level": "seven"}, {"contractor": "perhaps"}, {"badge": {"a": 1}}):
        name, one = next(iter(value.items()))
        assert client.patch(path, {"op": "add", "path": f"{ACME}:{name}", "value": one}).status == 400, value
        assert client.send("PUT", path, {"userName": "ann@example.com", ACME: value}).status == 400, value
    assert client.patch(path, {"op": "add", "path": f"{ACME}:nothing", "value": 1}).is_scim_error(400, "invalidPath")
    assert client.get(path).json["meta"]["version"] == user["meta"]["version"]


def test_an_extension_of_somebody_else_is_not_ours(client: Client) -> None:
    user = client.user("ann@example.com")
    group = client.group("team")
    path = f"/Groups/{group['id']}"
    assert client.patch(path, {"op": "add", "path": f"{ACME}:badge", "value": "x"}).status == 400
    assert client.get(f"/Users/{user['id']}").json["schemas"] == [USER]


REFUSED = {
    "no JSON": ("{", "JSON"),
    "no schema": ("[]", "schema"),
    "no URN": ({**SCHEMA, "id": "acme"}, "id"),
    "IETF's name": ({**SCHEMA, "id": "urn:ietf:params:scim:schemas:core:2.0:User"}, "IETF"),
    "nothing in it": ({**SCHEMA, "attributes": []}, "no attributes"),
    "twice": ({**SCHEMA, "attributes": [SCHEMA["attributes"][0]] * 2}, "twice"),
    "a core name": ({**SCHEMA, "attributes": [{"name": "active", "type": "boolean"}]}, "active"),
    "unique": ({**SCHEMA, "attributes": [{"name": "a", "type": "string", "uniqueness": "server"}]}, "uniqueness"),
    "hidden": ({**SCHEMA, "attributes": [{"name": "a", "type": "string", "returned": "never"}]}, "returned"),
    "written once": (
        {**SCHEMA, "attributes": [{"name": "a", "type": "string", "mutability": "immutable"}]},
        "mutability",
    ),
    "a bad name": ({**SCHEMA, "attributes": [{"name": "a b", "type": "string"}]}, "a b"),
}


@pytest.mark.parametrize(("document", "word"), REFUSED.values(), ids=REFUSED)
def test_a_schema_that_cannot_be_kept_is_refused_with_a_sentence(document: Any, word: str) -> None:
    with pytest.raises(BadExtension) as told:
        read(document if isinstance(document, str) else json.dumps(document), "User")
    assert any(word in problem for problem in told.value.problems)
