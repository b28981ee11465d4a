"""Nothing under /scim/v2 answers without a live token of a configured source, whatever the path or method."""

from __future__ import annotations

import ipaddress
import uuid
from pathlib import Path

import pytest
from support.endpoint import PREFIX, Client, Served, add_token, request, serving

from idsync.store import tokens
from idsync.web.auth import ScimSource

ROUTES = [
    ("GET", "/Users"),
    ("GET", "/Users/x"),
    ("POST", "/Users"),
    ("PUT", "/Users/x"),
    ("PATCH", "/Users/x"),
    ("DELETE", "/Users/x"),
    ("GET", "/Groups"),
    ("POST", "/Groups/.search"),
    ("POST", "/Bulk"),
    ("GET", "/Me"),
    ("GET", "/ServiceProviderConfig"),
    ("GET", "/Schemas"),
    ("GET", "/ResourceTypes/User"),
    ("GET", "/"),
    ("GET", ""),
    ("GET", "/nothing/here"),
    ("OPTIONS", "/Users"),
    ("TRACE", "/Users"),
    ("GET", "/%55sers"),
    ("GET", "//Users"),
    ("GET", "/Users/..%2f..%2fUsers"),
    ("GET", "/Users/x%0d%0aX-Injected:%20yes"),
]
REFUSED: dict[str, str | None] = {
    "no header": None,
    "empty header": "",
    "no token": "Bearer ",
    "wrong token": "Bearer not-the-token",
    "another scheme": "Basic c2VjcmV0OnNlY3JldA==",
    "no scheme": "secret-of-okta",
    "not ASCII": "Bearer sécret-of-okta",
    "10 KB": "Bearer " + "a" * 10_240,
    "with a tail": "Bearer secret-of-okta x",
}


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_live_token(okta: Client, method: str, path: str, why: str) -> None:
    got = okta.send(method, path, headers={"Authorization": REFUSED[why]})
    assert got.is_scim_error(401)
    assert got.headers["www-authenticate"] == 'Bearer realm="scim"'
    assert got.json["detail"] == "A valid bearer token is needed."


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_doubled_header_is_refused(okta: Client, method: str, path: str) -> None:
    doubled = okta.head(method, path, f"Authorization: Bearer {okta.token}", "Connection: close")
    assert okta.raw(doubled).startswith(b"HTTP/1.1 401 ")


def test_the_refusal_does_not_wait_for_the_body(okta: Client) -> None:
    head = request("POST", f"{PREFIX}/Users", "Connection: close", "Content-Length: 1000")
    assert okta.raw(head).startswith(b"HTTP/1.1 401 ")


def test_the_scheme_has_no_letter_case(okta: Client) -> None:
    assert okta.send("GET", "/Users", headers={"Authorization": f"bEARER {okta.token}"}).status == 200


def test_an_operator_token_is_none_here(served: Served, okta: Client) -> None:
    add_token(served.store, "okta", "the-operator", kind="operator")
    served.app.tokens.reload()
    assert okta.send("GET", "/Users", headers={"Authorization": "Bearer the-operator"}).status == 401


def test_a_token_of_no_configured_source_is_refused(served: Served, okta: Client) -> None:
    add_token(served.store, "retired", "of-a-retired-source")
    served.app.tokens.reload()
    assert okta.send("GET", "/Users", headers={"Authorization": "Bearer of-a-retired-source"}).status == 401


def test_two_tokens_of_a_source_live_until_one_is_revoked(served: Served, okta: Client) -> None:
    secret = uuid.uuid4().hex
    add_token(served.store, "okta", secret)
    served.app.tokens.reload()
    fresh = Client(served.port, secret)
    assert (fresh.get("/Users").status, okta.get("/Users").status) == (200, 200)
    assert served.store.write(lambda db: tokens.revoke_token(db, f"token-{secret}", 1.0))
    served.app.tokens.reload()
    assert (fresh.get("/Users").status, okta.get("/Users").status) == (401, 200)


def test_a_source_answers_only_to_its_networks(tmp_path: Path) -> None:
    near = ScimSource("near", allow_from=(ipaddress.ip_network("127.0.0.0/8"),))
    far = ScimSource("far", allow_from=(ipaddress.ip_network("203.0.113.0/24"),))
    with serving(tmp_path, near, far) as running:
        assert running.clients["near"].get("/Users").status == 200
        assert running.clients["far"].get("/Users").is_scim_error(401)
