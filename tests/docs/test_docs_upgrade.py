"""docs/operations.md, Upgrading: a store of 0.1.0 goes on where it was, and nothing is left to do."""

from __future__ import annotations

import importlib.resources
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from support.endpoint import GROUP, USER, Client, serving

from idsync.web.auth import ScimSource

COMPOSED, APART = "jos\u00e9@example.com", "jose\u0301@example.com"
"""One name as it is typed on two systems. 0.1.0 took them for two."""
MIGRATED = """
CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT, PRIMARY KEY (migration_set, name));
INSERT INTO _sqlite_migrations VALUES ('idsync', '0001_initial', '2026-11-23');
INSERT INTO persons (id, label, generation, ever_had_access, created_at) VALUES ('p1', 'a', 1, 0, 0), ('p2', 'b', 1, 0, 0);
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """The endpoint over a store that 0.1.0 wrote: both users, and two groups of one of them."""
    script = importlib.resources.files("idsync.store") / "migrations" / "0001_initial.sql"
    connection = sqlite3.connect(tmp_path / "idsync.db")
    connection.executescript(script.read_text("utf-8") + MIGRATED)
    for number, name in enumerate((COMPOSED, APART), 1):
        connection.execute(
            "INSERT INTO users (id, source, user_name, user_name_key, active, doc, person_id, observation, observed_at,"
            " created_at, updated_at, version) VALUES (?, 'okta', ?, ?, 1, ?, ?, 'present', 1, 1, 1, 1)",
            (f"u{number}", name, name, json.dumps({"schemas": [USER], "userName": name}), f"p{number}"),
        )
    for one, name in (("g1", "Cafe\u0301"), ("g2", "Caf\u00e9"), ("g3", "Dome\u0301")):
        doc = json.dumps({"schemas": [GROUP], "displayName": name})
        connection.execute(
            "INSERT INTO groups (id, source, display_name, display_key, doc, created_at, updated_at, version)"
            " VALUES (?, 'okta', ?, ?, ?, 1, 1, 1)",
            (one, name, name.lower(), doc),
        )
        connection.execute("INSERT INTO memberships VALUES (?, 'u1', 'User', 1)", (one,))
    connection.commit()
    connection.close()
    with serving(tmp_path, ScimSource("okta")) as served:
        yield served.clients["okta"]


@pytest.mark.parametrize("user", ["u1", "u2"])
def test_who_shares_a_name_can_leave(client: Client, user: str) -> None:
    got = client.patch(f"/Users/{user}", {"op": "replace", "path": "active", "value": False})
    assert got.status == 200, got.raw
    assert client.send("DELETE", f"/Users/{user}").status == 204


@pytest.mark.parametrize("group", ["g1", "g2"])
def test_members_come_and_go_in_groups_that_share_a_name(client: Client, group: str) -> None:
    gone = client.patch(f"/Groups/{group}", {"op": "remove", "path": 'members[value eq "u1"]'})
    assert gone.status == 200, gone.raw
    assert client.patch(f"/Groups/{group}", {"op": "add", "path": "externalId", "value": "x"}).status == 200
    assert client.members(group) == set()


@pytest.mark.parametrize("name", ["DOM\u00c9", "dome\u0301"])
def test_a_group_is_found_by_its_name_however_it_is_typed(client: Client, name: str) -> None:
    found = client.get("/Groups?filter=" + quote(f'displayName eq "{name}"')).json
    assert [one["id"] for one in found["Resources"]] == ["g3"]
