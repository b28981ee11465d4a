"""The audit trail on disk: whatever somebody does to the file, the chain shows it."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from idsync.audit import GENESIS, detail_text, first_break
from idsync.store import journal
from idsync.store.db import Db
from idsync.store.sqlite import SqliteDb, SqliteStore

ENTRIES = 30


@pytest.fixture
def trail(store: SqliteStore, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A whole trail in a store nobody holds, open for somebody with an editor."""

    def fill(db: Db) -> None:
        for number in range(ENTRIES):
            detail: dict[str, Any] = {"id": f"u-{number}", "changed": ["active"], "n": number, "ümlaut": None}
            journal.append(
                db,
                at=1_800_000_000.0 + number / 3,
                actor="okta/token-1",
                action="user.changed",
                subject=f"user{number}@example.com",
                detail=detail,
            )

    store.write(fill)
    store.close()
    connection = sqlite3.connect(tmp_path / "idsync.db", isolation_level=None)
    yield connection
    connection.close()


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


def other_letter(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice([c for c in "abcxyz0189" if c != text[at]]) + text[at + 1 :]


def alter_text(connection: sqlite3.Connection, chance: random.Random) -> None:
    column = chance.choice(["actor", "action", "subject", "prev", "hash"])
    seq = chance.randint(1, ENTRIES)
    entries = Database(connection).table("audit")
    entries.update(seq, {column: other_letter(entries.get(seq)[column], chance)})


def alter_time(connection: sqlite3.Connection, chance: random.Random) -> None:
    by = chance.choice([-86400.0, -1.0, 0.001, 3600.0])
    connection.execute("UPDATE audit SET at = at + ? WHERE seq = ?", (by, chance.randint(1, ENTRIES)))


def alter_detail(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES)
    [(text,)] = connection.execute("SELECT detail FROM audit WHERE seq = ?", (seq,))
    detail = json.loads(text)
    change: dict[str, Any] = {"id": "u-x", "changed": [], "n": -1, "more": 1}
    key = chance.choice(list(change))
    detail[key] = change[key]
    connection.execute("UPDATE audit SET detail = ? WHERE seq = ?", (detail_text(detail), seq))


def remove(connection: sqlite3.Connection, chance: random.Random) -> None:
    first = chance.randint(1, ENTRIES - 1)
    connection.execute("DELETE FROM audit WHERE seq BETWEEN ? AND ?", (first, chance.randint(first, ENTRIES - 1)))


def remove_and_renumber(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES - 1)
    connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    for later in range(seq + 1, ENTRIES + 1):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (later - 1, later))


def swap(connection: sqlite3.Connection, chance: random.Random) -> None:
    one, other = chance.sample(range(1, ENTRIES + 1), 2)
    for before, after in ((one, -1), (other, one), (-1, other)):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (after, before))


def insert(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES + 1)
    for later in range(ENTRIES, seq - 1, -1):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (later + 1, later))
    there = [other for other in range(1, ENTRIES + 2) if other != seq]
    copy(connection, chance.choice(there), seq)


def copy(connection: sqlite3.Connection, seq: int, to: int) -> None:
    copied = "SELECT ?, at, actor, action, subject, detail, prev, hash FROM audit WHERE seq = ?"
    assert connection.execute(f"INSERT INTO audit {copied}", (to, seq)).rowcount == 1


TAMPERINGS: list[Callable[[sqlite3.Connection, random.Random], None]]
TAMPERINGS = [alter_text, alter_time, alter_detail, remove, remove_and_renumber, swap, insert]


def test_two_hundred_random_tamperings_are_all_found(trail: sqlite3.Connection) -> None:
    chance = random.Random(20260101)
    for number in range(200):
        tamper = TAMPERINGS[number % len(TAMPERINGS)]
        trail.execute("BEGIN")
        tamper(trail, chance)
        found = not is_whole(trail)
        trail.execute("ROLLBACK")
        assert found, f"{number}: {tamper.__name__}"
    assert is_whole(trail)


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
