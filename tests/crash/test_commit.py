"""A 2xx means: it is on disk. What could not be committed is never acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from idsync.errors import StoreError
from idsync.store import facts
from idsync.store.db import Db
from idsync.store.sqlite import SqliteStore

pytestmark = pytest.mark.needs_file("what its commit does")


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(f"sqlite:///{tmp_path / 'idsync.db'}")


def spoil(db: Db) -> str:
    """Write what only the commit refuses: a member of a group that is not there."""
    db.execute("PRAGMA defer_foreign_keys = ON")
    db.execute("INSERT INTO memberships (group_id, member_id, member_type, since) VALUES ('none', 'x', 'User', 0)")
    return "acknowledged"


def test_nobody_hears_of_success_before_the_commit(store: SqliteStore) -> None:
    """Neither who spoiled the commit nor who shared it."""
    store.open()
    called: list[str] = []

    def harmless(db: Db) -> None:
        facts.put(db, "kept", "no", 0.0)
        db.after_commit(lambda: called.append("told"))

    try:
        with pytest.raises(StoreError):
            store.write(spoil)
        shared, spoilt = store.submit(harmless), store.submit(spoil)
        refused = shared.exception()
        assert isinstance(spoilt.exception(), StoreError)
        assert (facts.get(store.reader(), "kept") is None) == (refused is not None)
        assert bool(called) == (refused is None)
        store.write(lambda db: facts.put(db, "after", "yes", 0.0))
        assert facts.get(store.reader(), "after") == "yes"
    finally:
        store.close()


def test_every_commit_waits_for_the_disk(store: SqliteStore) -> None:
    store.open()
    try:
        level = store.write(lambda db: db.one("PRAGMA synchronous"))
        assert level is not None
        assert level["synchronous"] == 2
    finally:
        store.close()
