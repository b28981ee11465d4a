"""A store of every schema there ever was goes on with this release."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.adding import not_adding

from idsync.store import directory
from idsync.store.sqlite import SqliteStore

pytestmark = pytest.mark.needs_file("schemas of earlier releases in it")

FOLDER = importlib.resources.files("idsync.store") / "migrations"
SCRIPTS = {
    entry.name.removesuffix(".sql"): entry.read_text("utf-8")
    for entry in sorted(FOLDER.iterdir(), key=lambda entry: entry.name)
    if entry.name.endswith(".sql")
}
FROZEN = {
    "0001_initial": "3d3ba477fae4c86fbe30f076f884687f5eb7dbadd5bf8da0a7380e590b5a0cff",
    "0002_counts": "70f02da14444f0c6032871a708cd526d26347b61cb4b4c755b5e16f6bdc5acea",
    "0003_names": "58a29f83c104433a0ff90db7f851d42fb8d7add2478745de2641c08431df7d52",
    "0004_proof": "6b710e71e2e0e182ea5adaa395d4a0da7648776c0c45b666ec6c3af480b0b76f",
    "0005_exposed": "084816fb797a4bdcbf039635d295984fb9857de26fafe0691f40e5d8ba8f292b",
    "0006_organizations": "4e1e62904a57efdfe5cddc213c9062225aa5469dbdd8e3fc0a03fdc25f323b60",
    "0007_polled": "cb68498b9511b7ce1a3bec171f1d85a86baf38bb09333f590c624fdbbbb4c201",
    "0008_names": "d8e7e16ccdbe329e97d7078b32180f7d508967b0517d6bc4e541b4314c3afeff",
    "0009_spend": "28b3d34566f9a30ef24b192e3c70ee330f4f41740a80df7cc92c9336533c121e",
    "0010_roles": "c782a3c880491fc27a3a54b9d1bac0debda3ac1ccfca26638828981239ff2574",
    "0011_keys": "c642d47d957196498515797c11573fe0f12fd67fadcb84e985ba2563bac97c97",
    "0012_page": "eb86edfa43b510e1c114895dc8eba07593fa8d7f5666c94de28d992519231171",
    "0013_notices": "5035dfea4d9bbda223bd84544628dd6f78115bbfb6988787fb2732c77730d4e9",
    "0014_retention": "a103f15e4b78abfe9cd5bba7425bad62799186898f53d14a128859792e5d2e4d",
    "0015_replicas": "dc4dc8c4eee43f090b819c5390c2bc73bb628908e5d418240de275c43723d4e9",
    "0016_rolling": "f89b7f262bbac246d05b831acb5e131b23cf8b6814d6caa8cb9bffbf92c5326c",
}
"""SHA-256 of what stores have run already. A change of the schema is a new file, never another text in an old one."""
RECORD = "CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT, PRIMARY KEY (migration_set, name))"


def test_what_stores_have_run_never_changes() -> None:
    now = {name: hashlib.sha256(SCRIPTS[name].encode()).hexdigest() for name in FROZEN}
    assert now == FROZEN


ROLLING = "0015_replicas"
"""Since then several processes may share a store, and those of two releases do while one replaces the other."""


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name > ROLLING and not name.endswith(".post")])
def test_a_migration_adds_or_waits_until_the_older_release_is_gone(name: str) -> None:
    assert not_adding(SCRIPTS[name]) == [], "what takes away goes into NNNN_name.post.sql, of a later release"


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE users",
        "ALTER TABLE users DROP COLUMN doc",
        "ALTER TABLE users RENAME COLUMN doc TO body",
        "ALTER TABLE users RENAME TO people",
        "ALTER TABLE users ALTER COLUMN active TYPE TEXT",
        "ALTER TABLE users ADD COLUMN more TEXT NOT NULL",
        "ALTER TABLE users ADD COLUMN more TEXT UNIQUE",
        "ALTER TABLE users ADD COLUMN more TEXT REFERENCES persons (id)",
        "CREATE UNIQUE INDEX users_once ON users (doc)",
        "UPDATE users SET doc = '{}'",
        "ALTER TABLE users ADD COLUMN more TEXT; UPDATE users SET more = doc, doc = NULL WHERE active = 1",
        "INSERT INTO facts (name) VALUES ('x')",
        "DELETE FROM users",
    ],
)
def test_what_old_code_would_notice_is_no_adding(text: str) -> None:
    assert len(not_adding(text)) == 1


def test_what_only_adds_is_seen_as_such() -> None:
    adds = """
    CREATE TABLE more (id TEXT PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0); -- DROP TABLE users
    CREATE UNIQUE INDEX more_once ON more (n) WHERE n > 0;
    CREATE INDEX users_more ON users (doc);
    ALTER TABLE users ADD COLUMN more TEXT;
    ALTER TABLE users ADD COLUMN many INTEGER NOT NULL DEFAULT 0;
    INSERT INTO more (id) SELECT id FROM users;
    UPDATE users SET more = doc, many = 1 WHERE active = 1;
    """
    assert not_adding(adds) == []


def schema(path: Path) -> set[tuple[str, str, str]]:
    """Return every table, index and trigger, however it was laid out."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    plain = {(kind, name, re.sub(r"--[^\n]*|\s+", " ", sql)) for kind, name, sql in rows}
    return {(kind, name, re.sub(r" +", " ", sql)) for kind, name, sql in plain if name != "_sqlite_migrations"}


@pytest.mark.parametrize("last", SCRIPTS)
def test_a_store_of_any_schema_is_brought_up_to_date(tmp_path: Path, last: str) -> None:
    path, fresh = tmp_path / "old.db", tmp_path / "new.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(RECORD)
        for name in [name for name in SCRIPTS if name <= last]:
            connection.executescript(SCRIPTS[name])
            connection.execute("INSERT INTO _sqlite_migrations VALUES ('idsync', ?, '2026-11-23')", (name,))
        connection.execute(
            "INSERT INTO persons (id, label, generation, ever_had_access, created_at) VALUES ('p', 'ann', 1, 1, 0)"
        )
        connection.execute(
            "INSERT INTO users (id, source, user_name, user_name_key, active, doc, person_id, observation, observed_at,"
            " created_at, updated_at, version) VALUES ('u', 'okta', 'ann', 'ann', 1, '{}', 'p', 'present', 1, 1, 1, 1)"
        )
        connection.commit()
    for file in (path, fresh):
        store = SqliteStore(f"sqlite:///{file}")
        store.open()
        try:
            if file == path:
                assert [user.id for user in directory.find_users_any(store.reader(), "ann")] == ["u"]
                assert store.reader().all("PRAGMA foreign_key_check") == []
        finally:
            store.close()
    assert schema(path) == schema(fresh)
