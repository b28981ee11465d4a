"""The audit trail on disk: whatever somebody does to the file, the chain shows it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from idsync.audit import GENESIS, first_break
from idsync.store import journal
from idsync.store.db import Db, Store
from idsync.store.sqlite import GUARDS, SqliteDb

pytestmark = pytest.mark.needs_file("alters the trail in it")

ENTRIES = 30
COPY = "SELECT {}, at, actor, action, subject, detail, prev, hash FROM audit"


def fill(db: Db, count: int) -> None:
    for number in range(count):
        detail: dict[str, Any] = {"id": f"u-{number}", "changed": ["active"], "n": number, "ümlaut": None}
        journal.append(
            db,
            at=1_800_000_000.0 + number / 3,
            actor="okta/token-1",
            action="user.changed",
            subject=f"user{number}@example.com",
            detail=detail,
        )


@pytest.fixture
def trail(store: Store, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A whole trail in a store nobody holds, open for somebody with an editor."""

    store.write(lambda db: fill(db, ENTRIES))
    store.close()
    connection = sqlite3.connect(tmp_path / "idsync.db", isolation_level=None)
    unguard(connection)
    yield connection
    connection.close()


def unguard(connection: sqlite3.Connection) -> None:
    """Take away what refuses changes, as somebody would who means it."""
    for name in GUARDS:
        connection.execute(f"DROP TRIGGER {name}")


def is_whole(connection: sqlite3.Connection) -> bool:
    return first_break(journal.events(SqliteDb(connection))) is None


def test_an_untouched_trail_is_whole_and_starts_at_the_beginning(trail: sqlite3.Connection) -> None:
    db = SqliteDb(trail)
    events = list(journal.events(db, page=7))
    assert [event.seq for event in events] == list(range(1, ENTRIES + 1))
    assert first_break(events) is None
    assert events[0].prev == GENESIS
    assert journal.head(db) == (ENTRIES, events[-1].hash)
    assert [event.seq for event in journal.last(db, 3)] == [28, 29, 30]
    assert [event.seq for event in journal.events(db, after=28)] == [29, 30]


def copy(connection: sqlite3.Connection, seq: int, to: int) -> None:
    assert connection.execute(f"INSERT INTO audit {COPY.format(to)} WHERE seq = ?", (seq,)).rowcount == 1


@pytest.mark.parametrize("seq", [0, -5])
def test_an_entry_before_the_first_one_is_a_break(trail: sqlite3.Connection, seq: int) -> None:
    copy(trail, 3, seq)
    assert not is_whole(trail)


def test_a_detail_that_is_no_json_any_more_is_a_break(trail: sqlite3.Connection) -> None:
    trail.execute("UPDATE audit SET detail = substr(detail, 2) WHERE seq = 5")
    assert first_break(journal.events(SqliteDb(trail))) == 5


def test_a_detail_written_another_way_with_the_same_meaning_is_no_break(trail: sqlite3.Connection) -> None:
    trail.execute("UPDATE audit SET detail = replace(detail, ',', ' , ') WHERE seq = 5")
    assert is_whole(trail)


@pytest.mark.parametrize("column", ["actor", "action", "subject", "detail", "prev", "hash"])
def test_a_field_of_another_type_is_a_break_and_can_be_shown(trail: sqlite3.Connection, column: str) -> None:
    """SQLite keeps bytes in a column of texts."""
    Database(trail).table("audit").update(5, {column: b"bytes"})
    assert first_break(journal.events(SqliteDb(trail))) == 5
    json.dumps([asdict(event) for event in journal.last(SqliteDb(trail), ENTRIES)])


# -- what the store itself refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET subject = 'eve' WHERE seq = 3",
        "UPDATE audit SET seq = 99 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 30",
        "DELETE FROM audit",
        f"INSERT INTO audit {COPY.format(99)} WHERE seq = 3",
        f"INSERT INTO audit {COPY.format(0)} WHERE seq = 3",
        f"INSERT OR REPLACE INTO audit {COPY.format(4)} WHERE seq = 3",
        f"REPLACE INTO audit {COPY.format(30)} WHERE seq = 3",
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 30 ON CONFLICT (seq) DO UPDATE SET subject = 'eve'",
    ],
)
def test_whatever_would_rewrite_the_trail_is_refused(store: Store, tmp_path: Path, statement: str) -> None:
    """Through the store's own writer, and for somebody beside it; appending goes on."""
    store.write(lambda db: fill(db, ENTRIES))
    before = list(journal.events(store.reader()))
    with pytest.raises(sqlite3.IntegrityError, match="the audit trail only grows"):
        store.write(lambda db: db.execute(statement))
    other = sqlite3.connect(tmp_path / "idsync.db")
    with closing(other), pytest.raises(sqlite3.IntegrityError, match="the audit trail only grows"):
        other.execute(statement)
    assert list(journal.events(store.reader())) == before
    store.write(lambda db: fill(db, 1))
    assert first_break(journal.events(store.reader())) is None


def test_a_start_puts_back_what_was_taken_away_or_changed(store: Store, tmp_path: Path) -> None:
    store.write(lambda db: fill(db, ENTRIES))
    store.close()
    with closing(sqlite3.connect(tmp_path / "idsync.db")) as other:
        unguard(other)
        other.execute("CREATE TRIGGER audit_not_deleted AFTER DELETE ON audit BEGIN SELECT 1; END")
    store.open()
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        store.write(lambda db: db.execute("UPDATE audit SET actor = 'eve'"))
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        store.write(lambda db: db.execute("DELETE FROM audit"))
