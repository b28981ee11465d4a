"""Many clients change one thing at once: nothing is lost, one of them wins, and every answer is of one state."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support.endpoint import GROUP, PATCH_OP, USER, Client, Got

from .crowd import CLIENTS, at_once, version, version_of
from .program import Program

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
TURNS = 50
OWN = 4
"""People whom each client adds and removes; with all of them in, the group is still answered in full."""
Operation = dict[str, Any]


def name() -> str:
    return f"race-{uuid.uuid4().hex[:12]}"


def bulk(client: Client, *operations: Operation) -> list[Any]:
    got = client.send("POST", "/Bulk", {"schemas": [BULK], "Operations": operations})
    assert got.status == 200, got.raw
    listed: list[Any] = got.json["Operations"]
    return listed


# -- C1: nothing is lost --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A member who came or went, the version that made, and the members told with it (None: not told)."""

    version: int
    member: str
    came: bool
    told: frozenset[str] | None


def spelled(member: str, came: bool, spelling: int) -> Operation:
    """Write one change in one of two ways; removals by a value array and by a filter."""
    listed = [{"value": member}]
    ways: dict[tuple[bool, int], Operation] = {
        (True, 0): {"op": "add", "path": "members", "value": listed},
        (True, 1): {"op": "Add", "value": {"members": listed}},
        (False, 0): {"op": "remove", "path": "members", "value": listed},
        (False, 1): {"op": "Remove", "path": f'members[value eq "{member}"]'},
    }
    return ways[came, spelling]


def turns(people: list[str], number: int, count: int = TURNS) -> list[tuple[str, bool, int]]:
    """Let the people of this client in and out; every one of these changes has an effect."""
    own = people[number * OWN : (number + 1) * OWN]
    return [(own[turn % OWN], turn // OWN % 2 == 0, (turn + number) % 2) for turn in range(count)]


def by_patch(client: Client, path: str, people: list[str], number: int) -> list[Change]:
    """Every seventh one asks for the ids alone, which only the core answers: it is judged outside the writer."""
    done = []
    for turn, (member, came, spelling) in enumerate(turns(people, number)):
        query = "?attributes=members.value" if turn % 7 == 6 else ""
        got = client.patch(path + query, spelled(member, came, spelling))
        assert got.status == 200, got.raw
        told = frozenset(one["value"] for one in got.json.get("members", ()))
        done.append(Change(version_of(got), member, came, told))
    return done


def by_bulk(client: Client, path: str, people: list[str], number: int) -> list[Change]:
    """Five changes in each of four requests."""
    planned, done = turns(people, number, 20), []
    for start in range(0, len(planned), 5):
        some = planned[start : start + 5]
        answers = bulk(
            client,
            *(
                {"method": "PATCH", "path": path, "data": {"schemas": [PATCH_OP], "Operations": [spelled(*one)]}}
                for one in some
            ),
        )
        assert [answer["status"] for answer in answers] == ["200"] * len(some)
        versions = [version(answer["version"]) for answer in answers]
        done += [Change(made, member, came, None) for made, (member, came, _) in zip(versions, some, strict=True)]
    return done


@pytest.mark.parametrize("push", [by_patch, by_bulk])
def test_no_change_of_a_group_is_lost(okta: Client, push: Callable[..., list[Change]]) -> None:
    """Replayed in the order of their versions, the changes give what each answer told and what is there at the end."""
    people = [one["id"] for one in at_once(lambda number: [okta.user(name()) for _ in range(OWN)]) for one in one]
    path = f"/Groups/{okta.group(name())['id']}"
    pushed = at_once(lambda number: push(okta, path, people, number))
    changes = sorted((change for done in pushed for change in done), key=lambda change: change.version)
    assert [change.version for change in changes] == list(range(2, len(changes) + 2)), "one version for every change"
    members: set[str] = set()
    for change in changes:
        assert (change.member in members) is not change.came
        members ^= {change.member}
        assert change.told in (None, members)
    assert okta.members(path.rpartition("/")[2]) == members
    assert version_of(okta.get(path)) == len(changes) + 1


def test_a_group_read_while_it_changes_is_of_one_version(okta: Client) -> None:
    """The ETag, the version in the body and the members belong together, whoever writes meanwhile."""
    people = at_once(lambda _: [okta.user(name())["id"] for _ in range(10)])
    crowd = [one for some in people for one in some]
    path = f"/Groups/{okta.group(name(), *crowd)['id']}"
    done = threading.Event()
    sizes = {1: len(crowd)}

    def write() -> list[Got]:
        try:
            for turn in range(120):
                member, came = crowd[turn // 2], turn % 2 == 1
                got = okta.patch(path, spelled(member, came, turn % 2))
                assert got.status == 204, got.raw
                sizes[version_of(got)] = len(crowd) - (not came)
        finally:
            done.set()
        return []

    def read() -> list[Got]:
        seen = []
        while not done.is_set():
            seen.append(okta.get(path))
        return seen

    answers = [got for seen in at_once(lambda number: read() if number else write(), 3) for got in seen]
    assert len(answers) > 10
    torn = [got for got in answers if got.headers["etag"] != got.json["meta"]["version"]]
    assert len(torn) == 0, f"{len(torn)} of {len(answers)} answers have the ETag of another version than their body"
    assert all(len(got.json["members"]) == sizes[version_of(got)] for got in answers)


# -- C3: one of many equal ones ---------------------------------------------------------------------------------------


def post(client: Client, kind: str, resource: Operation) -> Got:
    return client.send("POST", f"/{kind}", resource)


def post_in_bulk(client: Client, kind: str, resource: Operation) -> Got:
    (told,) = bulk(client, {"method": "POST", "path": f"/{kind}", "bulkId": "one", "data": resource})
    return Got(int(told["status"]), {}, b"")


def rename(client: Client, kind: str, resource: Operation) -> Got:
    """Give somebody else that name."""
    (attribute,) = resource.keys() - {"schemas"}
    made = client.send("POST", f"/{kind}", {**resource, attribute: name()}).json
    return client.patch(f"/{kind}/{made['id']}", {"op": "replace", "path": attribute, "value": resource[attribute]})


@pytest.mark.parametrize("way", [post, post_in_bulk, rename])
@pytest.mark.parametrize("kind", ["Users", "Groups"])
def test_of_equal_names_one_is_taken(program: Program, okta: Client, kind: str, way: Callable[..., Got]) -> None:
    """Whatever the letter case; and one row is all there is of that name."""
    attribute, schema = {"Users": ("userName", USER), "Groups": ("displayName", GROUP)}[kind]
    wanted = name()
    spellings = (wanted, wanted.upper(), wanted.title())
    answers = at_once(lambda number: way(okta, kind, {"schemas": [schema], attribute: spellings[number % 3]}))
    taken = 200 if way is rename else 201
    assert sorted(got.status for got in answers) == [taken] + [409] * (CLIENTS - 1)
    assert all(got.is_scim_error(409, "uniqueness") for got in answers if got.status == 409 and got.raw)
    assert okta.get(f"/{kind}?filter={attribute}+eq+%22{wanted}%22").json["totalResults"] == 1
    rows = {
        "Users": "SELECT id FROM users WHERE user_name_key = :name",
        "Groups": "SELECT id FROM groups WHERE display_key = :name",
    }
    with program.store() as db:
        assert len(db.all(rows[kind], name=wanted)) == 1


# -- C4: conditions -----------------------------------------------------------------------------------------------------


def patched(path: str, value: Any) -> Callable[[Client, Operation, int], Operation]:
    def request(client: Client, resource: Operation, number: int) -> Operation:
        text = value.format(number, resource["id"]) if isinstance(value, str) else value
        operation = {"op": "replace", "path": path, "value": text}
        return {"method": "PATCH", "data": {"schemas": [PATCH_OP], "Operations": [operation]}}

    return request


def with_member(client: Client, resource: Operation, number: int) -> Operation:
    operation = {"op": "add", "path": "members", "value": [{"value": client.user(name())["id"]}]}
    return {"method": "PATCH", "data": {"schemas": [PATCH_OP], "Operations": [operation]}}


def put(client: Client, resource: Operation, number: int) -> Operation:
    return {"method": "PUT", "data": {**resource, "externalId": f"winner-{number:02}"}}


def delete(client: Client, resource: Operation, number: int) -> Operation:
    return {"method": "DELETE"}


def mixed(client: Client, resource: Operation, number: int) -> Operation:
    return (put, patched("externalId", "winner-{:02}"), delete)[number % 3](client, resource, number)


CONDITIONAL = {
    "PATCH active": ("Users", patched("active", False)),
    "PATCH title": ("Users", patched("title", "winner-{:02}")),
    "PUT user": ("Users", put),
    "DELETE user": ("Users", delete),
    "all three of a user": ("Users", mixed),
    "PATCH members": ("Groups", with_member),
    "PATCH displayName": ("Groups", patched("displayName", "winner-{:02} of {}")),
    "PUT group": ("Groups", put),
    "DELETE group": ("Groups", delete),
    "all three of a group": ("Groups", mixed),
}


@pytest.mark.parametrize("in_bulk", [False, True], ids=["alone", "in bulk"])
@pytest.mark.parametrize("what", CONDITIONAL)
def test_of_changes_to_the_same_version_one_wins(okta: Client, what: str, in_bulk: bool) -> None:
    """Every other one asks for a projection, which takes it through the core."""
    kind, change = CONDITIONAL[what]
    made = okta.user(name()) if kind == "Users" else okta.group(name())
    path, tag = f"/{kind}/{made['id']}", made["meta"]["version"]
    requests = [change(okta, made, number) for number in range(CLIENTS)]

    def push(number: int) -> int:
        request = requests[number]
        if in_bulk:
            (told,) = bulk(okta, {**request, "path": path, "version": tag})
            return int(told["status"])
        query = "?attributes=externalId" if number % 2 else ""
        return okta.send(request["method"], path + query, request.get("data"), {"If-Match": tag}).status

    statuses = at_once(push)
    won = [number for number, status in enumerate(statuses) if status in (200, 204)]
    assert len(won) == 1, statuses
    assert {statuses[number] for number in range(CLIENTS) if number not in won} <= {412, 404}
    left = okta.get(path)
    if requests[won[0]]["method"] == "DELETE":
        assert left.status == 404
        return
    assert set(statuses) == {200, 412}, "404 is for what is deleted"
    assert version_of(left) == 2
    said = {word[:9] for word in left.raw.decode().split('"') if word.startswith("winner-")}
    assert said <= {f"winner-{won[0]:02}"}


# -- two kinds of change that cross ---------------------------------------------------------------------------------------


def test_nobody_is_in_a_group_after_their_deletion(program: Program, okta: Client) -> None:
    """They are put into groups at the moment they are deleted; whoever gets their name is somebody else."""
    user = okta.user(name())
    groups = [okta.group(name())["id"] for _ in range(CLIENTS)]

    def push(number: int) -> int:
        if number == CLIENTS // 2:
            return okta.send("DELETE", f"/Users/{user['id']}").status
        return okta.patch(f"/Groups/{groups[number]}", spelled(user["id"], True, number % 2)).status

    statuses = at_once(push)
    assert statuses.count(204) == 1
    assert statuses.count(200) == CLIENTS - 1
    again = okta.user(user["userName"])
    assert "groups" not in okta.get(f"/Users/{again['id']}").json
    assert [group for group in groups if okta.members(group)] == []
    ids = {"old": user["id"], "new": again["id"]}
    with program.store() as db:
        assert db.all("SELECT group_id FROM memberships WHERE member_id IN (:old, :new)", **ids) == []
