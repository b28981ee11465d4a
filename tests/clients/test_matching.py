"""How clients find what is here already: whatever breaks imports and matching is shown not to happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import Client, serving

from idsync.web.auth import ScimSource

from .people import name, rich_user


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Client]:
    """A source that nobody has pushed anything to."""
    with serving(tmp_path, ScimSource("fresh")) as running:
        yield running.clients["fresh"]


def pages(client: Client, kind: str, size: str) -> Iterator[Any]:
    """Read everything the way authentik and Okta do: from one past what was seen, until the total is reached."""
    seen, total = 0, 1
    while seen < total:
        page = client.get(f"/{kind}?startIndex={seen + 1}{size}").json
        assert (type(page["totalResults"]), type(page["itemsPerPage"]), page["startIndex"]) == (int, int, seen + 1)
        assert page["itemsPerPage"] == len(page["Resources"])
        yield from page["Resources"]
        seen, total = seen + len(page["Resources"]), page["totalResults"]


@pytest.mark.parametrize("kind", ["Users", "Groups"])
def test_nothing_is_an_empty_list(fresh: Client, kind: str) -> None:
    for query in ("", "?startIndex=1&count=100", "?filter=id+eq+%22x%22", "?excludedAttributes=members", "?count=0"):
        got = fresh.get(f"/{kind}{query}")
        assert (got.status, got.json["totalResults"], got.json["Resources"]) == (200, 0, [])


def test_an_import_sees_everybody_once_in_one_order(fresh: Client) -> None:
    """People change, leave and are deactivated between two imports; nobody moves, nobody is left out."""
    made = [fresh.user(name())["id"] for _ in range(7)]
    groups = [fresh.group(name("group"), made[0])["id"] for _ in range(5)]
    fresh.patch(f"/Users/{made[1]}", {"op": "replace", "path": "active", "value": False})
    fresh.patch(f"/Users/{made[5]}", {"op": "replace", "path": "userName", "value": f"a.{name()}"})
    fresh.patch(f"/Groups/{groups[3]}", {"op": "replace", "path": "displayName", "value": f"a.{name()}"})
    assert [one["id"] for one in pages(fresh, "Users", "&count=3")] == made
    assert [one["id"] for one in pages(fresh, "Users", "")] == made
    assert [one["id"] for one in pages(fresh, "Groups", "&count=2")] == groups
    assert [one["active"] for one in pages(fresh, "Users", "&count=100")] == [True, False, *[True] * 5]
    fresh.send("DELETE", f"/Users/{made[0]}")
    assert [one["id"] for one in pages(fresh, "Users", "&count=3")] == made[1:]


def test_an_id_never_changes(client: Client) -> None:
    user = rich_user(client)
    path = f"/Users/{user['id']}"
    other = {**user, "userName": name(), "externalId": name("other"), "id": "another"}
    answers = [
        client.patch(path, {"op": "replace", "path": "userName", "value": name()}),
        client.patch(path, {"op": "replace", "path": "externalId", "value": name("new")}),
        client.patch(path, {"op": "replace", "path": "active", "value": False}),
        client.send("PUT", path, other),
        client.get(path),
    ]
    assert [(got.status, got.json["id"]) for got in answers] == [(200, user["id"])] * 5


def test_primary_survives_what_is_about_something_else(client: Client) -> None:
    user = rich_user(client)
    path = f"/Users/{user['id']}"
    client.patch(path, {"op": "Replace", "path": "displayName", "value": "x"})
    client.patch(path, {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "n@example.com"})
    client.send("PUT", path, client.get(path).json)
    emails = client.get(path).json["emails"]
    assert [(one["value"], one.get("primary", False)) for one in emails] == [
        ("n@example.com", True),
        (user["emails"][1]["value"], False),
    ]


@pytest.mark.parametrize("document", ["/Schemas", "/ResourceTypes", "/ServiceProviderConfig"])
def test_discovery_has_neither_nulls_nor_empty_texts(client: Client, document: str) -> None:
    def leaves(value: Any) -> Iterator[Any]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        if inner is None:
            yield value
        for one in inner or ():
            yield from leaves(one)

    found = list(leaves(client.get(document).json))
    assert len(found) > 20
    assert [one for one in found if one in (None, "")] == []


LOGINS = [
    "o'brien+tag@example.com",
    'say "hi"@example.com',
    "Åsa.Öberg@example.com",
    "back\\slash",
    "a & b = c?",
    "100%",
]


@pytest.mark.parametrize("login", LOGINS)
def test_special_characters_match_exactly(fresh: Client, login: str) -> None:
    user = fresh.user(login, externalId=login)
    near = fresh.user(f"{login}x", externalId=f"{login}x")
    text = login.replace("\\", "\\\\").replace('"', '\\"')
    for filter_text in (f'userName eq "{text}"', f'externalId eq "{text}"', f'userName eq "{text}" and active eq true'):
        found = fresh.get(f"/Users?filter={quote(filter_text, safe='')}").json["Resources"]
        assert [one["id"] for one in found] == [user["id"]]
    for upper in (login.upper(), login.swapcase()):
        asked = upper.replace("\\", "\\\\").replace('"', '\\"')
        found = fresh.get(f"/Users?filter={quote(f'userName eq {chr(34)}{asked}{chr(34)}', safe='')}").json["Resources"]
        assert [one["userName"] for one in found] == [login]
    assert near["userName"] == f"{login}x"


STRANGE = [
    "?aadOptscim062020&filter={f}",
    "?filter={f}&aadOptscim062020",
    "?filter={f}&",
    "?filter={f}?",
    "?filter={f}?&",
]
STRANGE += ["?&filter={f}", "??filter={f}", "?filter={f}&filters=x&Filter2=y"]
BEYOND = ["?aadOptscim062020?filter={f}", "?aadOptscim062020=?filter={f}", "?filter={f}?aadOptscim062020"]


@pytest.mark.parametrize("query", [*STRANGE, *BEYOND])
def test_a_filter_is_never_lost_in_a_strange_query(client: Client, query: str) -> None:
    """Whoever asks for one person and is answered with everybody takes the first of them for that person."""
    user = client.user(name())
    client.user(name())
    got = client.get("/Users" + query.format(f=f"userName+eq+%22{user['userName']}%22"))
    if got.status == 400:
        assert query in BEYOND
    else:
        assert [one["id"] for one in got.json["Resources"]] == [user["id"]]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("media_type", ["application/json", "application/scim+json", "text/plain"])
def test_the_type_of_a_body_that_is_not_there_does_not_matter(client: Client, method: str, media_type: str) -> None:
    """The keycloak plugin puts its Content-Type on every request."""
    path = f"/Users/{client.user(name())['id']}"
    assert client.send(method, path, headers={"Content-Type": media_type}).status in (200, 204)


@pytest.mark.parametrize("base", ["/", "//"])
def test_a_slash_too_many_in_the_base_url(client: Client, base: str) -> None:
    user = client.send("POST", f"{base}Users/", {"userName": name()}).json
    assert client.get(f"{base}Users/{user['id']}/").json["id"] == user["id"]
