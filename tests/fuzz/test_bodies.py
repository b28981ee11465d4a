"""Ten thousand bodies that are nearly what identity providers send: refused with a reason or understood, never more.

The material is every scripted session of a real provider and a few requests of our own. What is changed about a
request is thrown with the dice of its number alone.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER, Got
from vectors.replayer import FOLDER, sessions

from fuzz.answers import complaint
from fuzz.chance import REPLAY, dice, scaled
from fuzz.server import Endpoint, Wire
from fuzz.strangeness import MARKER, RAW, damaged, mutated, written

pytestmark = pytest.mark.timeout(scaled(120, 3600))
CASES = scaled(1200, 10_000)
GROWTH = 96 * 1024 * 1024
"""How much larger the process may become by it: answers that are kept, parser caches and what the allocator keeps."""
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
_VARIABLE = re.compile(r"\{\{\$?(\w+)(?:\|\w+)?\}\}")
_RESOURCE = re.compile(r"/(Users|Groups)/[^/?.]+")


@dataclass(frozen=True)
class Recorded:
    """A request with a body; `{id}` in its target stands for the resource it is about."""

    method: str
    target: str
    body: Any

    @property
    def place(self) -> str | None:
        """Return where its resource lives."""
        return self.target.split("/")[1] if "{id}" in self.target else None


def recorded() -> list[Recorded]:
    """Return each different request with a JSON body that a session holds; variables are filled with their names."""
    found: dict[str, Recorded] = {}
    for name in sessions():
        script = json.loads(_VARIABLE.sub(r"\1", (FOLDER / f"{name}.json").read_text("utf-8")))
        for step in script["steps"]:
            target = _RESOURCE.sub(r"/\1/{id}", step["path"])
            for body in step.get("bodies", [step.get("body")]):
                if isinstance(body, dict):
                    found[f"{step['method']} {target} {json.dumps(body)}"] = Recorded(step["method"], target, body)
    return [*found.values(), *OURS]


def _patch(*operations: Any) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(operations)}


OURS = [
    Recorded("POST", "/Users", {"schemas": [USER, ENTERPRISE], "userName": "ann@example.com", "active": True,
                                "emails": [{"value": "ann@example.com", "type": "work", "primary": True}],
                                "name": {"givenName": "Ann", "familyName": "É"}, "x509Certificates": [{"value": "AA=="}],
                                ENTERPRISE: {"department": "d", "manager": {"value": "x", "$ref": "../Users/x"}}}),
    Recorded("PATCH", "/Users/{id}", _patch({"op": "add", "value": {f"{ENTERPRISE}:manager": "x", "title": "t",
                                             "name.givenName": "g", 'emails[type eq "work"].value': "w@example.com"}})),
    Recorded("PATCH", "/Users/{id}", _patch({"op": "replace", "path": 'emails[type eq "work" and primary eq true]',
                                             "value": {"value": "w@example.com", "type": "work", "primary": True}})),
    Recorded("PATCH", "/Groups/{id}", _patch({"op": "add", "path": "members", "value": [{"value": "nobody"}]},
                                             {"op": "remove", "path": 'members[value eq "nobody"]'},
                                             {"op": "replace", "path": "displayName", "value": "Admins"})),
    Recorded("POST", "/Bulk", {"schemas": [BULK], "failOnErrors": 3, "Operations": [
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": {"schemas": [USER], "userName": "bulk@example.com"}},
        {"method": "POST", "path": "/Groups", "bulkId": "g",
         "data": {"schemas": [GROUP], "displayName": "Bulk", "members": [{"value": "bulkId:u"}]}},
        {"method": "PATCH", "path": "/Users/bulkId:u", "data": _patch({"op": "replace", "value": {"active": False}})},
        {"method": "DELETE", "path": "/Users/bulkId:u"}]}),
    Recorded("POST", "/Users/.search", {"schemas": [SEARCH], "filter": 'userName eq "ann@example.com"', "count": 5,
                                        "attributes": ["userName"], "sortBy": "userName", "sortOrder": "ascending"}),
    Recorded("POST", "/.search", {"schemas": [SEARCH], "filter": "displayName pr", "startIndex": 1, "count": 5,
                                  "excludedAttributes": ["members"]}),
]  # fmt: skip


@dataclass
class Target:
    """The directory of one source as the attack sees it: one user and one group that are there, and their state."""

    client: Wire
    ids: dict[str, str] = field(default_factory=dict)

    def path(self, record: Recorded) -> str:
        """Return the target of a request with an id that exists."""
        if record.place is None:
            return record.target
        one = self.ids.get(record.place)
        if one is None or self.client.get(f"/{record.place}/{one}").status != 200:
            one = self._made(record.place)
        return record.target.replace("{id}", one)

    def _made(self, place: str) -> str:
        name = f"prey-{uuid.uuid4()}"
        made = self.client.user(name, externalId=name) if place == "Users" else self.client.group(name)
        self.ids[place] = str(made["id"])
        return self.ids[place]

    def state(self, record: Recorded) -> tuple[object, ...]:
        """Return what a refused request must leave as it was: its resource with its version, and how many there are."""
        totals = tuple(self.client.get(f"/{place}?count=0").json["totalResults"] for place in ("Users", "Groups"))
        if record.place is None:
            return totals
        got = self.client.get(f"/{record.place}/{self.ids[record.place]}")
        return (*totals, got.status, got.raw, got.headers.get("etag"))


def _body(rng: Random, document: Any) -> bytes:
    """Return a body in which something is wrong: in its tree mostly, else in its bytes, or in both."""
    kind = rng.random()
    raw = written(mutated(rng, document) if kind < 0.8 else document, rng)
    return damaged(rng, raw) if kind > 0.65 else raw


_HEADERS: tuple[Mapping[str, str | None], ...] = (
    {"Content-Type": None}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/scim+json;" * 100}, {"Content-Type": "a/b\xff"}, {"Content-Encoding": "gzip"},
    {"If-Match": 'W/"99"'}, {"If-Match": "*"}, {"If-Match": ","}, {"If-None-Match": "*"}, {"If-Match": "\xff" * 2000},
    {"Accept": "text/html"}, {"Content-Type": "multipart/form-data; boundary=x"}, {"X-HTTP-Method-Override": "DELETE"},
)  # fmt: skip


def _attack(number: int, records: list[Recorded], target: Target) -> tuple[Got, dict[str, str]]:
    """Send one malformed request and return the answer, and what is wrong about it with all that shows it."""
    rng = dice("body", number)
    record = rng.choice(records)
    path, before = target.path(record), target.state(record)
    body = _body(rng, record.body)
    headers = rng.choice(_HEADERS) if rng.random() < 0.1 else {}
    got = target.client.send(record.method, path, body, headers)
    wrong = complaint(got)
    if wrong is None and got.status >= 400 and target.state(record) != before:
        wrong = f"it was refused with {got.status} and changed something"
    sent = f"case {number}: {record.method} {record.target} {dict(headers)} {body[:1000]!r}"
    return got, {wrong: f"{sent}\n    answered {got.status} {got.raw[:400]!r}"} if wrong else {}


def test_a_malformed_body_is_refused_with_a_reason_and_changes_nothing(
    endpoint: Endpoint, okta: Wire, exact: Wire
) -> None:
    records = recorded()
    assert len(records) > 60
    targets = (Target(okta), Target(okta), Target(exact))
    seen: Counter[int] = Counter()
    wrong: dict[str, str] = {}
    warm = 0
    for number in range(CASES):
        got, complaints = _attack(number, records, targets[number % 3])
        seen[got.status] += 1
        wrong |= complaints
        if number == CASES // 4:
            warm = endpoint.memory()
        if number % 200 == 0:
            assert okta.user(f"still-here-{number}")["active"] is True
    assert not wrong, "\n".join([REPLAY, *(f"{what}: {shown}" for what, shown in wrong.items())])
    assert seen[400] > CASES // 4, seen  # it was malformed
    assert sum(count for status, count in seen.items() if status < 300) > CASES // 20, seen  # and not all of it noise
    assert endpoint.memory() - warm < GROWTH
    assert endpoint.said() == ""


SHAPES: list[tuple[str, Any]] = [
    ("/Users", {"userName": "raw", "title": "?"}),
    ("/Groups", {"displayName": "?"}),
    ("/Groups", {"displayName": "raw", "members": [{"value": "?"}]}),
    ("/Users/.search", {"filter": "?"}),
    ("/Bulk", {"Operations": [{"method": "POST", "path": "/Users", "data": {"userName": "?"}}]}),
    ("/Users/{id}", _patch({"op": "replace", "path": "title", "value": "?"})),
    ("/Users/{id}", _patch({"op": "replace", "path": "active", "value": "?"})),
    ("/Users/{id}", _patch({"op": "replace", "value": {"emails": [{"type": "?"}]}})),
    ("/Groups/{id}", _patch({"op": "add", "path": "members", "value": [{"value": "?"}]})),
    ("/Groups/{id}", _patch({"op": "replace", "path": "externalId", "value": "?"})),
]


@pytest.mark.parametrize("what", [what for what in RAW if what != "thirty levels"])
def test_json_that_no_encoder_writes_is_refused_in_every_place(okta: Wire, exact: Wire, what: str) -> None:
    """The places are those of requests that take a short cut, and of others."""
    marker = MARKER.format(what)
    for client in (okta, exact):
        target = Target(client)
        for place, document in SHAPES:
            method = "PATCH" if "{id}" in place else "POST"
            record = Recorded(method, place, json.loads(json.dumps(document).replace("?", marker)))
            path, before = target.path(record), target.state(record)
            got = client.send(method, path, written(record.body, dice(what)))
            assert (got.status, complaint(got)) == (400, None), (place, got.raw)
            assert target.state(record) == before


REFUSED: dict[str, tuple[str, str, Any]] = {
    "a bulk operation that is none": ("POST", "/Bulk", {"schemas": [BULK], "Operations": [["x"], 5, {}, None]}),
    "a bulk operation with another's data": ("POST", "/Bulk", {"schemas": [BULK], "Operations": [
        {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"emails": 5}},
        {"method": "PUT", "path": "/Users/x", "data": {"userName": "x", "name": "x"}},
        {"method": "PATCH", "path": "/Groups/x", "data": {"Operations": [{"op": "add", "path": "members", "value": 5}]}},
    ]}),
    "a bulk request that is none": ("POST", "/Bulk", {"schemas": [BULK], "Operations": {"a": 1}, "failOnErrors": "x"}),
    "a user of other types": ("POST", "/Users", {"userName": 5, "emails": [5], "name": [], "active": 3, "meta": 5}),
    "a group of other types": ("POST", "/Groups", {"displayName": {"a": 1}, "members": {"a": 1}}),
    "a search of other types": ("POST", "/Users/.search", {"schemas": 5, "count": "x", "attributes": 5, "sortBy": []}),
    "a search by two kinds": ("POST", "/.search", {"filter": {"a": 1}, "sortOrder": "up", "startIndex": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_names_nothing_of_ours(okta: Wire, exact: Wire, what: str) -> None:
    method, path, body = REFUSED[what]
    for client in (okta, exact):
        got = client.send(method, path, body)
        assert got.status == 400 or b"BulkResponse" in got.raw
        assert complaint(got) is None, got.raw
