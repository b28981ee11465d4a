"""An installation that moves: every row of every table, whole or not at all, and nobody at work meanwhile."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.dying import POINTS
from support.processes import started, usual_environment
from support.stores import SERVER, database, empty_database

from idsync.audit import Checkpoint, first_break
from idsync.errors import StoreBusy, StoreError, UsageError
from idsync.store import facts, journal
from idsync.store.copying import LOCAL, PAGE, Copy, Step, names
from idsync.store.db import Db, Store
from idsync.store.moving import move, source_of, target_of
from idsync.store.opening import read_only, store_of
from idsync.store.sqlite import GUARDS, SqliteStore

HERE = {
    "sqlite": "",
    "postgresql": "" if SERVER else "no PostgreSQL: IDSYNC_TEST_POSTGRES is not set (tools/with_postgres.py sets it)",
}
WAYS = [
    pytest.param(
        way, id="-".join(way), marks=pytest.mark.skipif(bool(reason := HERE[way[0]] or HERE[way[1]]), reason=reason)
    )
    for way in (("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite"))
]
FIRST = Step("checking", "users", 2, 2)
TEXT = "a \u00fc\U0001f511 %s :x \\ ' \t"
VALUES: dict[str, tuple[Any, Any]] = {
    "TEXT": (f"{TEXT}1", f"{TEXT}2"),
    "INTEGER": (2**62, -7),
    "DOUBLE PRECISION": (0.1 + 0.2, 1.7976931348623157e308),
    "REAL": (1763936700.123456, -5e-324),
}
"""By the type of a column: what two rows of every table hold."""


def write_entries(db: Db) -> None:
    for number in range(1, 8):
        journal.append(db, at=number + 0.1, actor="ada", action="frozen", subject=TEXT, detail={"n": number})


def fill(file: Path) -> None:
    """Put two rows into every table, pages of them into one, and a trail whose beginning was pruned."""
    store = SqliteStore(f"sqlite:///{file}")
    store.open()
    store.write(write_entries)
    fourth = next(event for event in journal.events(store.reader()) if event.seq == 4)
    store.write(lambda db: journal.put_checkpoint(db, Checkpoint(4, fourth.hash, 4, "5" * 64, 9.0), "ada"))
    assert store.write(lambda db: journal.take_exported(db, 9)) == 4
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        for name in set(names()) - {"audit", "audit_checkpoints", "audit_unlinked"}:
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            places = ", ".join("?" for _ in columns)
            for row in (0, 1):
                values = [None if row and not (has[3] or has[5]) else VALUES[has[2]][row] for has in columns]
                connection.execute(f"INSERT INTO {name} VALUES ({places})", values)  # noqa: S608 - our own tables
        many = [(f"{number % 7}", f"{number}@example.com") for number in range(2 * PAGE + 7)]
        connection.executemany("INSERT INTO user_emails VALUES (?, ?)", many)
        connection.commit()


def do(db: Db, sql: str) -> None:
    db.execute(sql)


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, without what a move itself writes."""
    with read_only(url) as db:
        read = {name: db.all(f"SELECT * FROM {name}") for name in names()}  # noqa: S608 - our own tables
        found = {name: [tuple(dict(row).values()) for row in rows] for name, rows in read.items()}
    found["audit"] = [row for row in found["audit"] if not row[3].startswith("store.")]
    found["facts"] = [row for row in found["facts"] if row[0] != facts.FROZEN]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def trail(url: str) -> list[str]:
    """Return the actions of the trail, whose chain has to be whole."""
    with read_only(url) as db:
        events = list(journal.events(db))
        assert first_break(events, *journal.start(db)) is None
        assert journal.unlinked(db) == 0
    return [event.action for event in events]


def place(tmp_path: Path, kind: str, name: str) -> str:
    """Return where a store may be made that is not there yet."""
    file = tmp_path / name
    return f"sqlite:///{file}" if kind == "sqlite" else database(file)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("filled") / "filled.db"
    fill(file)
    return file


@pytest.fixture
def filled(tmp_path: Path, template: Path) -> str:
    return f"sqlite:///{shutil.copy(template, tmp_path / 'filled.db')}"


@pytest.fixture
def source(tmp_path: Path, filled: str, request: pytest.FixtureRequest) -> str:
    """Return a filled store of the kind that the test's way begins with."""
    kind = request.node.callspec.params["way"][0]
    if kind == "sqlite":
        return filled
    url = database(tmp_path / "source")
    move(filled, url, at=1.0, by="ada")
    return url


def test_every_table_of_a_store_moves(filled: str) -> None:
    with read_only(filled) as db:
        rows = db.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'")
    assert {row["name"] for row in rows} == set(names()) | LOCAL


@pytest.mark.parametrize("way", WAYS)
def test_a_store_moves_with_every_value_and_its_trail_goes_on(
    tmp_path: Path, filled: str, source: str, way: tuple[str, str]
) -> None:
    target = place(tmp_path, way[1], "target.db")
    before = trail(source)
    done = move(source, target, at=1763936700.25, by="ada")
    assert contents(target) == contents(filled)
    assert done.broken is None
    assert trail(target) == [*before, "store.copied"]
    assert trail(source) == [*before, "store.moved"]
    with read_only(source) as old, read_only(target) as new:
        assert facts.get(old, facts.FROZEN)["by"] == "ada"
        assert facts.get(new, facts.FROZEN) is None
        entry = journal.last(new, 1)[0]
        assert (entry.actor, entry.seq) == ("cli/ada", done.audit_entries + 1)
        assert (entry.detail["audit_head"], entry.detail["rows"]) == (entry.prev, done.rows)
    store = store_of(target)
    store.open()
    try:
        for forbidden in ("UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "DELETE FROM audit_checkpoints"):
            with pytest.raises(Exception, match="only grows"):
                store.write(partial(do, sql=forbidden))
    finally:
        store.close()


@pytest.mark.parametrize(
    ("way", "point"),
    [
        pytest.param(*way.values, point, id=f"{way.id} {point}", marks=way.marks)
        for way, points in zip(WAYS, ((POINTS[1], POINTS[4]), POINTS, (POINTS[3],)), strict=True)
        for point in points
    ],
)
def test_a_copy_that_was_killed_leaves_nothing_that_a_daemon_opens_and_is_run_again(
    tmp_path: Path, filled: str, source: str, way: tuple[str, str], point: str
) -> None:
    target = place(tmp_path, way[1], "target.db")
    dying = started(source, target, point, folder=tmp_path, environ=usual_environment(), module="support.dying")
    assert dying.wait() == -signal.SIGKILL
    store = store_of(target)
    with pytest.raises(StoreError, match=r"`idsync db copy` .* was cut off"):
        store.open()
    move(source, target, at=2.0, by="ada")
    assert contents(target) == contents(filled)
    assert trail(target)[-1] == "store.copied"
    with read_only(target) as db:
        assert facts.get(db, facts.FROZEN) is None
    store.open()
    store.close()


@pytest.fixture
def opened() -> Iterator[list[Store]]:
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_a_process_uses_is_not_copied(
    tmp_path: Path, source: str, way: tuple[str, str], opened: list[Store]
) -> None:
    opened.append(store_of(source))
    opened[0].open()
    target = place(tmp_path, way[1], "target.db")
    with pytest.raises(StoreBusy, match=r"stop (it )?first"):
        move(source, target, at=1.0, by="ada")
    opened.pop().close()
    move(source, target, at=1.0, by="ada")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_copied_over_a_store(tmp_path: Path, source: str, way: tuple[str, str]) -> None:
    target = place(tmp_path, way[1], "target.db")
    move(source, target, at=1.0, by="ada")
    kept = contents(target), trail(target)
    with pytest.raises(StoreError, match=r"exists|has a store in it already"):
        move(source, target, at=1.0, by="ada")
    assert (contents(target), trail(target)) == kept
    with pytest.raises(UsageError, match="the same store"):
        move(source, source, at=1.0, by="ada")


@pytest.mark.skipif(not SERVER, reason=HERE["postgresql"] or "-")
def test_while_it_is_copied_nobody_else_opens_or_writes_either_database(tmp_path: Path, filled: str) -> None:
    between, last = empty_database(tmp_path / "between"), database(tmp_path / "last")  # without tables, and with
    seen = []

    def look(at: str) -> None:
        for url in (between, last) if at == "second" else (between,):
            with pytest.raises(StoreBusy, match="is at work on this database"):
                store_of(url).open()
            seen.append(url)

    move(filled, between, at=1.0, by="ada", tell=lambda step: look("first") if step.table == "persons" else None)
    move(between, last, at=1.0, by="ada", tell=lambda step: look("second") if step.table == "persons" else None)
    assert len(seen) == 6
    assert contents(last) == contents(filled)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_that_is_not_equal_is_none(tmp_path: Path, source: str, way: tuple[str, str]) -> None:
    """Somebody changes the copy under our hands: no file is there, no row is in the database."""
    target = place(tmp_path, way[1], "target.db")

    def altered() -> None:
        with source_of(source, None) as have, target_of(target, None) as made:
            copy = Copy(have, made, ("a", "b"), lambda step: change(made.db) if step == FIRST else None)
            copy.run(at=1.0, by="ada")

    def change(db: Db) -> None:
        db.execute("UPDATE tokens SET scope = 'approve'")

    with pytest.raises(StoreError, match="the copy of tokens is not equal"):
        altered()
    with read_only(source) as db:
        assert facts.get(db, facts.FROZEN) is None
    move(source, target, at=1.0, by="ada")


@pytest.mark.skipif(not SERVER, reason=HERE["postgresql"] or "-")
def test_who_only_reads_a_database_changes_nothing_of_it_nor_of_the_session(tmp_path: Path) -> None:
    """Behind a pooler in transaction mode somebody else's transaction comes next on the same session."""
    with read_only(database(tmp_path / "read")) as db:
        for attempt in (db.execute, db.one, db.all):
            with pytest.raises(StoreError, match="reads only"):
                attempt("DELETE FROM facts")
        assert db.one("SELECT current_setting('default_transaction_read_only') AS value") == {"value": "off"}


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1]])
def test_a_trail_that_was_tampered_with_moves_as_it_is(tmp_path: Path, filled: str, way: tuple[str, str]) -> None:
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as connection:
        for guard in GUARDS:
            connection.execute(f"DROP TRIGGER {guard}")
        connection.execute("UPDATE audit SET actor = 'eve' WHERE seq = 6")
        connection.commit()
    done = move(filled, place(tmp_path, way[1], "target.db"), at=1.0, by="ada")
    assert done.broken == 6
