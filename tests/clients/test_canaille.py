"""Canaille, as it was recorded: discovery and a lookup before every change, and a password hash in every user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.endpoint import GROUP, USER, Client, Got, serving

from idsync.web.auth import ScimSource

HASH = "$pbkdf2-sha512$25000$c2FsdC1vZi1qYW5l$a-hash-that-is-nobodys-business"
JANE = {
    "schemas": [USER],
    "externalId": "jane",
    "userName": "jane",
    "password": HASH,
    "displayName": "Jane Doe",
    "name": {"formatted": "Jane Doe", "familyName": "Doe", "givenName": "Jane"},
    "emails": [{"value": "jane@example.com", "primary": True}],
    "preferredLanguage": "fr-FR",
    "active": True,
}
HEADERS = {"Accept": "*/*", "Content-Type": "application/json", "User-Agent": "python-httpx/0.28"}


def change(client: Client, method: str, path: str, known: str, body: Any = None) -> Got:
    """Do what Canaille does for one change; a discovery that fails would lose the event for good."""
    for document in ("/ResourceTypes", "/Schemas", "/ServiceProviderConfig"):
        assert client.send("GET", document, headers=HEADERS).status == 200
    kind = path.split("/")[1]
    found = client.send("GET", f'/{kind}?filter=externalId+eq+"{known}"'.replace('"', "%22"), headers=HEADERS)
    assert found.json["totalResults"] == (0 if method == "POST" else 1)
    return client.send(method, path, body, HEADERS)


def test_a_whole_life(tmp_path: Path) -> None:
    with serving(tmp_path, ScimSource("canaille")) as running:
        client = running.clients["canaille"]
        made = change(client, "POST", "/Users", "jane", JANE)
        assert made.status == 201
        jane = made.json["id"]
        staff = {"schemas": [GROUP], "externalId": "staff", "displayName": "staff"}
        members = [{"value": jane, "type": "User", "display": "Jane Doe"}]
        group = change(client, "POST", "/Groups", "staff", {**staff, "members": members}).json["id"]
        assert client.members(group) == {jane}
        locked = change(client, "PUT", f"/Users/{jane}", "jane", {**JANE, "id": jane, "active": False})
        assert (locked.status, locked.json["active"]) == (200, False)
        whole = {**staff, "id": group, "members": members}
        assert change(client, "PUT", f"/Groups/{group}", "staff", whole).status == 200
        assert client.members(group) == {jane}
        assert change(client, "DELETE", f"/Users/{jane}", "jane").status == 204
        assert client.members(group) == set()  # no request about the group comes


@pytest.mark.needs_file("reads every byte of it")
def test_a_password_hash_reaches_neither_disk_nor_log(tmp_path: Path) -> None:
    """Send it where it belongs, where it is refused, and under names nobody knows; read the files and the log."""
    with capture_logs() as written, serving(tmp_path, ScimSource("canaille")) as running:
        client = running.clients["canaille"]
        jane = client.send("POST", "/Users", {**JANE, "passwordHash": HASH}, HEADERS).json
        path = f"/Users/{jane['id']}"
        in_capitals = {name.upper() if name == "password" else name: value for name, value in JANE.items()}
        bulk = {"method": "PUT", "path": path, "data": in_capitals}
        answers = [
            client.send("POST", "/Users", JANE, HEADERS),
            client.send("PUT", path, {**JANE, "id": jane["id"], "title": "x"}, HEADERS),
            client.send("PUT", path, {**JANE, "active": HASH}, HEADERS),
            client.send("PUT", path, {**JANE, "emails": HASH}, HEADERS),
            client.patch(path, {"op": "replace", "path": f"{USER}:password", "value": HASH}),
            client.patch(path, {"op": "replace", "value": {"password": HASH, "title": "y"}}),
            client.patch(path, {"op": "replace", "path": "password.hash", "value": HASH}),
            client.patch(path, {"op": "replace", "path": "active", "value": HASH}),
            client.send("POST", "/Bulk", {"Operations": [bulk]}, HEADERS),
            client.get(path),
            client.get(f"/Users?filter=password+eq+%22{HASH.replace('$', '%24')}%22"),
        ]
        on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [got.status for got in answers] == [409, 200, 400, 400, 200, 200, 400, 400, 200, 200, 400]
    secret = HASH.rpartition("$")[2].encode()
    assert b"jane@example.com" in on_disk
    assert secret not in on_disk + b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [one for one in written if one["event"] == "scim_unknown_attributes"]
    assert secret not in str(written).encode() + b"".join(got.raw for got in answers)
