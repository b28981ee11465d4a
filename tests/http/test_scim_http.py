"""HTTP as RFC 7644 §3 wants it, and requests nobody should be able to hurt with."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from typing import Any

import pytest
from support.endpoint import GROUP, USER, Client, Served, serving

from idsync.errors import StoreError
from idsync.intake import Intake
from idsync.model import Origin, User
from idsync.store.db import Db
from idsync.web.auth import ScimSource


def name() -> str:
    return f"http-{uuid.uuid4().hex[:10]}"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/Users", "GET, POST"),
        ("DELETE", "/Groups", "GET, POST"),
        ("POST", "/Users/x", "DELETE, GET, PATCH, PUT"),
        ("GET", "/Bulk", "POST"),
        ("DELETE", "/Schemas", "GET"),
        ("POST", "/ServiceProviderConfig", "GET"),
        ("OPTIONS", "/Users", "GET, POST"),
        ("PROPFIND", "/Users", "GET, POST"),
    ],
)
def test_a_method_that_is_not_served(okta: Client, method: str, path: str, allow: str) -> None:
    got = okta.send(method, path)
    assert got.is_scim_error(405)
    assert got.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/nothing", "/Users/a/b", "/Users/a/b/c", "/Schemas/nothing", "/Users/nobody"])
def test_a_path_that_is_not_there(okta: Client, path: str) -> None:
    assert okta.get(path).is_scim_error(404)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
def test_me_is_not_implemented(okta: Client, method: str) -> None:
    assert okta.send(method, "/Me", {} if method in ("PUT", "PATCH", "POST") else None).is_scim_error(501)


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/scim+json", 201),
        ("application/scim+json; charset=utf-8", 201),
        ('Application/JSON;charset="UTF-8"', 201),
        (None, 201),
        ("text/plain", 415),
        ("application/xml", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-16", 415),
        ("application/jsonx", 415),
    ],
)
def test_media_types(okta: Client, media_type: str | None, status: int) -> None:
    body = json.dumps({"userName": name()}).encode()
    got = okta.send("POST", "/Users", body, {"Content-Type": media_type})
    assert got.status == status
    assert got.headers["content-type"] == "application/scim+json"


HOSTILE = {
    "not JSON": b"{",
    "nothing": b"",
    "a list": b"[]",
    "a text": b'"x"',
    "a name twice": b'{"userName":"a","userName":"b"}',
    "a name twice, in another case": b'{"userName":"a","active":true,"Active":false}',
    "NaN": b'{"userName":"a","title":NaN}',
    "Infinity": b'{"userName":"a","title":-Infinity}',
    "a huge number": b'{"userName":"a","x":1e999}',
    "64 bits": b'{"userName":"a","x":9223372036854775808}',
    "five thousand digits": b'{"userName":"a","x":' + b"9" * 5000 + b"}",
    "NUL": b'{"userName":"a\\u0000"}',
    "NUL in a name": b'{"userName":"a","x\\u0000":1}',
    "half a surrogate pair": b'{"userName":"a\\ud800"}',
    "not UTF-8": b'{"userName":"a\xff"}',
    "UTF-16": '{"userName":"a"}'.encode("utf-16"),
    "a byte order mark": '\ufeff{"userName":"a"}'.encode(),
    "33 levels": b'{"userName":"a","x":' + b"[" * 33 + b"1" + b"]" * 33 + b"}",
    "a hundred thousand levels": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_json_is_a_syntax_error(okta: Client, what: str) -> None:
    user = okta.user(name())
    for method, path in (("POST", "/Users"), ("PUT", f"/Users/{user['id']}"), ("POST", "/Users/.search")):
        assert okta.send(method, path, HOSTILE[what]).is_scim_error(400, "invalidSyntax")
    assert okta.send("PATCH", f"/Users/{user['id']}", HOSTILE[what]).status == 400
    assert okta.send("POST", "/Bulk", HOSTILE[what]).status == 400


@pytest.mark.parametrize("source", ["okta", "exact"])
@pytest.mark.parametrize("body", [b'{"userName":5}', b'{"userName":["a"]}', b'{"userName":"a","emails":5}', b"{}"])
def test_a_value_of_another_type_is_refused(request: pytest.FixtureRequest, source: str, body: bytes) -> None:
    client: Client = request.getfixturevalue(source)
    got = client.send("POST", "/Users", body)
    assert got.status == 400
    assert got.json["scimType"] == "invalidValue"


@pytest.mark.parametrize("where", ["/Users/x%0d%0aX-Injected:%20yes", "/x%0d%0aX-Injected:%20yes", "/Users/%00"])
def test_a_path_cannot_write_headers(okta: Client, where: str) -> None:
    got = okta.get(where)
    assert got.is_scim_error(404)
    assert "x-injected" not in got.headers


def test_a_name_cannot_write_headers(okta: Client) -> None:
    user = okta.user(f"{name()}\r\nX-Injected: yes")
    assert "x-injected" not in okta.get(f"/Users/{user['id']}").headers


def test_locations_are_published_ones_whatever_host_was_asked(okta: Client, served: Served) -> None:
    got = okta.send(
        "POST", "/Users", {"userName": name()}, {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    )
    assert got.headers["location"] == got.json["meta"]["location"] == f"{served.base}/Users/{got.json['id']}"
    for path in ("/Schemas", "/ResourceTypes", "/ServiceProviderConfig"):
        assert b"evil.example" not in okta.send("GET", path, headers={"Host": "evil.example"}).raw


def test_a_body_that_is_declared_too_large(okta: Client) -> None:
    assert okta.send("POST", "/Users", b"{" + b" " * 1024 * 1024 + b"}").is_scim_error(413)


def test_a_body_that_turns_out_too_large(okta: Client) -> None:
    head = okta.head("POST", "/Users", "Transfer-Encoding: chunked", "Connection: close")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = okta.raw(head + chunk * 17 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    with serving(tmp_path, ScimSource("slow"), body_seconds=0.2) as running:
        client = running.clients["slow"]
        answer = client.raw(client.head("POST", "/Users", "Content-Length: 100") + b'{"user')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"status": "408"' in answer


LONG = "".join(Random(1).choices(ascii_letters + digits, k=2001))
"""What no index of PostgreSQL could hold, were it a little longer: random, so that it does not get shorter when packed."""
TOO_LONG: dict[str, tuple[str, dict[str, Any]]] = {
    "userName": ("/Users", {"userName": LONG}),
    "userName, longer in lower case": ("/Users", {"userName": "\u1e9e" * 700}),
    "externalId": ("/Users", {"userName": "x", "externalId": LONG}),
    "an address": ("/Users", {"userName": "x", "emails": [{"value": LONG}]}),
    "displayName of a group": ("/Groups", {"displayName": LONG}),
    "externalId of a group": ("/Groups", {"displayName": "x", "externalId": LONG}),
    "a member": ("/Groups", {"displayName": "x", "members": [{"value": LONG}]}),
}


@pytest.mark.parametrize(("path", "document"), TOO_LONG.values(), ids=list(TOO_LONG))
def test_what_a_record_is_found_by_has_a_limit_on_every_store(okta: Client, path: str, document: Any) -> None:
    schema = USER if path == "/Users" else GROUP
    got = okta.send("POST", path, {"schemas": [schema], **document})
    assert got.is_scim_error(400, "invalidValue")
    assert "at most 2000 bytes" in got.json["detail"]


def test_a_member_that_is_too_long_is_refused_in_a_patch(okta: Client) -> None:
    group = okta.group(name())
    for op in ("add", "replace"):
        got = okta.patch(f"/Groups/{group['id']}", {"op": op, "path": "members", "value": [{"value": LONG}]})
        assert got.is_scim_error(400, "invalidValue")


def test_names_up_to_the_limit_are_taken(okta: Client) -> None:
    shorter = f"{name()}{LONG}"[:2000]
    user = okta.user(shorter, externalId=shorter, emails=[{"value": shorter}])
    assert okta.group(shorter, user["id"])["displayName"] == shorter
    assert okta.send("DELETE", f"/Users/{user['id']}").status == 204


def test_a_store_that_refuses_is_503_and_an_accident_500(served: Served, okta: Client) -> None:
    user = okta.user(name())

    class Broken(Intake):
        def __init__(self, error: Exception) -> None:
            self.error = error

        def delete_user(self, db: Db, user: User, origin: Origin) -> None:
            db.execute("DELETE FROM users")
            raise self.error

    intake = served.app._intake
    try:
        served.app._intake = Broken(StoreError("disk full at /secret/path"))
        full = okta.send("DELETE", f"/Users/{user['id']}")
        served.app._intake = Broken(RuntimeError("secret"))
        broken = okta.send("DELETE", f"/Users/{user['id']}")
    finally:
        served.app._intake = intake
    assert full.is_scim_error(503)
    assert full.headers["retry-after"] == "5"
    assert broken.is_scim_error(500)
    assert b"secret" not in full.raw + broken.raw
    assert okta.get(f"/Users/{user['id']}").status == 200


def test_every_request_is_counted_with_bounded_labels(served: Served, okta: Client) -> None:
    served.counted.clear()
    okta.get("/Users/nobody")
    okta.send("PROPFIND", "/anything/at/all")
    assert [seen[:3] for seen in served.counted] == [("GET", "Users", 404), ("OTHER", "other", 404)]


def test_what_is_announced(okta: Client) -> None:
    config = okta.get("/ServiceProviderConfig").json
    supported = {key: config[key]["supported"] for key in ("patch", "bulk", "filter", "sort", "etag", "changePassword")}
    assert supported == {
        "patch": True,
        "bulk": True,
        "filter": True,
        "sort": True,
        "etag": True,
        "changePassword": False,
    }
    assert config["authenticationSchemes"][0]["type"] == "oauthbearertoken"
    schemas = {one["id"]: one for one in okta.get("/Schemas").json["Resources"]}
    assert len(schemas) == 3
    assert b'"password"' not in okta.get("/Schemas").raw


def test_a_password_is_never_kept_or_answered(served: Served, okta: Client) -> None:
    secret = uuid.uuid4().hex
    user = okta.user(name(), password=secret)
    answers = [
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": {"password": secret}}),
        okta.patch(f"/Users/{user['id']}", {"op": "Replace", "path": "Password", "value": secret}),
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": {"title": "x", "PASSWORD": secret}}),
        okta.send("PUT", f"/Users/{user['id']}", {**user, "password": secret}),
        okta.get(f"/Users/{user['id']}"),
    ]
    assert {got.status for got in answers} == {200}
    assert all(secret.encode() not in got.raw for got in answers)
    assert "password" not in user
    reader = served.store.reader()
    kept = [row["doc"] for row in reader.all("SELECT doc FROM users WHERE id = :id", id=user["id"])]
    kept += [row["detail"] for row in reader.all("SELECT detail FROM audit")]
    assert kept
    assert secret not in "".join(kept)
