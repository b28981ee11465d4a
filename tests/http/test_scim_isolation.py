"""A token of one source can neither read nor change what another source pushed (promise 12)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from support.endpoint import GROUP, USER, Client


@pytest.fixture
def theirs(okta: Client) -> dict[str, Any]:
    name = f"isolated-{uuid.uuid4().hex[:8]}"
    user = okta.user(name, externalId=name)
    return {"name": name, "user": user["id"], "group": okta.group(name, user["id"])["id"]}


def test_records_of_another_source_cannot_be_read(entra: Client, theirs: dict[str, Any]) -> None:
    for path in (
        f"/Users/{theirs['user']}",
        f"/Groups/{theirs['group']}",
        f"/Users/{theirs['user']}?attributes=name.x",
    ):
        assert entra.get(path).is_scim_error(404)
    for query in ("userName", "externalId"):
        assert entra.get(f"/Users?filter={query}+eq+%22{theirs['name']}%22").json["totalResults"] == 0
    assert entra.get(f"/Users?filter=id+eq+%22{theirs['user']}%22+and+active+eq+true").json["totalResults"] == 0
    assert theirs["user"] not in entra.get("/Users?count=200").raw.decode()
    assert theirs["user"] not in entra.get("/?count=200").raw.decode()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("kind", ["user", "group"])
def test_records_of_another_source_cannot_be_changed(
    okta: Client, entra: Client, theirs: dict[str, Any], method: str, kind: str
) -> None:
    path = f"/{kind.title()}s/{theirs[kind]}"
    whole = {"schemas": [USER if kind == "user" else GROUP], "userName": "taken-over", "displayName": "taken-over"}
    operation = {"op": "replace", "path": "displayName", "value": "taken-over"}
    assert entra.send(method, path, {"Operations": [operation]} if method == "PATCH" else whole).is_scim_error(404)
    assert "taken-over" not in okta.get(path).raw.decode()


@pytest.mark.parametrize("called", ["user", "name"])
def test_a_member_of_another_source_is_not_taken_in(
    okta: Client, entra: Client, theirs: dict[str, Any], called: str
) -> None:
    """`name` is their externalId and their userName."""
    group = entra.group(f"borrowed-{theirs['name']}", theirs[called])
    assert entra.members(group["id"]) == set()
    assert [one["value"] for one in okta.get(f"/Users/{theirs['user']}").json["groups"]] == [theirs["group"]]


def test_two_sources_may_use_one_name(entra: Client, theirs: dict[str, Any]) -> None:
    assert entra.user(theirs["name"])["id"] != theirs["user"]
