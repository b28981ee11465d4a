"""What Okta does beyond the scripted sessions: it sends our own answers back, and people return."""

from __future__ import annotations

from typing import Any

import pytest
from support.endpoint import USER, Client

from .people import name, rich_user


def test_our_own_user_sent_back_changes_nothing(client: Client) -> None:
    """Okta reads, merges its values into what it read, and puts that: id, meta and groups come back."""
    user = rich_user(client)
    client.group(name("group"), user["id"])
    read = client.get(f"/Users/{user['id']}").json
    got = client.send("PUT", f"/Users/{user['id']}", read)
    assert (got.status, got.json) == (200, read)


def test_our_own_group_sent_back_changes_nothing(client: Client) -> None:
    members = [client.user(name())["id"] for _ in range(2)]
    group = client.group(name("group"), *members, client.group(name("inner"))["id"])
    assert client.send("PUT", f"/Groups/{group['id']}", group).json == group


def test_who_returns_is_found_and_keeps_id_and_groups(client: Client) -> None:
    """A create for somebody who left is a conflict, and the lookup that follows finds them."""
    person = {"schemas": [USER], "userName": name(), "externalId": name("00u"), "active": True}
    user = client.send("POST", "/Users", person).json
    group = client.group(name("group"), user["id"])
    assert client.send("PUT", f"/Users/{user['id']}", {**person, "active": False}).json["active"] is False
    assert client.send("POST", "/Users", person).is_scim_error(409, "uniqueness")
    found = client.get(f"/Users?filter=userName%20eq%20%22{person['userName']}%22&startIndex=1&count=100").json
    assert [(one["id"], one["active"]) for one in found["Resources"]] == [(user["id"], False)]
    back = client.send("PUT", f"/Users/{user['id']}", {**found["Resources"][0], "active": True}).json
    assert (back["id"], back["active"], [one["value"] for one in back["groups"]]) == (user["id"], True, [group["id"]])


DECORATIONS: dict[str, dict[str, Any]] = {
    "a profileUrl without a scheme": {"profileUrl": "www.example.com/~somebody"},
    "a photo that is a file name": {"photos": [{"value": "portrait.png", "type": "photo"}]},
    "a locale that is a word": {"locale": "Norsk", "timezone": "Oslo", "preferredLanguage": "?"},
    "an address that is none": {"emails": [{"value": "not an address", "type": "work", "primary": True}]},
    "a number that is none": {"phoneNumbers": [{"value": "ask at the desk", "type": "work"}]},
}


@pytest.mark.parametrize("what", DECORATIONS)
def test_a_departure_does_not_fail_for_a_decoration(client: Client, what: str) -> None:
    """Okta's wizard apps say `active: false` in a whole profile, and do not try a 400 again."""
    user = client.user(name())
    got = client.send("PUT", f"/Users/{user['id']}", {**user, **DECORATIONS[what], "active": False})
    assert (got.status, client.get(f"/Users/{user['id']}").json["active"]) == (200, False), got.raw
