"""What a client names stays a name: ids of others are unknown, ids of ours are ours, bytes break no header or line."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, PREFIX, USER, Client, Got, request
from support.waiting import until

from idsync.store.db import Db

from .program import Program
from .wire import Wire

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z")


def name() -> str:
    return f"border-{uuid.uuid4().hex[:12]}@example.com"


def operations(*several: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(several)}


# -- S9: another source's records ---------------------------------------------------------------------------------------

INACTIVE = operations({"op": "replace", "path": "active", "value": False})
TITLED = operations({"op": "replace", "path": "title", "value": "taken over"})
RENAMED = operations({"op": "replace", "path": "displayName", "value": "taken over"})
EMPTIED = operations({"op": "replace", "path": "members", "value": []})
ADDED = operations({"op": "add", "path": "members", "value": [{"value": "USER"}, {"value": "GROUP"}]})
LISTED = operations({"op": "remove", "path": "members", "value": [{"value": "USER"}]})
FILTERED = operations({"op": "remove", "path": 'members[value eq "USER"]'})
MEMBERS = [{"value": "USER"}, {"value": "GROUP", "type": "Group"}]
FILTERS = [
    ("Users", 'id eq "USER"'),
    ("Users", 'id co "USER"'),
    ("Users", 'id eq "USER" or id eq "GROUP"'),
    ("Users", 'userName eq "THEIRS"'),
    ("Users", 'userName sw "THEIRS" and active eq true'),
    ("Users", 'externalId eq "THEIRS"'),
    ("Users", 'emails.value eq "THEIRS"'),
    ("Users", 'emails[value eq "THEIRS"]'),
    ("Users", 'groups.value eq "GROUP"'),
    ("Users", 'not (id ne "USER")'),
    ("Users", 'meta.location ew "USER"'),
    ("Groups", 'id eq "GROUP"'),
    ("Groups", 'displayName eq "THEIRS"'),
    ("Groups", 'externalId eq "THEIRS"'),
    ("Groups", 'members.value eq "USER"'),
    ("Groups", 'members[value eq "USER" and type eq "User"]'),
    ("Groups", 'members[value co "USER"]'),
]
VERBS: list[tuple[str, str, Any]] = [
    ("GET", "/Users/USER", None),
    ("GET", "/Users/USER?attributes=userName", None),
    ("GET", "/Users/USER?attributes=name.givenName", None),
    ("PUT", "/Users/USER", {"schemas": [USER], "userName": "taken over", "active": False}),
    ("PATCH", "/Users/USER", INACTIVE),
    ("PATCH", "/Users/USER", TITLED),
    ("PATCH", "/Users/USER?attributes=title", INACTIVE),
    ("PATCH", "/Users/USER", operations()),
    ("DELETE", "/Users/USER", None),
    ("GET", "/Groups/USER", None),
    ("DELETE", "/Groups/USER", None),
    ("GET", "/Groups/GROUP", None),
    ("GET", "/Groups/GROUP?excludedAttributes=members", None),
    ("PUT", "/Groups/GROUP", {"schemas": [GROUP], "displayName": "taken over", "members": []}),
    ("PATCH", "/Groups/GROUP", RENAMED),
    ("PATCH", "/Groups/GROUP", EMPTIED),
    ("PATCH", "/Groups/GROUP", LISTED),
    ("PATCH", "/Groups/GROUP", FILTERED),
    ("DELETE", "/Groups/GROUP", None),
    # their ids inside what is the caller's own
    ("POST", "/Groups", {"schemas": [GROUP], "displayName": "NEW", "members": MEMBERS}),
    ("PUT", "/Groups/OWN", {"schemas": [GROUP], "displayName": "OWN", "members": MEMBERS}),
    ("PATCH", "/Groups/OWN", ADDED),
    ("GET", "/Groups/OWN", None),
    ("PATCH", "/Groups/OWN", LISTED),
    ("PATCH", "/Groups/OWN", FILTERED),
    ("PATCH", "/Groups/OWN?attributes=members", ADDED),
    ("POST", "/Users", {"schemas": [USER, ENTERPRISE], "userName": "NEW", ENTERPRISE: {"manager": {"value": "USER"}}}),
    ("POST", "/Users", {"schemas": [USER], "userName": "NEW", "groups": [{"value": "GROUP"}]}),
    *(
        ("POST", "/Bulk", {"schemas": [BULK], "Operations": [{"method": method, "path": path, "data": data}]})
        for method, path, data in (
            ("PUT", "/Users/USER", {"schemas": [USER], "userName": "taken over"}),
            ("PATCH", "/Users/USER", INACTIVE),
            ("PATCH", "/Groups/GROUP", EMPTIED),
            ("PATCH", "/Groups/OWN", ADDED),
            ("DELETE", "/Users/USER", None),
            ("DELETE", "/Groups/GROUP", None),
        )
    ),
    *(("GET", f"/{kind}?filter={quote(text)}", None) for kind, text in FILTERS),
    *(("POST", f"/{kind}/.search", {"schemas": [SEARCH], "filter": text}) for kind, text in FILTERS),
    ("POST", "/.search", {"schemas": [SEARCH], "filter": 'id eq "USER" or id eq "GROUP"'}),
]


def told(client: Client, verb: tuple[str, str, Any], names: dict[str, str]) -> tuple[int, str, list[str]]:
    """Send a request with these names in it; return the answer with every id, time and such name blotted out."""
    method, path, body = verb
    text = json.dumps(body)
    for placeholder, value in names.items():
        path, text = path.replace(placeholder, value), text.replace(placeholder, value)
    got = client.send(method, path, None if body is None else text.encode())
    answer = got.raw.decode()
    for value in names.values():
        answer = answer.replace(value, "-")
    return got.status, MOMENT.sub("-", UUID.sub("-", answer)), sorted(got.headers.keys() - {"content-length", "date"})


def everything_of(db: Db, source: str) -> list[list[tuple[Any, ...]]]:
    """Return every row a source has in the directory."""
    tables = (
        "SELECT * FROM users WHERE source = :source ORDER BY id",
        "SELECT * FROM groups WHERE source = :source ORDER BY id",
        "SELECT m.* FROM memberships m JOIN groups g ON g.id = m.group_id WHERE g.source = :source ORDER BY 1, 2",
        "SELECT * FROM pending_members WHERE source = :source ORDER BY group_id, value",
    )
    return [[tuple(row) for row in db.all(table, source=source)] for table in tables]


@pytest.mark.parametrize("caller", ["okta", "exact"])
def test_records_of_another_source_are_answered_like_ids_that_never_were(
    program: Program, entra: Client, caller: str
) -> None:
    client = program.client(caller)
    theirs = name()
    user = entra.user(theirs, externalId=theirs, emails=[{"value": theirs, "primary": True}])
    group = entra.group(theirs, user["id"])
    assert entra.patch(f"/Groups/{group['id']}", {"op": "add", "path": "externalId", "value": theirs}).status == 200
    with program.store() as db:
        before = everything_of(db, "entra")
    own = [client.group(name()) for _ in range(2)]
    for verb in VERBS:
        foreign = {"USER": user["id"], "GROUP": group["id"], "THEIRS": theirs, "OWN": own[0]["id"], "NEW": name()}
        unknown = {"USER": str(uuid.uuid4()), "GROUP": str(uuid.uuid4()), "THEIRS": name(), "OWN": own[1]["id"],
                   "NEW": name()}  # fmt: skip
        assert told(client, verb, foreign) == told(client, verb, unknown), verb
    with program.store() as db:
        assert everything_of(db, "entra") == before
        seen = "".join(map(str, everything_of(db, caller)[:3]))
    assert group["id"] not in seen
    assert client.get("/?count=200").raw.decode().count(theirs) == 0


# -- S10: ids a client would like to have ---------------------------------------------------------------------------------


def made(got: Got) -> Any:
    assert got.status == 201, got.raw
    return got.json


@pytest.mark.parametrize("kind", ["Users", "Groups"])
def test_an_id_is_minted_here_whatever_a_client_sends(okta: Client, entra: Client, kind: str) -> None:
    """Numbers, and the ids of records of one's own and of another source, are external ids and nothing more."""
    attribute, schema = {"Users": ("userName", USER), "Groups": ("displayName", GROUP)}[kind]

    def resource(**more: Any) -> dict[str, Any]:
        return {"schemas": [schema], attribute: name(), **more}

    mine = made(okta.send("POST", f"/{kind}", resource()))
    theirs = made(entra.send("POST", f"/{kind}", resource()))
    ids = {mine["id"], theirs["id"]}
    for wanted in ("1", "0", "-1", "admin", "../1", mine["id"], theirs["id"], mine["id"].upper(), str(uuid.uuid4())):
        for body in (resource(externalId=wanted), resource(id=wanted), resource(ID=wanted, externalId=wanted),
                     resource(id=wanted, meta={"location": f"/{kind}/{wanted}", "version": 'W/"9"'})):  # fmt: skip
            fresh = made(okta.send("POST", f"/{kind}", body))
            assert uuid.UUID(fresh["id"]).version == 4
            assert fresh["id"] not in ids
            assert fresh["meta"]["version"] == 'W/"1"'
            ids.add(fresh["id"])
            moved = okta.send("PUT", f"/{kind}/{fresh['id']}", {**body, "id": wanted, "externalId": wanted})
            assert moved.status in (200, 400)
            assert okta.get(f"/{kind}/{fresh['id']}").json["id"] == fresh["id"]
        in_bulk = {"method": "POST", "path": f"/{kind}", "bulkId": wanted, "data": resource(id=wanted)}
        answer = okta.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [in_bulk]}).json["Operations"][0]
        assert answer["status"] == "201"
        found = answer["location"].rpartition("/")[2]
        assert found not in ids
        ids.add(found)
    for client, one in ((okta, mine), (entra, theirs)):
        assert client.get(f"/{kind}/{one['id']}").json == one


# -- D8: what a database would choke on -----------------------------------------------------------------------------------

POISON = {"NUL": "\\u0000", "half a surrogate pair": "\\ud800", "the other half": "x\\udfffy"}
"""As they are written in JSON, and in a filter, whose texts are JSON too."""


@pytest.mark.parametrize("what", POISON)
@pytest.mark.parametrize("source", ["okta", "exact"])
def test_a_text_no_database_takes_is_refused_wherever_it_stands(program: Program, source: str, what: str) -> None:
    """In a body and in the filters of a query, a search and a path alike: always 400, and always the client's fault."""
    client, poison = program.client(source), POISON[what]
    user, group = client.user(name()), client.group(name())
    paths = (f"/Users/{user['id']}", f"/Groups/{group['id']}")
    answers: dict[str, int] = {}
    for body in (
        f'{{"schemas": ["{USER}"], "userName": "{poison}"}}',
        f'{{"schemas": ["{USER}"], "userName": "x", "name": {{"givenName": "{poison}"}}}}',
        f'{{"schemas": ["{USER}"], "userName": "x", "{poison}": 1}}',
    ):
        answers[f"POST {body}"] = client.send("POST", "/Users", body.encode()).status
        answers[f"PUT {body}"] = client.send("PUT", paths[0], body.encode()).status
    for kind, text in (
        ("Users", f'userName eq "{poison}"'),
        ("Users", f'externalId eq "{poison}"'),
        ("Users", f'id co "{poison}"'),
        ("Users", f'emails[value eq "{poison}"]'),
        ("Users", f'title eq "x" or title sw "{poison}"'),
        ("Groups", f'displayName eq "{poison}"'),
        ("Groups", f'members.value eq "{poison}"'),
    ):
        answers[f"GET {text}"] = client.get(f"/{kind}?filter={quote(text)}").status
        search = {"schemas": [SEARCH], "filter": text}
        answers[f"search {text}"] = client.send("POST", f"/{kind}/.search", search).status
    for path, op, inner in (
        (paths[1], "remove", f'members[value eq "{poison}"]'),
        (paths[0], "remove", f'emails[value eq "{poison}"]'),
        (paths[0], "add", f'phoneNumbers[type eq "{poison}"].value'),
    ):
        operation = {"op": op, "path": inner, **({"value": "1"} if op == "add" else {})}
        answers[f"PATCH {inner}"] = client.patch(path, operation).status
        in_bulk = {"method": "PATCH", "path": path, "data": operations(operation)}
        bulk = client.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [in_bulk]})
        answers[f"bulk {inner}"] = int(bulk.json["Operations"][0]["status"]) if bulk.status == 200 else bulk.status
    assert {request: status for request, status in answers.items() if status != 400} == {}


@pytest.mark.parametrize("source", ["okta", "exact"])
def test_numbers_of_64_bits_are_never_an_accident(program: Program, source: str) -> None:
    client = program.client(source)
    user = client.user(name())
    for number in (2**63, -(2**63) - 1, 10**400):
        asked = [client.get(f"/Users?startIndex={number}"), client.get(f"/Users?count={number}")]
        asked += [client.get(f"/Users?filter={quote(f'{path} {operator} {number}')}")
                  for path in ("title", "id", "meta.created", "active", "emails.value") for operator in ("eq", "gt")]  # fmt: skip
        assert {got.status for got in asked} <= {200, 400}
        assert client.patch(f"/Users/{user['id']}", {"op": "add", "path": "title", "value": number}).status == 400
        assert client.send("POST", "/Users/.search", {"schemas": [SEARCH], "startIndex": number}).status == 400


# -- S16: line breaks and terminal codes ------------------------------------------------------------------------------------

EVIL = "a\r\nX-Injected: yes\r\n\r\n\x1b[31mred\x1b[2J\x9b0m\u2028\u2029\x7f\x08"
CODED = quote(EVIL)
HEADERS = {"content-type", "content-length", "content-location", "location", "etag", "allow", "www-authenticate",
           "retry-after", "connection"}  # fmt: skip
"""All that the endpoint ever sends."""


def evil_requests(user_id: str, group_id: str) -> list[tuple[str, str, Any]]:
    """Put it into every name, path, id and query."""
    member = {"value": EVIL, "display": EVIL}
    return [
        ("POST", "/Users", {"schemas": [USER], "userName": f"{name()}{EVIL}", "externalId": EVIL, "displayName": EVIL}),
        ("POST", "/Users", {"schemas": [USER, EVIL], "userName": name(), EVIL: {EVIL: EVIL}}),
        ("POST", "/Groups", {"schemas": [GROUP], "displayName": f"{name()}{EVIL}", "members": [member]}),
        ("PUT", f"/Users/{user_id}", {"schemas": [USER], "userName": f"{name()}{EVIL}", "title": EVIL, EVIL: EVIL}),
        ("PATCH", f"/Users/{user_id}", operations({"op": "replace", "path": "title", "value": EVIL})),
        ("PATCH", f"/Users/{user_id}", operations({"op": "replace", "path": EVIL, "value": EVIL})),
        ("PATCH", f"/Users/{user_id}", operations({"op": EVIL, "path": "title", "value": EVIL})),
        ("PATCH", f"/Users/{user_id}", operations({"op": "replace", "value": {EVIL: EVIL, "title": "x"}})),
        ("PATCH", f"/Groups/{group_id}", operations({"op": "add", "path": "members", "value": [member]})),
        ("PATCH", f"/Groups/{group_id}", operations({"op": "remove", "path": f"members[value eq {json.dumps(EVIL)}]"})),
        ("PATCH", f"/Groups/{group_id}", operations({"op": "replace", "path": "displayName", "value": name() + EVIL})),
        ("GET", f"/Users/{CODED}", None),
        ("PUT", f"/Users/{CODED}", {"schemas": [USER], "userName": name()}),
        ("DELETE", f"/Groups/{CODED}", None),
        ("GET", f"/{CODED}", None),
        ("POST", f"/Users{CODED}", {"schemas": [USER], "userName": name()}),
        ("GET", f"/Schemas/{CODED}", None),
        ("GET", f"/Users?filter=userName+eq+%22{CODED}%22", None),
        ("GET", f"/Users?sortBy={CODED}&sortOrder={CODED}", None),
        ("GET", f"/Users?attributes={CODED}&count={CODED}", None),
        ("GET", f"/Users?{CODED}={CODED}", None),
        ("POST", "/Bulk", {"schemas": [BULK], "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": EVIL, "data": {"userName": name() + EVIL}},
            {"method": "PATCH", "path": f"/Users/{EVIL}", "bulkId": EVIL, "data": operations()},
            {"method": EVIL, "path": EVIL},
        ]}),
        ("DELETE", f"/Users/{user_id}", None),
    ]  # fmt: skip


def test_no_name_breaks_a_header_or_a_line_of_the_log(program: Program, okta: Client) -> None:
    """What is kept is told again as it was sent, in JSON; what is logged is one line each."""
    said_before = len(program.daemon.said())
    user, group = okta.user(name()), okta.group(name())
    kept = 0
    with Wire(program.port) as wire:
        for method, path, body in evil_requests(user["id"], group["id"]):
            raw = b"" if body is None else json.dumps(body).encode()
            got = wire.ask(request(method, PREFIX + path, f"Authorization: Bearer {okta.token}",
                                   f"Content-Length: {len(raw)}", body=raw))  # fmt: skip
            assert got.names <= HEADERS, (method, path)
            assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\xff]", got.head), (method, path)
            assert not re.search(rb"[\x00-\x1f]", got.body), (method, path)
            if got.body:
                kept += json.dumps(json.loads(got.body)).count(json.dumps(EVIL)[1:-1])
    assert kept > 5, "it is told again, so it was really sent"
    until(lambda: log_of(program, said_before), "the log tells of attributes it does not know")
    for line in log_of(program, said_before):
        assert isinstance(json.loads(line), dict), line
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", line), line
    unknown = [line for line in log_of(program, said_before) if "scim_unknown_attributes" in line]
    assert any("X-Injected" in line for line in unknown), "the evil name is logged, so it was really there"
    metrics = program.page("/metrics", operations=True)[1]
    assert "X-Injected" not in metrics


def log_of(program: Program, since: int) -> list[str]:
    """Return what was logged since then, split at line feeds alone; the last, open line is left out."""
    return program.daemon.said()[since:].split("\n")[:-1]
