"""What one request may hold, at the limit and one beyond: served, or refused with everything as it was."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER, Client, Got

from fuzz.answers import complaint
from fuzz.chance import FACTOR
from fuzz.server import Endpoint, Wire
from idsync.scim.provider import MAX_BODY, MAX_MEMBERS, MAX_OPERATIONS

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"


def name() -> str:
    return f"caps-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["okta", "exact"])
def client(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def _quiet(endpoint: Endpoint) -> None:
    """Nothing that is refused for its size is an accident to the server."""
    endpoint.said()


def _directory(client: Wire) -> list[Any]:
    """Return how many users and groups there are."""
    return [client.get(f"/{place}?count=0").json["totalResults"] for place in ("Users", "Groups")]


# -- bytes -------------------------------------------------------------------------------------------------------


def _user_of(size: int) -> bytes:
    raw = json.dumps({"schemas": [USER], "userName": name(), "title": ""})
    return raw.replace('"title": ""', f'"title": "{"x" * (size - len(raw))}"').encode()


def _chunked(client: Client, body: bytes, *, step: int) -> tuple[int, bytes]:
    """Send a body in chunks and no Content-Length; return the status and the body of the answer."""
    lines = ("Content-Type: application/scim+json", "Transfer-Encoding: chunked", "Connection: close")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(one := body[at : at + step]), one) for at in range(0, len(body), step))
    answer = client.raw(client.head("POST", "/Users", *lines) + chunks + b"0\r\n\r\n")
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_bytes_of_a_body(client: Wire, more: int) -> None:
    status, before = 413 if more > 0 else 201, _directory(client)
    declared = client.send("POST", "/Users", _user_of(MAX_BODY + more))
    assert (declared.status, complaint(declared)) == (status, None)
    for step in (MAX_BODY * 2, 65536, 8191):
        found, answer = _chunked(client, _user_of(MAX_BODY + more), step=step)
        assert found == status, step
        assert (b'"status": "413"' in answer) == (status == 413)
    made = 0 if status == 413 else 4
    assert _directory(client) == [before[0] + made, before[1]]
    assert client.user(name())["active"] is True


def test_a_body_that_says_it_is_larger_than_any(client: Wire) -> None:
    head = client.head("POST", "/Users", "Connection: close", f"Content-Length: {MAX_BODY + 5}")
    answer = client.raw(head + b" " * (MAX_BODY + 5))
    assert answer.startswith(b"HTTP/1.1 413 ")


# -- operations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1])
def test_the_operations_of_a_patch(client: Wire, more: int) -> None:
    user, group = client.user(name()), client.group(name())
    before = client.get(f"/Users/{user['id']}").raw, client.get(f"/Groups/{group['id']}").raw
    title = [{"op": "replace", "path": "title", "value": f"t{number}"} for number in range(MAX_OPERATIONS + more)]
    added = [{"op": "add", "path": "members", "value": [{"value": user["id"]}]}] * (MAX_OPERATIONS + more)
    answers = [client.patch(f"/Users/{user['id']}", *title), client.patch(f"/Groups/{group['id']}", *added)]
    assert [(got.status, complaint(got)) for got in answers] == [(413 if more else 200, None)] * 2
    after = client.get(f"/Users/{user['id']}").raw, client.get(f"/Groups/{group['id']}").raw
    if more:
        assert after == before
    else:
        assert json.loads(after[0])["title"] == f"t{MAX_OPERATIONS - 1}"
        assert client.members(group["id"]) == {user["id"]}


@pytest.mark.parametrize("more", [0, 1])
def test_the_operations_of_a_bulk_request(client: Wire, more: int) -> None:
    before = _directory(client)
    missing = [{"method": "DELETE", "path": f"/Users/{number}"} for number in range(MAX_OPERATIONS - 1 + more)]
    first = {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"schemas": [USER], "userName": name()}}
    got = client.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [first, *missing]})
    assert (got.status, complaint(got)) == (413 if more else 200, None)
    assert _directory(client) == [before[0] + (not more), before[1]]
    if not more:
        assert [one["status"] for one in got.json["Operations"]] == ["201", *["404"] * (MAX_OPERATIONS - 1)]


# -- members -----------------------------------------------------------------------------------------------------

Shape = Callable[[Wire, Any, list[dict[str, str]]], Got]


def _ids(number: int) -> list[dict[str, str]]:
    return [{"value": f"{one:08d}-0000-4000-8000-000000000000"} for one in range(number)]


def _patch(*operations: dict[str, Any]) -> Shape:
    """Return a PATCH with these operations, their lists of members filled."""

    def send(client: Wire, group: Any, listed: list[dict[str, str]]) -> Got:
        half = len(listed) // 2
        fills = {"all": listed, "first half": listed[:half], "second half": listed[half:]}
        filled = [
            {name: fills.get(one, one) if isinstance(one, str) else {"members": listed} if name == "value" else one
             for name, one in operation.items()}
            for operation in operations
        ]  # fmt: skip
        return client.patch(f"/Groups/{group['id']}", *filled)

    return send


def _put(client: Wire, group: Any, listed: list[dict[str, str]]) -> Got:
    body = {"schemas": [GROUP], "displayName": group["displayName"], "members": listed}
    return client.send("PUT", f"/Groups/{group['id']}", body)


def _put_below_its_schema(client: Wire, group: Any, listed: list[dict[str, str]]) -> Got:
    body = {"schemas": [GROUP], "displayName": group["displayName"], GROUP: {"members": listed}}
    return client.send("PUT", f"/Groups/{group['id']}", body)


def _bulk(client: Wire, group: Any, listed: list[dict[str, str]]) -> Got:
    half = len(listed) // 2
    operations = [
        {
            "method": "PATCH",
            "path": f"/Groups/{group['id']}",
            "data": {"schemas": [PATCH_OP], "Operations": [{"op": "add", "path": "members", "value": part}]},
        }
        for part in (listed[:half], listed[half:])
    ]
    return client.send("POST", "/Bulk", {"schemas": [BULK], "Operations": operations})


PURE: dict[str, Shape] = {
    "add": _patch({"op": "add", "path": "members", "value": "all"}),
    "replace": _patch({"op": "replace", "path": "members", "value": "all"}),
    "add twice": _patch(
        {"op": "add", "path": "members", "value": "first half"},
        {"op": "add", "path": "members", "value": "second half"},
    ),
    "add below a schema": _patch({"op": "add", "path": f"{GROUP}:members", "value": "all"}),
    "add without a path": _patch({"op": "add", "value": {}}),
    "PUT": _put,
    "bulk": _bulk,
}
TOLERATED: dict[str, Shape] = {
    "remove by a list": _patch({"op": "Remove", "path": "members", "value": "all"}),
    "PUT below a schema": _put_below_its_schema,
}


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(
    ("source", "shape"),
    [*(("okta", one) for one in PURE | TOLERATED), *(("exact", one) for one in ("add", "add without a path", "PUT"))],
)
def test_the_members_a_request_names(
    request: pytest.FixtureRequest, endpoint: Endpoint, source: str, shape: str, more: int
) -> None:
    """Whatever way they are named; ids of nobody count as well."""
    client: Wire = request.getfixturevalue(source)
    kept = client.user(name())
    group = client.group(name(), kept["id"])
    path = f"/Groups/{group['id']}"
    before = client.get(path)
    got = (PURE | TOLERATED)[shape](client, group, _ids(MAX_MEMBERS + more))
    assert got.status == 413 if more else got.status in (200, 204), got.raw[:500]
    assert complaint(got) is None
    if more:
        after = client.get(path)
        assert (after.raw, after.headers["etag"]) == (before.raw, before.headers["etag"])
    assert endpoint.said() == ""


def test_the_members_of_a_new_group(client: Wire) -> None:
    before = _directory(client)
    for more, status in ((0, 201), (1, 413)):
        body = {"schemas": [GROUP], "displayName": name(), "members": _ids(MAX_MEMBERS + more)}
        got = client.send("POST", "/Groups", body)
        assert (got.status, complaint(got)) == (status, None)
    assert _directory(client) == [before[0], before[1] + 1]


def test_values_of_other_lists_are_not_members(okta: Wire) -> None:
    """As many addresses as a body can hold are one user's own affair, and are found again."""
    entries = [{"value": f"{number}@example.com"} for number in range(2000)]
    user = okta.user(name(), emails=entries, **{ENTERPRISE: {"department": "d"}})
    assert okta.get(f"/Users/{user['id']}").json["emails"] == entries


# -- work --------------------------------------------------------------------------------------------------------

NEW_ENTRIES = MAX_OPERATIONS if FACTOR >= 20 else 300
"""Their cost grows with the square: as many as there may be takes most of a minute on a busy machine."""
_DEEP = f"emails[{'(' * 200_000}type pr{')' * 200_000}]"
COSTLY: dict[str, tuple[str, str, Any]] = {
    "many new entries": ("PATCH", "/Users/{id}", {"schemas": [PATCH_OP], "Operations": [
        {"op": "add", "path": f'emails[type eq "t{number}"].value', "value": "x"} for number in range(NEW_ENTRIES)
    ]}),
    "paths that are never closed": ("PATCH", "/Users/{id}", {"schemas": [PATCH_OP], "Operations": [
        {"op": "remove", "path": '"\\' * 2000} for _ in range(120)
    ]}),
    "an order that is deep": ("POST", "/Users/.search", {"sortBy": _DEEP}),
    "addresses by the thousand": ("POST", "/Users", {"userName": "many@example.com", "emails": [
        {"value": f"{number}@example.com"} for number in range(20_000)
    ]}),
}  # fmt: skip
SOON = 2.0
"""Seconds within which a request is nobody's trouble; one that takes longer must let others pass."""


@pytest.mark.parametrize("what", COSTLY)
def test_a_request_that_costs_much_does_not_keep_others_waiting(
    endpoint: Endpoint, okta: Wire, exact: Wire, what: str
) -> None:
    """Leavers of another source are answered while it is worked on, ten of them at least."""
    method, path, body = COSTLY[what]
    costly, leaver = okta.user(name()), exact.user(name())
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(okta.send, method, path.replace("{id}", costly["id"]), body)
        answered = 0
        while not working.done():
            toggled = exact.patch(
                f"/Users/{leaver['id']}", {"op": "replace", "path": "active", "value": answered % 2 == 1}
            )
            assert toggled.status == 200
            answered += not working.done()
    assert complaint(working.result()) is None
    assert answered >= 10 or time.monotonic() - began < SOON, answered
    assert endpoint.said() == ""
