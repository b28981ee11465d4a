"""Membership: what the identity providers send, and what must never happen to it."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.endpoint import GROUP, PATCH_OP, Client


def name() -> str:
    return f"team-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def people(okta: Client) -> list[str]:
    return [okta.user(name())["id"] for _ in range(3)]


CALLED = ("id", "externalId", "userName")
"""What a client may call a member; what it reads back is the id."""


def known(client: Client) -> dict[str, Any]:
    made: dict[str, Any] = client.user(name(), externalId=name())
    return made


REMOVALS: dict[str, dict[str, Any]] = {
    "Entra, as documented": {"path": "members", "value": [{"$ref": None, "value": "ID"}]},
    "Entra": {"path": "members", "value": [{"value": "ID"}]},
    "with display": {"path": "members", "value": [{"value": "ID", "display": "x", "type": "User"}]},
    "with strange keys": {"path": "members", "value": [{"value": "ID", "displayName": "x", "deleted": True}]},
    "an object": {"path": "members", "value": {"value": "ID"}},
    "an id": {"path": "members", "value": ["ID"]},
    "filtered": {"path": 'members[value eq "ID"]'},
    "filtered, bare": {"path": "members[value eq ID]"},
    "filtered, URN": {"path": f'{GROUP}:members[value eq "ID"]'},
}


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("spelling", REMOVALS)
def test_exactly_the_named_member_leaves(okta: Client, people: list[str], spelling: str, called: str) -> None:
    leaver = known(okta)
    people[1] = leaver["id"]
    group = okta.group(name(), *people)
    removal = json.loads(json.dumps(REMOVALS[spelling]).replace("ID", leaver[called]))
    got = okta.patch(f"/Groups/{group['id']}", {"op": "Remove", **removal})
    assert got.status == 200
    assert okta.members(group["id"]) == {people[0], people[2]}


def test_removing_nobody_removes_nobody(okta: Client, people: list[str]) -> None:
    group = okta.group(name(), *people)
    assert okta.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members", "value": []}).status == 200
    assert okta.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members", "value": [{}]}).is_scim_error(
        400, "invalidValue"
    )
    assert okta.members(group["id"]) == set(people)


def test_remove_without_a_value_and_replace_by_nothing_empty_a_group(okta: Client, people: list[str]) -> None:
    for operation in ({"op": "remove", "path": "members"}, {"op": "replace", "path": "members", "value": []}):
        group = okta.group(name(), *people)
        assert okta.patch(f"/Groups/{group['id']}", operation).status == 200
        assert okta.members(group["id"]) == set()


def test_a_put_without_members_empties(okta: Client, people: list[str]) -> None:
    group = okta.group(name(), *people)
    bare = {"schemas": [GROUP], "displayName": group["displayName"]}
    assert okta.send("PUT", f"/Groups/{group['id']}", bare).status == 200
    assert okta.members(group["id"]) == set()


def test_adding_again_changes_nothing(okta: Client, people: list[str]) -> None:
    group = okta.group(name(), *people)
    add = {"op": "Add", "path": "members", "value": [{"value": people[0]}]}
    assert okta.patch(f"/Groups/{group['id']}", add).headers["etag"] == group["meta"]["version"]


def test_the_last_word_on_a_member_counts(okta: Client, people: list[str]) -> None:
    group = okta.group(name(), people[0])
    okta.patch(
        f"/Groups/{group['id']}",
        {"op": "add", "path": "members", "value": [{"value": people[1]}]},
        {"op": "remove", "path": f'members[value eq "{people[1]}"]'},
        {"op": "remove", "path": f'members[value eq "{people[0]}"]'},
        {"op": "add", "path": "members", "value": [{"value": people[0]}]},
    )
    assert okta.members(group["id"]) == {people[0]}


@pytest.mark.parametrize("source", ["okta", "exact"])
@pytest.mark.parametrize("called", CALLED[1:])
def test_a_member_is_the_same_by_whatever_it_is_called(served: Any, source: str, called: str) -> None:
    """A strict source goes through the core, the other one through the short cuts."""
    client: Client = served.clients[source]
    user = known(client)
    one, other = {"value": user[called]}, {"value": user["id"]}
    group = client.group(name(), user[called])
    assert [entry["value"] for entry in group["members"]] == [user["id"]]
    path, version = f"/Groups/{group['id']}", group["meta"]["version"]
    for listed in ([one], [other], [one, other]):
        whole = {"schemas": [GROUP], "displayName": group["displayName"], "members": listed}
        assert client.send("PUT", path, whole).headers["etag"] == version
    add, add_id = ({"op": "add", "path": "members", "value": [entry]} for entry in (one, other))
    remove, remove_id = ({"op": "remove", "path": f'members[value eq "{entry["value"]}"]'} for entry in (one, other))
    replace = {"op": "replace", "path": "members", "value": [one]}
    others, not_it, it = (
        {"op": "remove", "path": f"members[{text.format(user[called])}]"}
        for text in ('value ne "{}"', 'not (value eq "{}")', 'type eq "User" and VALUE eq "{}"')
    )
    whole_object = {"op": "replace", "value": {"members": [one]}}
    for operations, stays in (
        ([add, remove_id], False),
        ([add_id], True),
        ([remove_id, add], True),
        ([remove, add_id], True),
        ([add_id, remove], False),
        ([replace, remove_id], False),
        ([whole_object, remove_id], False),
        ([whole_object], True),
        ([remove_id, replace, add], True),
        ([remove], False),
        ([replace], True),
        ([others], True),
        ([not_it], True),
        ([it], False),
    ):
        assert client.patch(path, *operations).status == 200
        assert client.members(group["id"]) == ({user["id"]} if stays else set()), operations


@pytest.mark.parametrize("source", ["okta", "exact"])
def test_a_name_that_waits_can_be_taken_back_although_it_means_somebody_by_now(served: Any, source: str) -> None:
    client: Client = served.clients[source]
    user, group = known(client), client.group(name())
    twin = client.user(name(), externalId=user["externalId"])
    path, listed = f"/Groups/{group['id']}", [{"value": user["externalId"]}]
    client.patch(path, {"op": "add", "path": "members", "value": listed})
    client.send("DELETE", f"/Users/{twin['id']}")
    assert client.members(group["id"]) == set()
    other = {"op": "add", "path": "members", "value": [{"value": name()}]}
    client.patch(path, other, {"op": "remove", "path": f'members[value eq "{user["externalId"]}"]'})
    client.send("DELETE", f"/Users/{user['id']}")
    client.user(name(), externalId=user["externalId"])
    assert client.members(group["id"]) == set()


def test_members_named_in_a_bulk_request(okta: Client) -> None:
    user, group = known(okta), okta.group(name())
    made = {"method": "POST", "path": "/Users", "bulkId": "new", "data": {"userName": name()}}

    def changed(op: dict[str, Any]) -> dict[str, Any]:
        return {
            "method": "PATCH",
            "path": f"/Groups/{group['id']}",
            "data": {"schemas": [PATCH_OP], "Operations": [op]},
        }

    both = [{"value": "bulkId:new"}, {"value": user["externalId"]}]
    added = changed({"op": "add", "path": "members", "value": both})
    removed = changed({"op": "remove", "path": f'members[value eq "{user["userName"]}"]'})
    bulk = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [made, added, removed]}
    told = okta.send("POST", "/Bulk", bulk).json["Operations"]
    assert [one["status"] for one in told] == ["201", "200", "200"]
    assert okta.members(group["id"]) == {told[0]["location"].rpartition("/")[2]}


def test_an_unknown_member_does_not_cost_the_others_their_place(okta: Client, people: list[str]) -> None:
    group = okta.group(name())
    listed = [{"value": one} for one in (str(uuid.uuid4()), people[0])]
    assert okta.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": listed}).status == 200
    assert okta.members(group["id"]) == {people[0]}


def test_rename_and_members_in_one_request(okta: Client, people: list[str]) -> None:
    group, fresh = okta.group(name()), name()
    renamed = {"op": "replace", "value": {"id": group["id"], "displayName": fresh}}
    added = {"op": "add", "path": "members", "value": [{"value": people[0]}]}
    got = okta.patch(f"/Groups/{group['id']}", renamed, added).json
    assert (got["displayName"], [one["value"] for one in got["members"]]) == (fresh, [people[0]])
    other = {"op": "replace", "value": {"id": str(uuid.uuid4()), "displayName": name()}}
    assert okta.patch(f"/Groups/{group['id']}", other).is_scim_error(400, "mutability")


def test_a_name_in_use_is_a_conflict_and_undoes_the_rest(okta: Client, people: list[str]) -> None:
    taken, group = okta.group(name()), okta.group(name())
    renamed = {"op": "replace", "path": "displayName", "value": taken["displayName"].upper()}
    added = {"op": "add", "path": "members", "value": [{"value": people[0]}]}
    assert okta.patch(f"/Groups/{group['id']}", added, renamed).is_scim_error(409, "uniqueness")
    assert okta.members(group["id"]) == set()


def test_members_and_groups_are_shown_from_both_sides(okta: Client, served: Any) -> None:
    user = okta.user(name())
    group = okta.group(name(), user["id"])
    outer = okta.group(name(), group["id"])
    assert group["members"] == [
        {
            "value": user["id"],
            "$ref": f"{served.base}/Users/{user['id']}",
            "type": "User",
        }
    ]
    named = okta.get(f"/Groups/{group['id']}?attributes=members.display").json
    assert named["members"] == [{"display": user["userName"]}]
    assert outer["members"][0]["type"] == "Group"
    assert outer["members"][0]["$ref"] == f"{served.base}/Groups/{group['id']}"
    shown = [
        {
            "value": one["id"],
            "$ref": f"{served.base}/Groups/{one['id']}",
            "display": one["displayName"],
            "type": kind,
        }
        for one, kind in ((group, "direct"), (outer, "indirect"))
    ]
    for path in (f"/Users/{user['id']}", f"/Users/{user['id']}?attributes=groups,name.givenName"):
        assert okta.get(path).json["groups"] == shown
    for one in (group, outer):
        found = okta.get(f"/Users?filter=groups+eq+%22{one['id']}%22").json["Resources"]
        assert [entry["id"] for entry in found] == [user["id"]]


def test_groups_that_hold_each_other_end(okta: Client) -> None:
    user = okta.user(name())
    inner = okta.group(name(), user["id"])
    outer = okta.group(name(), inner["id"])
    okta.patch(f"/Groups/{inner['id']}", {"op": "add", "path": "members", "value": [{"value": outer["id"]}]})
    listed = okta.get(f"/Users/{user['id']}").json["groups"]
    assert [(one["value"], one["type"]) for one in listed] == [(inner["id"], "direct"), (outer["id"], "indirect")]


def test_sixteen_parallel_adds_lose_nobody(okta: Client) -> None:
    people = [okta.user(name())["id"] for _ in range(16)]
    group = okta.group(name())

    def add(one: str) -> int:
        operation = {"op": "Add", "path": "members", "value": [{"value": one}]}
        return okta.patch(f"/Groups/{group['id']}", operation).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(add, people)) == {200}
    assert okta.members(group["id"]) == set(people)


def test_parallel_creates_of_one_name_make_one_user(okta: Client) -> None:
    wanted = name()

    def create(_: int) -> int:
        return okta.send("POST", "/Users", {"userName": wanted}).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [201] + [409] * 7


def test_a_large_group_is_answered_with_204(okta: Client) -> None:
    people = [okta.user(name())["id"] for _ in range(101)]
    group = okta.group(name(), *people)
    for operation in (
        {"op": "add", "path": "members", "value": [{"value": people[0]}]},
        {"op": "add", "path": 'members[value eq "x"].display', "value": "y"},
    ):
        got = okta.patch(f"/Groups/{group['id']}", operation)
        assert (got.status, got.raw, "etag" in got.headers) in ((204, b"", True), (400, got.raw, False))


def test_more_members_than_one_request_may_name(okta: Client) -> None:
    group = okta.group(name())
    crowd = [{"value": str(number)} for number in range(10_001)]
    assert okta.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": crowd}).is_scim_error(413)
    assert okta.send("POST", "/Groups", {"displayName": name(), "members": crowd}).is_scim_error(413)
    many = [{"op": "remove", "path": f'members[value eq "{number}"]'} for number in range(1001)]
    assert okta.patch(f"/Groups/{group['id']}", *many).is_scim_error(413)


def test_operations_that_look_at_every_member_are_bounded_by_their_number(okta: Client) -> None:
    """Each of them costs as much as the group is large; those that name members by id are not counted."""
    made = [{"method": "POST", "path": "/Users", "bulkId": str(n), "data": {"userName": name()}} for n in range(101)]
    bulk = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": made}
    people = [one["location"].rpartition("/")[2] for one in okta.send("POST", "/Bulk", bulk).json["Operations"]]
    group = okta.group(name(), *people)
    removals = [
        {"op": "remove", "path": f'members[value eq "{people[n % 101]}" and type eq "User"]'} for n in range(1000)
    ]
    got = okta.patch(f"/Groups/{group['id']}", *removals)
    assert got.status == 413
    assert "members by their ids" in got.json["detail"]
    assert okta.members(group["id"]) == set(people)
    assert okta.patch(f"/Groups/{group['id']}", *removals[:990]).status == 200
    assert okta.members(group["id"]) == set()
